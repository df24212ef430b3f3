"""Snapshots of disks in guests that run, by QEMU itself: of all of a guest's disks at one moment, or none.

QEMU makes them in qcow2 files and, by its librbd, in images of Ceph. libvirt has no call for it: its internal snapshots
keep the guest's memory, too, for which the guest stands still. So QEMU is asked through libvirt's monitor, with what
changes nothing that libvirt knows of. A transaction of QEMU stops the requests of a disk before its snapshot, and lets
none go on before its end: what is kept of several disks is what they held at one moment, as far as a guest can tell.

Source: https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html, blockdev-snapshot-internal-sync.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import libvirt
import libvirt_qemu
from lxml import etree

from agent.errors import DomainStateConflict, StorageExhausted, StorageFailed, VolumeInUse, tells_out_of_space
from agent.hypervisor.connection import Connection
from agent.hypervisor.disk import find_devices
from agent.hypervisor.guest import find_owned

# The tables of volumes of many TiB are gone through.
_TIMEOUT_SECONDS: Final = 300.0


@dataclass(frozen=True)
class LiveDisk:
    """A file or an image that a guest has open."""

    domain_uuid: str
    # As its QEMU calls it.
    node_name: str


class LiveSnapshots:
    """Snapshots that running guests take of their own disks."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def is_active(self, domain_uuid: str) -> bool:
        """Whether the guest runs, or is paused. Raises DomainNotFound, DomainForeign."""
        return await self._connection.call(lambda handle: bool(find_owned(handle, domain_uuid).isActive()))

    async def find_disks(self, domain_uuid: str) -> dict[Path, LiveDisk]:
        """An active guest's disks, by what libvirt calls their files or images.

        Raises DomainStateConflict when it has ended.
        """

        def run(handle: libvirt.virConnect) -> dict[Path, LiveDisk]:
            return _find_disks(find_owned(handle, domain_uuid))

        return await self._connection.call(run)

    async def find_user(self, path: Path) -> LiveDisk | None:
        """Who of this node's guests has the file open; None when nobody has. Raises VolumeInUse when it is not ours."""

        def run(handle: libvirt.virConnect) -> LiveDisk | None:
            for domain in handle.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                if names_file(domain, path):
                    return _find_disk(handle, domain, path)
            return None

        return await self._connection.call(run)

    async def take(self, domain_uuid: str, names: Mapping[str, str]) -> None:
        """The disks, by their node names, have snapshots of these names; all of them, or none.

        Raises DomainStateConflict when the guest has ended, StorageExhausted, StorageFailed.
        """
        actions = [
            {"type": "blockdev-snapshot-internal-sync", "data": {"device": node, "name": name}}
            for node, name in names.items()
        ]
        await self._ask(domain_uuid, "transaction", {"actions": actions})

    async def remove(self, disk: LiveDisk, name: str) -> None:
        """The disk does not have the snapshot, which it had. Raises the same."""
        arguments = {"device": disk.node_name, "name": name}
        await self._ask(disk.domain_uuid, "blockdev-snapshot-delete-internal-sync", arguments)

    async def _ask(self, domain_uuid: str, command: str, arguments: dict[str, Any]) -> None:
        def run(handle: libvirt.virConnect) -> None:
            _execute(find_owned(handle, domain_uuid), command, arguments)

        await self._connection.call(run, timeout_seconds=_TIMEOUT_SECONDS)


def _find_disk(handle: libvirt.virConnect, domain: libvirt.virDomain, path: Path) -> LiveDisk | None:
    try:
        disk = _find_disks(find_owned(handle, domain.UUIDString())).get(path)
    except DomainStateConflict:
        return None
    if disk is None:
        raise VolumeInUse(f"{path.name}: domain {domain.name()} has it otherwise than as a disk")
    return disk


def _find_disks(domain: libvirt.virDomain) -> dict[Path, LiveDisk]:
    uuid, nodes = domain.UUIDString(), _find_nodes(domain)
    disks = ((disk.find("alias"), path) for disk in find_devices(domain) if (path := _path_of(disk)))
    named = ((nodes.get(alias.get("name", "")), path) for alias, path in disks if alias is not None)
    return {path: LiveDisk(uuid, node) for node, path in named if node}


def _find_nodes(domain: libvirt.virDomain) -> dict[str, str]:
    """What QEMU calls the top of each disk, by libvirt's aliases, which are among the parts of a device's path."""
    found = _execute(domain, "query-block")
    return {
        part: str(disk["inserted"]["node-name"])
        for disk in found
        if disk.get("inserted")
        for part in str(disk.get("qdev", "")).split("/")
    }


def _path_of(device: etree._Element) -> Path | None:
    source = device.find("source") if device.tag == "disk" else None
    if source is None:
        return None
    name = source.get("file") or source.get("dev") or source.get("name")
    return Path(name) if name else None


def names_file(domain: libvirt.virDomain, path: Path) -> bool:
    """Whether the file, device or image is one of the domain's disks; blocks."""
    return any(_path_of(device) == path for device in find_devices(domain))


def _execute(domain: libvirt.virDomain, command: str, arguments: dict[str, Any] | None = None) -> Any:
    request = {"execute": command, **({"arguments": arguments} if arguments else {})}
    try:
        answer = json.loads(libvirt_qemu.qemuMonitorCommand(domain, json.dumps(request), 0))
    except libvirt.libvirtError as error:
        if not domain.isActive():
            raise DomainStateConflict(f"domain {domain.name()} has ended meanwhile") from error
        raise
    if (failure := answer.get("error")) is None:
        return answer.get("return")
    reason = str(failure.get("desc", failure))
    raise (StorageExhausted if tells_out_of_space(reason) else StorageFailed)(f"QEMU, {command}: {reason}")
