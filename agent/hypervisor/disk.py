"""Which running domains have a file open, as libvirt sees it."""

from __future__ import annotations

from pathlib import Path

import libvirt
from lxml import etree

from agent.hypervisor.connection import Connection


async def find_disk_users(connection: Connection, path: Path) -> list[str]:
    """Names of the running domains that use this file, as a disk or under one. Raises HypervisorUnavailable."""

    def run(handle: libvirt.virConnect) -> list[str]:
        domains = handle.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        return [domain.name() for domain in domains if str(path) in _files(domain)]

    return await connection.call(run)


def _files(domain: libvirt.virDomain) -> set[str]:
    try:
        description = etree.fromstring(domain.XMLDesc(0))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return set()  # it has ended meanwhile
        raise
    # The sources of a disk and of its whole backing chain.
    return {source.get("file") or "" for source in description.iterfind("devices/disk//source")}
