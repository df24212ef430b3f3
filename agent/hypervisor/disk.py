"""Which domains have a file or a block device, as libvirt sees it."""

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


async def find_written_files(connection: Connection) -> dict[Path, str]:
    """Names of the running domains by the file of each disk that they may write to. Raises HypervisorUnavailable.

    Those that are paused are not among them.
    """

    def run(handle: libvirt.virConnect) -> dict[Path, str]:
        return {
            Path(file): domain.name()
            for domain in handle.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING)
            for file in _written_files(domain)
        }

    return await connection.call(run)


async def find_block_users(connection: Connection) -> dict[str, str]:
    """Names of the domains that have a block device of the node, by its kernel name: whoever made them, running or not.

    Raises HypervisorUnavailable.
    """

    def run(handle: libvirt.virConnect) -> dict[str, str]:
        return {
            Path(device).resolve().name: domain.name()
            for domain in handle.listAllDomains()
            for device in _block_devices(domain)
        }

    return await connection.call(run)


def _block_devices(domain: libvirt.virDomain) -> set[str]:
    return {source.get("dev") or "" for source in _disk_sources(domain)} - {""}


def _files(domain: libvirt.virDomain) -> set[str]:
    return {source.get("file") or "" for source in _disk_sources(domain)}


def _written_files(domain: libvirt.virDomain) -> set[str]:
    disks = (disk for disk in _disks(domain) if disk.find("readonly") is None)
    return {source.get("file") or "" for disk in disks for source in disk.iterfind("source")} - {""}


def _disk_sources(domain: libvirt.virDomain) -> list[etree._Element]:
    """The sources of each disk and of its whole backing chain."""
    return [source for disk in _disks(domain) for source in disk.iterfind(".//source")]


def _disks(domain: libvirt.virDomain) -> list[etree._Element]:
    try:
        description = etree.fromstring(domain.XMLDesc(0))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return []  # it has ended meanwhile
        raise
    return description.findall("devices/disk")
