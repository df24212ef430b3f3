"""Which domains have a file, as libvirt sees it."""

from __future__ import annotations

from pathlib import Path

import libvirt
from lxml import etree

from agent.hypervisor.connection import Connection


async def find_disk_users(connection: Connection, path: Path, besides_uuid: str = "") -> list[str]:
    """Names of the running domains that use this file, as a disk or otherwise. Raises HypervisorUnavailable."""

    def run(handle: libvirt.virConnect) -> list[str]:
        domains = handle.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        others = (domain for domain in domains if domain.UUIDString() != besides_uuid)
        return [domain.name() for domain in others if str(path) in _files(domain)]

    return await connection.call(run)


async def find_file_holders(connection: Connection, path: Path) -> list[str]:
    """Names of all domains that have this file now, or will from their next start on. Raises HypervisorUnavailable."""

    def run(handle: libvirt.virConnect) -> list[str]:
        return [
            domain.name()
            for domain in handle.listAllDomains()
            if any(str(path) in _files(domain, flags) for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE))
        ]

    return await connection.call(run)


async def find_encrypted_volumes(connection: Connection) -> set[str]:
    """UUIDs of all that any domain has now, or will from its next start on. Raises HypervisorUnavailable."""

    def run(handle: libvirt.virConnect) -> set[str]:
        documents = (0, libvirt.VIR_DOMAIN_XML_INACTIVE)
        devices = (find_devices(domain, flags) for domain in handle.listAllDomains() for flags in documents)
        secrets = (secret for some in devices for it in some for secret in it.iterfind("source/encryption/secret"))
        return {secret.get("uuid", "") for secret in secrets}

    return await connection.call(run)


async def find_written_files(connection: Connection) -> dict[Path, list[str]]:
    """Names of the running domains by the file of each disk that they may write to. Raises HypervisorUnavailable.

    Those that are paused are not among them. Of a shared disk there may be several.
    """

    def run(handle: libvirt.virConnect) -> dict[Path, list[str]]:
        names: dict[Path, list[str]] = {}
        for domain in handle.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING):
            for file in _written_files(domain):
                names.setdefault(Path(file), []).append(domain.name())
        return names

    return await connection.call(run)


def _files(domain: libvirt.virDomain, flags: int = 0) -> set[str]:
    sources = (source for device in find_devices(domain, flags) for source in device.iterfind(".//source"))
    return {source.get("file") or source.get("dev") or source.get("name") or "" for source in sources}


def _written_files(domain: libvirt.virDomain) -> set[str]:
    disks = (device for device in find_devices(domain) if device.tag == "disk" and device.find("readonly") is None)
    sources = (source for disk in disks for source in disk.iterfind("source"))
    return {source.get("file") or source.get("dev") or "" for source in sources} - {""}


def find_devices(domain: libvirt.virDomain, flags: int = 0) -> list[etree._Element]:
    """All devices of a domain, as it runs or would start; none when it has ended meanwhile."""
    try:
        description = etree.fromstring(domain.XMLDesc(flags))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return []
        raise
    return description.findall("devices/*")
