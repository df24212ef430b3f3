"""Memory of guests that hibernate, in libvirt's files: read where it is, and put in its place where it has come to.

A domain is started from the file that has its name, whoever has put it there; libvirt notices that at its own start and
at a domain's, so until then the agent looks for itself. The definition in the file is the guest's, and so is what it
sees; paths, addresses, pins and metadata in it become those that the domain has here.
Source: https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainSaveImageDefineXML.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import libvirt

from agent.configure.host_profile import HostProfile
from agent.domainxml.transfer import adapt_domain, find_uuid
from agent.durable_file import publish, remove_file
from agent.errors import DomainNotFound, DomainStateConflict, StorageFailed, VolumeCorrupt
from agent.hypervisor.connection import Connection
from agent.hypervisor.description import PowerState, name_saved_memory, read_power_state
from agent.hypervisor.events import CHANGED, DomainEvents
from agent.hypervisor.guest import find_owned
from agent.hypervisor.migration import read_cpu
from agent.hypervisor.snapshot import names_file

_INSTALL_SECONDS: Final = 60.0
_DEFINITION: Final = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE


@dataclass(frozen=True)
class SavedGuest:
    """A guest that hibernates."""

    path: Path
    # What it runs on; empty: it does not matter.
    cpu_xml: str


class SavedMemory:
    """The files of one node."""

    def __init__(self, connection: Connection, events: DomainEvents, directory: Path) -> None:
        """`directory` is where libvirt keeps what it saves."""
        self.connection = connection
        self.directory = directory
        self._events = events

    async def find_holder(self, path: Path) -> str:
        """The name of the guest that hibernates with this file as a disk; empty when none does."""

        def run(handle: libvirt.virConnect) -> str:
            for domain in handle.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_INACTIVE):
                if read_power_state(domain, self.directory) is PowerState.HIBERNATED and names_file(domain, path):
                    return str(domain.name())
            return ""

        return await self.connection.call(run)

    async def find(self, uuid: str) -> Path | None:
        """The file; None when the guest does not hibernate, or is not here. Raises DomainForeign."""

        def run(handle: libvirt.virConnect) -> Path | None:
            try:
                domain = find_owned(handle, uuid)
            except DomainNotFound:
                return None
            is_saved = read_power_state(domain, self.directory) is PowerState.HIBERNATED
            return name_saved_memory(self.directory, domain) if is_saved else None

        return await self.connection.call(run)

    async def inspect(self, uuid: str, host: HostProfile) -> SavedGuest:
        """Raises DomainNotFound, DomainForeign, DomainStateConflict when it does not hibernate."""

        def run(handle: libvirt.virConnect) -> SavedGuest:
            domain = find_owned(handle, uuid)
            state = read_power_state(domain, self.directory)
            if state is not PowerState.HIBERNATED:
                raise DomainStateConflict(f"domain {domain.name()} does not hibernate: it is {state.value}")
            path = name_saved_memory(self.directory, domain)
            return SavedGuest(path, read_cpu(handle, handle.saveImageGetXMLDesc(str(path), 0), host))

        return await self.connection.call(run)

    async def install(self, uuid: str, file: Path) -> Path:
        """The domain, which is defined and off, goes on from this file when it is next started; where that is now.

        Raises DomainNotFound, DomainForeign, DomainStateConflict, VolumeCorrupt (another guest's), StorageFailed.
        """
        return await self.connection.call(
            lambda handle: self._install(handle, uuid, file), timeout_seconds=_INSTALL_SECONDS
        )

    def _install(self, handle: libvirt.virConnect, uuid: str, file: Path) -> Path:
        domain = find_owned(handle, uuid)
        if domain.isActive():
            raise DomainStateConflict(f"domain {domain.name()} runs here")
        saved = handle.saveImageGetXMLDesc(str(file), libvirt.VIR_DOMAIN_SAVE_IMAGE_XML_SECURE)
        if find_uuid(saved) != uuid:
            raise VolumeCorrupt(f"the memory that has come is not that of domain {uuid}")
        handle.saveImageDefineXML(str(file), adapt_domain(saved, domain.XMLDesc(_DEFINITION)), 0)
        path = name_saved_memory(self.directory, domain)
        publish(file, path)
        try:
            domain.managedSaveGetXMLDesc(0)
        except libvirt.libvirtError as error:
            remove_file(path)
            raise StorageFailed(
                f"libvirt does not look for memory in {self.directory}: set saved_memory_dir"
            ) from error
        self._events.announce(domain, CHANGED)
        return path
