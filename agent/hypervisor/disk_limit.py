"""Limits of disks, in definitions and in guests that run."""

from __future__ import annotations

from collections.abc import Callable

import libvirt
import structlog

from agent.configure.disk_limit import DiskLimit
from agent.hypervisor.connection import Connection
from agent.hypervisor.description import read_ownership
from agent.hypervisor.hostdev_edit import read_definition
from agent.hypervisor.unplug import read_live

_TIMEOUT_SECONDS = 120.0
# The limit of the disk with this `Disk.key`; None: it is none of our business.
FindLimit = Callable[[str], DiskLimit | None]

log = structlog.get_logger(__name__)


async def apply_disk_limits(connection: Connection, find_limit: FindLimit, uuid: str = "") -> int:
    """All disks of our guests, or of that one, have their limits, at once and for the next start; how many had others.

    A guest that refuses is told in the log, and keeps nobody else waiting. Raises HypervisorUnavailable.
    """

    def run(handle: libvirt.virConnect) -> int:
        domains = (domain for domain in handle.listAllDomains() if not uuid or domain.UUIDString() == uuid)
        return sum(_set_guest(domain, find_limit) for domain in domains)

    return await connection.call(run, timeout_seconds=_TIMEOUT_SECONDS)


def _set_guest(domain: libvirt.virDomain, find_limit: FindLimit) -> int:
    try:
        return _set_scope(domain, libvirt.VIR_DOMAIN_AFFECT_CONFIG, find_limit) + _set_scope(
            domain, libvirt.VIR_DOMAIN_AFFECT_LIVE, find_limit
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
            log.warning("disk_limit.refused", domain=domain.name(), reason=str(error))
        return 0


def _set_scope(domain: libvirt.virDomain, scope: int, find_limit: FindLimit) -> int:
    is_live = scope == libvirt.VIR_DOMAIN_AFFECT_LIVE
    if not (domain.isActive() if is_live else domain.isPersistent()) or read_ownership(domain, scope) is None:
        return 0
    document = read_live(domain) if is_live else read_definition(domain)
    changed = 0
    for disk in document.disks if document else ():
        wanted = find_limit(disk.key)
        if wanted is not None and disk.io_tune != wanted.to_element():
            domain.setBlockIoTune(disk.target.dev, wanted.to_parameters(), scope)
            changed += 1
    return changed
