"""Domains: define, start, stop, remove. Whatever changes one refuses a domain that Nodewright did not create."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import libvirt

from agent.domainxml.domain import Domain
from agent.domainxml.element import format_document, parse_document
from agent.domainxml.summary import DomainSummary
from agent.errors import DomainForeign, DomainGenerationStale, DomainNotFound, DomainStateConflict
from agent.hypervisor.connection import Connection
from agent.hypervisor.description import (
    GuestDescription,
    PowerState,
    describe,
    read_ownership,
    read_power_state,
)
from agent.hypervisor.events import CHANGED, DomainEvents

# Starting waits for QEMU, for the TPM emulator and for the network's helpers.
_START_TIMEOUT_SECONDS = 120.0
# libvirt gives QEMU 15 s to end by itself, and 15 s after a kill.
_DESTROY_TIMEOUT_SECONDS = 60.0

_UNDEFINE_EVERYTHING = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    | libvirt.VIR_DOMAIN_UNDEFINE_TPM
)


class Guests:
    """The domains of one node, by UUID. What is done to one is told as a change of it, whatever came of that."""

    def __init__(
        self,
        connection: Connection,
        events: DomainEvents,
        *,
        check_start: Callable[[str], None] = lambda _: None,
        saved_memory: Path | None = None,
    ) -> None:
        """`check_start` raises when a guest must not be started; it is called in a worker thread, right before.

        `saved_memory` is where libvirt keeps the memory of guests that hibernate.
        """
        self._connection = connection
        self._events = events
        self._check_start = check_start
        self._saved_memory = saved_memory

    async def get(self, uuid: str) -> GuestDescription:
        """The domain as it is now. Raises DomainNotFound."""
        return await self._connection.call(lambda handle: self._describe(_find(handle, uuid)))

    async def find(self, uuid: str) -> GuestDescription | None:
        """Like `get`, None when there is no such domain."""
        try:
            return await self.get(uuid)
        except DomainNotFound:
            return None

    async def list(self) -> Sequence[GuestDescription]:
        """All domains, foreign ones included."""
        return await self._connection.call(self._describe_all, timeout_seconds=120.0)

    async def define(self, domain: Domain, *, generation: int) -> GuestDescription:
        """The domain has this definition, from its next start on when it runs; the screen's password counts at once.

        A domain that somebody renamed has its name back, or keeps the other while it cannot be renamed.
        Raises DomainForeign, DomainGenerationStale, DomainDefinitionInvalid.
        """
        uuid, name = domain.uuid or "", domain.name or ""

        def run(handle: libvirt.virConnect) -> GuestDescription:
            known = _find_definable(handle, uuid, generation)
            named = domain if known is None else replace(domain, name=self._restore_name(known, name))
            defined = handle.defineXMLFlags(format_document(named), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
            _apply_screen_password(defined, named)
            return self._describe(defined)

        return await self._connection.call(run)

    async def start(self, uuid: str) -> GuestDescription:
        """The domain runs: started when it was off, or goes on with its memory when it was hibernated or paused.

        Raises DomainFenced, LeaseExpired.
        """

        def start(domain: libvirt.virDomain) -> None:
            self._check_start(uuid)
            _start(domain)

        return await self._change(uuid, start, timeout_seconds=_START_TIMEOUT_SECONDS)

    async def suspend(self, uuid: str) -> GuestDescription:
        """The vCPUs are paused. Raises DomainStateConflict when the domain does not run."""
        return await self._change(uuid, _suspend)

    async def resume(self, uuid: str) -> GuestDescription:
        """The vCPUs run. Raises DomainStateConflict when the domain is off."""
        return await self._change(uuid, _resume)

    async def destroy(self, uuid: str) -> GuestDescription:
        """The domain is off, at once and without asking the guest; the memory of one that hibernates is given up."""
        return await self._change(uuid, self._destroy, timeout_seconds=_DESTROY_TIMEOUT_SECONDS)

    async def press_power_button(self, uuid: str) -> None:
        """Asks the guest by ACPI to shut down; returns at once."""
        await self._connection.call(lambda handle: _press_power_button(find_owned(handle, uuid)))

    async def check_owned(self, uuid: str) -> None:
        """Raises DomainNotFound or DomainForeign unless the domain is ours."""
        await self._connection.call(lambda handle: find_owned(handle, uuid))

    async def remove(self, uuid: str) -> None:
        """No domain, managed save, NVRAM nor TPM state is left. Ends a running guest. Absence is success."""

        def run(handle: libvirt.virConnect) -> None:
            try:
                domain = find_owned(handle, uuid)
            except DomainNotFound:
                return
            with self._announcing(domain):
                self._destroy(domain)
                # A transient domain is gone with its process.
                if domain.isPersistent():
                    _undefine(domain)

        await self._connection.call(run, timeout_seconds=_DESTROY_TIMEOUT_SECONDS)

    async def _change(
        self, uuid: str, change: Callable[[libvirt.virDomain], None], *, timeout_seconds: float = 30.0
    ) -> GuestDescription:
        def run(handle: libvirt.virConnect) -> GuestDescription:
            domain = find_owned(handle, uuid)
            with self._announcing(domain):
                change(domain)
            return self._describe(domain)

        return await self._connection.call(run, timeout_seconds=timeout_seconds)

    def _describe(self, domain: libvirt.virDomain) -> GuestDescription:
        return describe(domain, self._saved_memory)

    def _read_power_state(self, domain: libvirt.virDomain) -> PowerState:
        return read_power_state(domain, self._saved_memory)

    def _describe_all(self, handle: libvirt.virConnect) -> Sequence[GuestDescription]:
        descriptions = []
        for domain in handle.listAllDomains():
            try:
                descriptions.append(self._describe(domain))
            except libvirt.libvirtError as error:
                # Undefined since it was listed.
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
        return descriptions

    def _restore_name(self, domain: libvirt.virDomain, name: str) -> str:
        """Answers the name that the domain has in the end: libvirt refuses a definition under another."""
        present: str = domain.name()
        if present != name and self._read_power_state(domain) is not PowerState.HIBERNATED:
            # libvirt renames neither a domain that runs nor one with a managed save.
            with contextlib.suppress(libvirt.libvirtError):
                domain.rename(name)
                return name
        return present

    def _destroy(self, domain: libvirt.virDomain) -> None:
        if not domain.isActive():
            if self._read_power_state(domain) is PowerState.HIBERNATED:
                domain.managedSaveRemove()
            return
        try:
            domain.destroy()
        except libvirt.libvirtError:
            # The guest may have ended by itself in between.
            if domain.isActive():
                raise

    @contextlib.contextmanager
    def _announcing(self, domain: libvirt.virDomain) -> Iterator[None]:
        """libvirt tells the steps of a start, but not that it failed in the end, nor what a late call came to."""
        try:
            yield
        finally:
            self._events.announce(domain, CHANGED)


def _find(handle: libvirt.virConnect, uuid: str) -> libvirt.virDomain:
    try:
        return handle.lookupByUUIDString(uuid)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            raise DomainNotFound(f"no domain has the UUID {uuid}") from error
        raise


def find_owned(handle: libvirt.virConnect, uuid: str) -> libvirt.virDomain:
    """The domain, which is ours; call it in a worker thread. Raises DomainNotFound, DomainForeign."""
    domain = _find(handle, uuid)
    if read_ownership(domain) is None:
        raise DomainForeign(f"domain {domain.name()} ({uuid}) was not created by Nodewright")
    return domain


def _find_definable(handle: libvirt.virConnect, uuid: str, generation: int) -> libvirt.virDomain | None:
    try:
        domain = find_owned(handle, uuid)
    except DomainNotFound:
        return None
    ownership = read_ownership(domain)
    if ownership is not None and ownership.generation > generation:
        raise DomainGenerationStale(f"domain {uuid} has generation {ownership.generation}, not {generation}")
    return domain


def _apply_screen_password(domain: libvirt.virDomain, wanted: Domain) -> None:
    """Whoever connects to a running guest's screen is asked for the new password; who is in stays in."""
    if not domain.isActive():
        return
    live = parse_document(DomainSummary, domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE))
    passwords = {server.type: server.password or "" for server in wanted.devices.graphics}
    for server in live.devices.graphics:
        password = passwords.get(server.type)
        if password is not None and password != (server.password or ""):
            changed = format_document(replace(server, password=password))
            domain.updateDeviceFlags(changed, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def _start(domain: libvirt.virDomain) -> None:
    match read_power_state(domain):
        case PowerState.RUNNING:
            return
        case PowerState.PAUSED:
            domain.resume()
        case PowerState.SUSPENDED:
            domain.pMWakeup()
        case PowerState.SHUTOFF | PowerState.CRASHED | PowerState.HIBERNATED:
            domain.create()
        case state:
            raise DomainStateConflict(f"domain {domain.name()} is {state.value}, so it cannot be started")


def _suspend(domain: libvirt.virDomain) -> None:
    match read_power_state(domain):
        case PowerState.PAUSED:
            return
        case PowerState.RUNNING:
            domain.suspend()
        case state:
            raise DomainStateConflict(f"domain {domain.name()} is {state.value}, so it cannot be paused")


def _resume(domain: libvirt.virDomain) -> None:
    match read_power_state(domain):
        case PowerState.RUNNING:
            return
        case PowerState.PAUSED:
            domain.resume()
        case state:
            raise DomainStateConflict(f"domain {domain.name()} is {state.value}, so it cannot be resumed")


def _press_power_button(domain: libvirt.virDomain) -> None:
    try:
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
    except libvirt.libvirtError as error:
        # libvirt's test driver knows one way to shut down, and refuses the flag that names it.
        if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG:
            raise
        domain.shutdown()


def _undefine(domain: libvirt.virDomain) -> None:
    try:
        domain.undefineFlags(_UNDEFINE_EVERYTHING)
    except libvirt.libvirtError as error:
        # Drivers that know neither NVRAM nor TPMs, like libvirt's test driver, refuse the flags.
        if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG:
            raise
        domain.undefine()
