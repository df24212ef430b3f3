"""vCPUs and memory for guests that run.

libvirt plugs them in; whether the guest uses them its guest agent tells, and is asked to where its system does not by
itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import libvirt
import structlog

from agent.domainxml.element import format_document, parse_document
from agent.domainxml.memory import MemoryModule, ModuleTarget
from agent.domainxml.summary import DomainSummary
from agent.errors import AgentError, DomainGrowthUnsupported, DomainStateConflict
from agent.hypervisor.affinity import Affinities
from agent.hypervisor.connection import Connection
from agent.hypervisor.description import GuestDescription, PowerState, read_power_state
from agent.hypervisor.events import CHANGED, DomainEvents
from agent.hypervisor.guest import Guests, find_owned
from agent.hypervisor.guest_agent import GuestAgents

_LIVE: Final = libvirt.VIR_DOMAIN_AFFECT_LIVE
_PLUG_SECONDS: Final = 120.0
_ASK_SECONDS: Final = 10.0
# Under emulation, or on a busy node, a system takes its time to notice.
_NOTICE_SECONDS: Final = 60.0
_LOOK_AGAIN_SECONDS: Final = 1.0
_KIB: Final = 1024
_MIB: Final = 1024**2
# Linux on x86 takes memory in blocks of this size; of a guest as large as the second they may be as large as the third.
_BLOCK_BYTES: Final = 128 * _MIB
_LARGE_GUEST_BYTES: Final = 64 * 1024 * _MIB
_LARGE_BLOCK_BYTES: Final = 2 * 1024 * _MIB


log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Size:
    """vCPUs and memory of a guest."""

    vcpus: int
    memory_bytes: int


@dataclass(frozen=True)
class _Room:
    """What a guest that runs has, and could have at most; the latter is 0 where nothing can be added."""

    present: Size
    most: Size


class Growths:
    """Makes guests larger that run. Everything may be repeated, and goes on where it was."""

    def __init__(
        self,
        connection: Connection,
        guests: Guests,
        guest_agents: GuestAgents,
        affinities: Affinities,
        events: DomainEvents,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._guests = guests
        self._guest_agents = guest_agents
        self._affinities = affinities
        self._events = events
        self._monotonic = monotonic

    async def ensure_grown(self, uuid: str, size: Size) -> GuestDescription:
        """The running guest has, and uses, at least as many vCPUs and as much memory.

        Raises DomainNotFound, DomainForeign, DomainStateConflict when it does not run, DomainGrowthUnsupported when it
        has no room, or does not take it: vCPUs are taken back then, as far as the guest lets go of them, and what else
        was plugged in by then is gone when it is next started.
        """
        room = await self._connection.call(lambda handle: _read_room(find_owned(handle, uuid)))
        _check_room(room, size)
        try:
            # Who is not there to say that it has come gets nothing.
            await self._read_vcpus(uuid)
            await self._connection.call(lambda handle: self._plug(handle, uuid, size), timeout_seconds=_PLUG_SECONDS)
            await self._affinities.settle(anew=True)
            await self._await_use(uuid, size)
        except AgentError as error:
            await self._take_back(uuid, room.present.vcpus)
            if error.code.startswith("GuestAgent"):
                raise DomainGrowthUnsupported(f"the guest agent does not tell: {error.message}") from error
            raise
        return await self._guests.get(uuid)

    def _plug(self, handle: libvirt.virConnect, uuid: str, size: Size) -> None:
        domain = find_owned(handle, uuid)
        present = _read_room(domain).present
        if size.vcpus > present.vcpus:
            domain.setVcpusFlags(size.vcpus, _LIVE)
        if size.memory_bytes > present.memory_bytes:
            target = ModuleTarget((size.memory_bytes - present.memory_bytes) // _KIB, node=0)
            domain.attachDeviceFlags(format_document(MemoryModule("dimm", target)), _LIVE)
        self._events.announce(domain, CHANGED)

    async def _take_back(self, uuid: str, vcpus: int) -> None:
        """The guest would go on with more of the node's time than it is entitled to."""

        def unplug(handle: libvirt.virConnect) -> None:
            domain = find_owned(handle, uuid)
            if _read_room(domain).present.vcpus > vcpus:
                domain.setVcpusFlags(vcpus, _LIVE)
                self._events.announce(domain, CHANGED)

        try:
            await self._connection.call(unplug, timeout_seconds=_PLUG_SECONDS)
        except AgentError as error:
            log.warning("guest.vcpus_kept", uuid=uuid, reason=error.message)

    async def _await_use(self, uuid: str, size: Size) -> None:
        ends_at = self._monotonic() + _NOTICE_SECONDS
        while not (await self._uses_vcpus(uuid, size.vcpus) and await self._uses_memory(uuid, size.memory_bytes)):
            if self._monotonic() >= ends_at:
                raise DomainGrowthUnsupported("the guest does not use what was plugged in")
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _uses_vcpus(self, uuid: str, wanted: int) -> bool:
        vcpus = await self._read_vcpus(uuid)
        asleep = [vcpu["logical-id"] for vcpu in vcpus if not vcpu["online"]]
        if asleep:
            changes = [{"logical-id": number, "online": True} for number in asleep]
            await self._execute(uuid, "guest-set-vcpus", {"vcpus": changes})
        return len(vcpus) - len(asleep) >= wanted

    async def _uses_memory(self, uuid: str, wanted_bytes: int) -> bool:
        """Whether all blocks are in use; a guest that cannot tell of blocks had nothing plugged in."""
        if wanted_bytes <= (await self._read_boot_memory(uuid)):
            return True
        block_bytes = int((await self._execute(uuid, "guest-get-memory-block-info"))["size"])
        blocks = await self._execute(uuid, "guest-get-memory-blocks")
        asleep = [block["phys-index"] for block in blocks if not block["online"]]
        if asleep:
            changes = [{"phys-index": number, "online": True} for number in asleep]
            await self._execute(uuid, "guest-set-memory-blocks", {"mem-blks": changes})
        return (len(blocks) - len(asleep)) * block_bytes >= wanted_bytes

    async def _read_boot_memory(self, uuid: str) -> int:
        """Bytes that the guest was started with."""

        def read(handle: libvirt.virConnect) -> int:
            summary = parse_document(DomainSummary, find_owned(handle, uuid).XMLDesc(0))
            total_kib = summary.memory.amount if summary.memory else 0
            return (total_kib - sum(module.target.size for module in summary.devices.memory_modules)) * _KIB

        return await self._connection.call(read)

    async def _read_vcpus(self, uuid: str) -> list[dict[str, Any]]:
        return list(await self._execute(uuid, "guest-get-vcpus"))

    async def _execute(self, uuid: str, name: str, arguments: dict[str, Any] | None = None) -> Any:
        return await self._guest_agents.execute(uuid, name, arguments, timeout_seconds=_ASK_SECONDS)


def _read_room(domain: libvirt.virDomain) -> _Room:
    if read_power_state(domain) is not PowerState.RUNNING:
        raise DomainStateConflict(f"domain {domain.name()} does not run")
    summary = parse_document(DomainSummary, domain.XMLDesc(0))
    most_vcpus = summary.vcpu.count if summary.vcpu else 0
    present_vcpus = (summary.vcpu and summary.vcpu.current) or most_vcpus
    present_kib = summary.memory.amount if summary.memory else 0
    most_kib = summary.max_memory.amount if summary.max_memory else present_kib
    return _Room(Size(present_vcpus, present_kib * _KIB), Size(most_vcpus, most_kib * _KIB))


def _check_room(room: _Room, size: Size) -> None:
    """Raises DomainGrowthUnsupported, before anything has changed."""
    present, most = room.present, room.most
    if size.vcpus < present.vcpus or size.memory_bytes < present.memory_bytes:
        raise DomainGrowthUnsupported("a guest that runs does not give anything up")
    if size.vcpus > most.vcpus:
        raise DomainGrowthUnsupported(f"vcpus: {most.vcpus} at most while it runs, not {size.vcpus}")
    if size.memory_bytes > most.memory_bytes:
        raise DomainGrowthUnsupported(
            f"memory_bytes: {most.memory_bytes} at most while it runs, not {size.memory_bytes}"
        )
    block_bytes = _LARGE_BLOCK_BYTES if size.memory_bytes >= _LARGE_GUEST_BYTES else _BLOCK_BYTES
    if (size.memory_bytes - present.memory_bytes) % block_bytes:
        raise DomainGrowthUnsupported(f"memory_bytes: grows by multiples of {block_bytes} while it runs")
