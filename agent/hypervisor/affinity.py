"""Keeps guests without pins off the CPUs of guests with pins.

Whose a CPU is stands in the definitions and nowhere else: in the metadata of the persistent one, and of the live one of
a guest that runs on with an older. Whenever the pins of the node have changed, all affinities are compared with what
they should be, and what differs is set, first for the next start, then live: a guest that starts in between has one or
the other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final

import libvirt
import structlog
from lxml import etree

from agent.configure.affinity import plan_affinity
from agent.configure.host_cpu import HostCell, HostCpus
from agent.cpu_list import parse_cpu_list
from agent.domainxml.metadata import Ownership
from agent.errors import AgentError, CpusExhausted
from agent.hypervisor.connection import Connection
from agent.hypervisor.description import read_ownership

_TIMEOUT_SECONDS: Final = 120.0
_CONFIG: Final = libvirt.VIR_DOMAIN_AFFECT_CONFIG
_LIVE: Final = libvirt.VIR_DOMAIN_AFFECT_LIVE

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class OwnedGuest:
    """A guest of ours and its cells: of the next start, and of the moment when it runs."""

    uuid: str
    name: str
    config: Ownership | None
    live: Ownership | None

    @property
    def pins(self) -> frozenset[int]:
        """All CPUs that nobody else may run on."""
        return frozenset().union(*(ownership.pins for ownership in (self.config, self.live) if ownership))


@dataclass(frozen=True)
class Occupancy:
    """The CPUs of the node, and which guests have some for themselves."""

    cells: tuple[HostCell, ...]
    guests: tuple[OwnedGuest, ...]

    @property
    def pins(self) -> frozenset[tuple[str, int]]:
        """Each pinned CPU with the UUID of its guest."""
        return frozenset((guest.uuid, cpu) for guest in self.guests for cpu in guest.pins)

    def seen_by(self, uuid: str) -> HostCpus:
        """The CPUs as this guest has to see them."""
        others = (guest for guest in self.guests if guest.uuid != uuid)
        return HostCpus(self.cells, {cpu: guest.name for guest in others for cpu in guest.pins})

    def check_room(self, uuid: str, name: str, pins: frozenset[int]) -> None:
        """Raises CpusExhausted when a guest that runs would have no CPU left once this one has these for itself."""
        for guest in self.guests if pins else ():
            if guest.live is None or guest.live.pins or guest.uuid == uuid:
                continue
            seen = self.seen_by(guest.uuid)
            afterwards = HostCpus(seen.cells, {**seen.taken, **dict.fromkeys(pins, name)})
            try:
                plan_affinity(guest.live.cells, 1, afterwards)
            except CpusExhausted:
                message = f"spec.cells.pinned_cpu_ids: no CPU would be left for {guest.name}, which runs"
                raise CpusExhausted(message) from None


class Affinities:
    """The affinities of all guests. One change of pins at a time: what is checked stays true until it is defined."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()
        # The pins that all affinities agree with, None: not known yet.
        self._settled: object = None
        self._stranded: frozenset[str] = frozenset()

    @contextlib.asynccontextmanager
    async def defining(self, uuid: str, name: str, pins: frozenset[int]) -> AsyncIterator[HostCpus]:
        """Around the definition of a guest with these pins: before, it sees the CPUs; afterwards the others make room.

        Raises CpusExhausted.
        """
        async with self._lock:
            occupancy = await self._connection.call(_read_occupancy, timeout_seconds=_TIMEOUT_SECONDS)
            occupancy.check_room(uuid, name, pins)
            yield occupancy.seen_by(uuid)
            self._stranded -= {uuid}
            before = frozenset(cpu for owner, cpu in occupancy.pins if owner == uuid)
            if before != pins or self._settled is None:
                await self._settle()

    @contextlib.asynccontextmanager
    async def undisturbed(self) -> AsyncIterator[None]:
        """Around the change of a definition that is read before: meanwhile no affinity in it changes."""
        async with self._lock:
            yield

    async def look(self, uuid: str) -> HostCpus:
        """The CPUs as this guest would have to see them now."""
        return (await self._connection.call(_read_occupancy, timeout_seconds=_TIMEOUT_SECONDS)).seen_by(uuid)

    async def settle(self, *, anew: bool = False) -> None:
        """All guests run where they should, after pins have come or gone; `anew`: look also when none have."""
        async with self._lock:
            if anew:
                self._settled = None
            await self._settle()

    async def check_startable(self, uuid: str) -> None:
        """Raises CpusExhausted when the guest, which is off, would run on CPUs of others."""
        if self._settled is None:
            with contextlib.suppress(AgentError):  # of some other guest, of which it is no reason to keep this one off
                await self.settle()
        if uuid in self._stranded:
            raise CpusExhausted("every CPU that the guest may float on is pinned by another guest")

    async def _settle(self) -> None:
        occupancy = await self._connection.call(_read_occupancy, timeout_seconds=_TIMEOUT_SECONDS)
        state = (occupancy.cells, occupancy.pins)
        if state == self._settled:
            return
        self._settled = None
        self._stranded = await self._connection.call(
            lambda handle: _set_affinities(handle, occupancy), timeout_seconds=_TIMEOUT_SECONDS
        )
        self._settled = state


def _read_occupancy(handle: libvirt.virConnect) -> Occupancy:
    guests = (_read_guest(domain) for domain in handle.listAllDomains())
    owned = tuple(guest for guest in guests if guest.config or guest.live)
    return Occupancy(parse_host_cells(handle.getCapabilities()) or _single_cell(handle), owned)


def parse_host_cells(capabilities: str) -> tuple[HostCell, ...]:
    """The NUMA cells with their cores; libvirt tells no siblings of a CPU that is offline.

    Source: https://libvirt.org/formatcaps.html, "topology".
    """
    cells = []
    for cell in etree.fromstring(capabilities).iterfind("host/topology/cells/cell"):
        siblings = {int(cpu.get("id", "-1")): cpu.get("siblings") for cpu in cell.iterfind("cpus/cpu")}
        online = {cpu for cpu, text in siblings.items() if text}
        cores = {frozenset(parse_cpu_list(text)) & online for text in siblings.values() if text}
        cells.append(HostCell(int(cell.get("id", "0")), tuple(sorted(cores, key=min))))
    return tuple(cells)


def _single_cell(handle: libvirt.virConnect) -> tuple[HostCell, ...]:
    """Where libvirt tells no topology."""
    _, online, _ = handle.getCPUMap()
    return (HostCell(0, tuple(frozenset((number,)) for number, present in enumerate(online) if present)),)


def _read_guest(domain: libvirt.virDomain) -> OwnedGuest:
    # Whether it runs is known from the list: asking again would be another call for each guest.
    live = _read_scope(domain, _LIVE) if domain.ID() >= 0 else None
    return OwnedGuest(domain.UUIDString(), domain.name(), _read_scope(domain, _CONFIG), live)


def _read_scope(domain: libvirt.virDomain, scope: int) -> Ownership | None:
    with _unless_gone():
        return read_ownership(domain, scope)
    return None


def _set_affinities(handle: libvirt.virConnect, occupancy: Occupancy) -> frozenset[str]:
    """Answers the guests that would have no CPU to float on at their next start; they keep what they had.

    A guest that cannot be moved holds up none of the others, and is a failure in the end.
    """
    stranded: set[str] = set()
    failures: list[libvirt.libvirtError] = []
    for guest in occupancy.guests:
        try:
            with _unless_gone():
                if not _set_guest(handle.lookupByUUIDString(guest.uuid), guest, occupancy.seen_by(guest.uuid)):
                    stranded.add(guest.uuid)
        except libvirt.libvirtError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return frozenset(stranded)


def _set_guest(domain: libvirt.virDomain, guest: OwnedGuest, seen: HostCpus) -> bool:
    """False when the guest has no CPU for its next start."""
    has_room = guest.config is None or _set_scope(domain, seen, _CONFIG)
    if domain.isActive():
        _set_scope(domain, seen, _LIVE)
    return has_room


def _set_scope(domain: libvirt.virDomain, seen: HostCpus, scope: int) -> bool:
    """False, and nothing changes, when the guest has no CPU to float on."""
    ownership = read_ownership(domain, scope)
    present = domain.vcpuPinInfo(scope)
    try:
        wanted = plan_affinity(ownership.cells if ownership else (), len(present), seen)
    except CpusExhausted as error:
        log.warning("affinity.exhausted", domain=domain.name(), reason=error.message)
        return False
    for number, (bitmap, cpus) in enumerate(zip(present, wanted.vcpus, strict=True)):
        if _cpus(bitmap) != cpus:
            _pin_vcpu(domain, number, _bitmap(cpus), scope)
    if _cpus(domain.emulatorPinInfo(scope)) != wanted.emulator:
        domain.pinEmulator(_bitmap(wanted.emulator), scope)
    for number, bitmap in _read_io_threads(domain, scope):
        if _cpus(bitmap) != wanted.emulator:
            domain.pinIOThread(number, _bitmap(wanted.emulator), scope)
    return True


def _read_io_threads(domain: libvirt.virDomain, scope: int) -> list[tuple[int, tuple[bool, ...]]]:
    try:
        return [(number, tuple(bitmap)) for number, bitmap in domain.ioThreadInfo(scope)]
    except libvirt.libvirtError as error:
        # libvirt's test driver of some versions knows none.
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return []
        raise


def _pin_vcpu(domain: libvirt.virDomain, number: int, bitmap: tuple[bool, ...], scope: int) -> None:
    try:
        domain.pinVcpuFlags(number, bitmap, scope)
    except libvirt.libvirtError as error:
        # libvirt's test driver refuses the flags: it pins guests that run, and no others.
        if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG:
            raise
        if scope == _LIVE:
            domain.pinVcpu(number, bitmap)


def _cpus(bitmap: tuple[bool, ...]) -> frozenset[int]:
    return frozenset(number for number, present in enumerate(bitmap) if present)


def _bitmap(cpus: frozenset[int]) -> tuple[bool, ...]:
    return tuple(number in cpus for number in range(max(cpus) + 1))


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    """A guest that has ended or is gone since it was listed needs nothing."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
            raise
