"""Guests without pins stay off the CPUs of guests with pins, and have them back afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import libvirt
import pytest
from structlog.testing import capture_logs

from agent import recovery
from agent.configure.host_cpu import HostCell
from agent.domainxml.metadata import Ownership, PlacedCell
from agent.errors import CpusExhausted, HypervisorFailed
from agent.hypervisor import affinity
from agent.hypervisor.affinity import Occupancy, OwnedGuest, parse_host_cells
from agent.hypervisor.events import DomainChange
from agent.recovery import AffinityRecovery
from protos.agent.v1.domain_pb2 import EnsureDefinedRequest, EnsureRemovedRequest, EnsureRunningRequest, GuestCell
from tests.unit.agent.domain_server import FOREIGN_UUID, DomainServer, failure, serve
from tests.unit.agent.guest_builder import GIB, GUEST_UUID, a_cell, a_spec, host_cpus

DEDICATED_UUID = "1d1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d11"
# The CPUs of a node of libvirt's test driver that are online.
ALL = {0, 2, 4}
CAPABILITIES = """
<capabilities><host><topology><cells num='2'>
  <cell id='0'><cpus num='3'>
    <cpu id='0' socket_id='0' core_id='0' siblings='0,4'/>
    <cpu id='1' socket_id='0' core_id='1' siblings='1,5'/>
    <cpu id='4' socket_id='0' core_id='0' siblings='0,4'/>
    <cpu id='5'/>
  </cpus></cell>
  <cell id='2'><cpus num='2'>
    <cpu id='2' socket_id='1' core_id='0' siblings='2-3'/>
    <cpu id='3' socket_id='1' core_id='0' siblings='2-3'/>
  </cpus></cell>
  <cell id='3'><cpus num='0'/></cell>
</cells></topology></host></capabilities>
"""


def test_the_cores_of_each_cell_are_those_that_libvirt_tells_without_what_is_offline() -> None:
    assert parse_host_cells(CAPABILITIES) == (
        HostCell(0, (frozenset((0, 4)), frozenset((1,)))),
        HostCell(2, (frozenset((2, 3)),)),
        HostCell(3, ()),
    )


class TestOccupancy:
    """Whose the CPUs are."""

    def test_the_pins_of_a_guest_that_runs_on_with_an_older_definition_are_still_its_own(self) -> None:
        occupancy = _occupancy(_guest("a", config=(1,), live=(2,)), _guest("b", config=(3,)))
        assert occupancy.seen_by("b").taken == {1: "name-a", 2: "name-a"}
        assert occupancy.seen_by("a").taken == {3: "name-b"}
        assert occupancy.seen_by("c").taken == {1: "name-a", 2: "name-a", 3: "name-b"}

    def test_the_last_cpu_of_a_guest_that_runs_is_not_given_away(self) -> None:
        floating = OwnedGuest("f", "name-f", Ownership(1), Ownership(1))
        occupancy = _occupancy(floating, _guest("a", config=tuple(range(8))))
        occupancy.check_room("d", "new", frozenset(range(8, 15)))
        with pytest.raises(CpusExhausted, match=r"pinned_cpu_ids.*name-f"):
            occupancy.check_room("d", "new", frozenset(range(8, 16)))

    def test_a_guest_that_floats_over_one_cell_needs_a_cpu_of_that_cell(self) -> None:
        placed = Ownership(1, cells=(PlacedCell(1, 2),))
        occupancy = _occupancy(OwnedGuest("f", "name-f", placed, placed))
        cell = frozenset((4, 5, 6, 7, 12, 13, 14, 15))
        occupancy.check_room("d", "new", cell - {4})
        with pytest.raises(CpusExhausted):
            occupancy.check_room("d", "new", cell)

    def test_guests_that_are_off_have_pins_or_are_the_one_asked_about_lose_nothing(self) -> None:
        every = frozenset(range(16))
        off = OwnedGuest("o", "name-o", Ownership(1), None)
        itself = OwnedGuest("d", "new", Ownership(1), Ownership(1))
        _occupancy(off, itself, _guest("a", config=(1,), live=(1,))).check_room("d", "new", every)


def _occupancy(*guests: OwnedGuest) -> Occupancy:
    return Occupancy(host_cpus().cells, guests)


def _guest(uuid: str, *, config: tuple[int, ...], live: tuple[int, ...] = ()) -> OwnedGuest:
    return OwnedGuest(uuid, f"name-{uuid}", _pinned(config), _pinned(live) if live else None)


def _pinned(pins: tuple[int, ...]) -> Ownership:
    return Ownership(1, cells=(PlacedCell(0, len(pins), pins),))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[DomainServer]:
    async with serve(tmp_path) as server:
        yield server


async def _run(server: DomainServer) -> None:
    """A guest that floats runs."""
    await server.domains.EnsureDefined(EnsureDefinedRequest(spec=a_spec()))
    await server.domains.EnsureRunning(EnsureRunningRequest(uuid=GUEST_UUID))


def _dedicated(*pins: int, **changes: Any) -> EnsureDefinedRequest:
    cells = [a_cell(0, *pins)]
    spec = a_spec(
        uuid=DEDICATED_UUID, name="ecs-dedicated", vcpus=len(pins), memory_bytes=GIB, cells=cells, nics=[], **changes
    )
    return EnsureDefinedRequest(spec=spec)


async def _floats_on(server: DomainServer, uuid: str = GUEST_UUID) -> list[set[int]]:
    """The CPUs of each vCPU that runs, then those of the rest of QEMU: of the moment and of the next start."""

    def read(handle: libvirt.virConnect) -> list[set[int]]:
        domain = handle.lookupByUUIDString(uuid)
        bitmaps = [*domain.vcpuPinInfo(libvirt.VIR_DOMAIN_AFFECT_LIVE)]
        bitmaps += [domain.emulatorPinInfo(scope) for scope in (1, 2)]
        return [{number for number, present in enumerate(bitmap) if present} for bitmap in bitmaps]

    return await server.connection.call(read)


async def test_a_guest_that_runs_makes_room_and_has_it_back(server: DomainServer) -> None:
    await _run(server)
    await server.domains.EnsureDefined(_dedicated(0))
    assert await _floats_on(server) == [{2, 4}] * 4
    await server.domains.EnsureDefined(_dedicated(2, generation=4))
    assert await _floats_on(server) == [{0, 4}] * 4
    await server.domains.EnsureRemoved(EnsureRemovedRequest(uuid=DEDICATED_UUID))
    assert await _floats_on(server) == [ALL] * 4


async def test_a_dedicated_guest_that_becomes_one_without_pins_gives_its_cpus_back(server: DomainServer) -> None:
    await _run(server)
    await server.domains.EnsureDefined(_dedicated(0))
    await server.domains.EnsureDefined(EnsureDefinedRequest(spec=_floating_spec(generation=4)))
    assert await _floats_on(server) == [ALL] * 4


async def test_a_dedicated_guest_that_runs_keeps_its_cpus_until_it_stops(server: DomainServer) -> None:
    await _run(server)
    await server.domains.EnsureDefined(_dedicated(0))
    await server.domains.EnsureRunning(EnsureRunningRequest(uuid=DEDICATED_UUID))
    await server.domains.EnsureDefined(EnsureDefinedRequest(spec=_floating_spec(generation=4)))
    assert await _floats_on(server) == [{2, 4}] * 4
    async with recovering(server):
        await server.guests.destroy(DEDICATED_UUID)
        await _eventually(server, [ALL] * 4)


async def test_a_guest_that_is_defined_later_floats_on_what_is_left(server: DomainServer) -> None:
    await server.domains.EnsureDefined(_dedicated(2))
    await server.domains.EnsureDefined(EnsureDefinedRequest(spec=a_spec()))

    def read(handle: libvirt.virConnect) -> str:
        return str(handle.lookupByUUIDString(GUEST_UUID).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))

    document = await server.connection.call(read)
    assert "<vcpupin vcpu='1' cpuset='0,4'/>" in document
    assert "<emulatorpin cpuset='0,4'/>" in document


async def test_a_foreign_guest_is_left_where_it_is(server: DomainServer) -> None:
    def start(handle: libvirt.virConnect) -> None:
        domain = handle.lookupByUUIDString(FOREIGN_UUID)
        if not domain.isActive():
            domain.create()

    await server.connection.call(start)
    before = await _floats_on(server, FOREIGN_UUID)
    await server.domains.EnsureDefined(_dedicated(0))
    assert await _floats_on(server, FOREIGN_UUID) == before


async def test_two_guests_cannot_have_one_cpu_and_the_second_leaves_nothing(server: DomainServer) -> None:
    await server.domains.EnsureDefined(_dedicated(0, 2))
    cells = [a_cell(0, 2, memory_bytes=2 * GIB)]
    again = EnsureDefinedRequest(spec=a_spec(vcpus=1, cells=cells))
    assert await failure(lambda: server.domains.EnsureDefined(again)) == ("FAILED_PRECONDITION", "CpuPinned")
    assert not (server.directory / "seeds" / f"{GUEST_UUID}.iso").exists()
    # Its own CPUs are no obstacle to a guest.
    await server.domains.EnsureDefined(_dedicated(0, 2, generation=4))


async def test_many_guests_that_want_one_cpu_at_once_are_one(server: DomainServer) -> None:
    def define(number: int) -> Any:
        request = _dedicated(0)
        request.spec.uuid = f"{number:08x}-7e64-4a7e-9c60-0e2a4a7a7d11"
        request.spec.name = f"ecs-{number}"
        return server.domains.EnsureDefined(request)

    answers = await asyncio.gather(*map(define, range(8)), return_exceptions=True)
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 1


async def test_a_cell_that_the_node_lacks_is_an_invalid_argument(server: DomainServer) -> None:
    request = EnsureDefinedRequest(spec=a_spec(cells=[GuestCell(host_cell=9, vcpus=2, memory_bytes=2 * GIB)]))
    assert await failure(lambda: server.domains.EnsureDefined(request)) == ("INVALID_ARGUMENT", "RequestInvalid")


class TestTooFew:
    """All CPUs of the node are wanted."""

    REFUSED = ("FAILED_PRECONDITION", "CpusExhausted")

    async def test_the_last_cpu_of_guests_that_run_is_refused_and_nothing_changes(self, server: DomainServer) -> None:
        await _run(server)
        assert await failure(lambda: server.domains.EnsureDefined(_dedicated(0, 2, 4))) == self.REFUSED
        assert await server.guests.find(DEDICATED_UUID) is None
        await server.domains.EnsureDefined(_dedicated(0, 2))
        assert await _floats_on(server) == [{4}] * 4

    async def test_a_guest_that_is_off_gives_way_and_cannot_start_meanwhile(self, server: DomainServer) -> None:
        await server.domains.EnsureDefined(EnsureDefinedRequest(spec=a_spec()))
        await server.domains.EnsureDefined(_dedicated(0, 2, 4))
        start = EnsureRunningRequest(uuid=GUEST_UUID)
        assert await failure(lambda: server.domains.EnsureRunning(start)) == self.REFUSED
        define = EnsureDefinedRequest(spec=a_spec(generation=4))
        assert await failure(lambda: server.domains.EnsureDefined(define)) == self.REFUSED
        await server.domains.EnsureRemoved(EnsureRemovedRequest(uuid=DEDICATED_UUID))
        await server.domains.EnsureRunning(start)

    async def test_it_cannot_start_after_a_restart_of_the_agent_either(self, server: DomainServer) -> None:
        await server.domains.EnsureDefined(EnsureDefinedRequest(spec=a_spec()))
        await server.domains.EnsureDefined(_dedicated(0, 2, 4))
        server.affinities._settled, server.affinities._stranded = None, frozenset()
        start = EnsureRunningRequest(uuid=GUEST_UUID)
        assert await failure(lambda: server.domains.EnsureRunning(start)) == self.REFUSED

    async def test_one_that_goes_on_from_its_memory_is_moved_from_where_it_was(
        self, server: DomainServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await _run(server)
        await server.connection.call(lambda handle: handle.lookupByUUIDString(GUEST_UUID).managedSave())
        await server.domains.EnsureDefined(_dedicated(0))
        looked, set_affinities = [], affinity._set_affinities

        def look(handle: libvirt.virConnect, occupancy: Occupancy) -> frozenset[str]:
            looked.append(occupancy)
            return set_affinities(handle, occupancy)

        # The pins are those of before: nobody looks on their account.
        monkeypatch.setattr(affinity, "_set_affinities", look)
        await server.domains.EnsureRunning(EnsureRunningRequest(uuid=GUEST_UUID))
        assert len(looked) == 1
        assert await _floats_on(server) == [{2, 4}] * 4


class TestRecovery:
    """What a crash or a person left is put right."""

    async def test_a_crash_between_definition_and_making_room_is_made_good(
        self, server: DomainServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await _run(server)
        with monkeypatch.context() as crash:
            crash.setattr(affinity, "_set_affinities", _fail)
            await failure(lambda: server.domains.EnsureDefined(_dedicated(0)))
        assert 0 in (await _floats_on(server))[0]
        async with recovering(server):
            await _eventually(server, [{2, 4}] * 4)

    async def test_so_it_is_by_repeating_the_call(self, server: DomainServer, monkeypatch: pytest.MonkeyPatch) -> None:
        await _run(server)
        with monkeypatch.context() as crash:
            crash.setattr(affinity, "_set_affinities", _fail)
            await failure(lambda: server.domains.EnsureDefined(_dedicated(0)))
        await server.domains.EnsureDefined(_dedicated(0))
        assert await _floats_on(server) == [{2, 4}] * 4

    async def test_a_person_who_undefines_a_dedicated_guest_is_noticed(self, server: DomainServer) -> None:
        await _run(server)
        await server.domains.EnsureDefined(_dedicated(0))
        async with recovering(server):
            await server.connection.call(lambda handle: handle.lookupByUUIDString(DEDICATED_UUID).undefine())
            await _eventually(server, [ALL] * 4)

    async def test_what_a_person_pinned_is_put_right_when_libvirt_comes_back(self, server: DomainServer) -> None:
        await _run(server)
        await server.domains.EnsureDefined(_dedicated(0))
        async with recovering(server):
            await server.affinities.settle()
            await server.connection.call(lambda handle: handle.lookupByUUIDString(GUEST_UUID).pinEmulator((True,), 1))
            server.events.publish(_resync())
            await _eventually(server, [{2, 4}] * 4)

    async def test_one_guest_that_cannot_be_moved_holds_up_no_other(
        self, server: DomainServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await _run(server)
        monkeypatch.setattr(recovery, "_AFFINITY_RETRY_SECONDS", 0.01)
        second = a_spec(uuid="00000000-7e64-4a7e-9c60-0e2a4a7a7d11", name="first-in-the-list", nics=[])
        await server.domains.EnsureDefined(EnsureDefinedRequest(spec=second))
        original = affinity._set_guest

        def fail_for_one(domain: libvirt.virDomain, guest: OwnedGuest, seen: Any) -> bool:
            if guest.name == second.name:
                _fail()
            return original(domain, guest, seen)

        with monkeypatch.context() as fault, capture_logs() as logs:
            fault.setattr(affinity, "_set_guest", fail_for_one)
            assert (await failure(lambda: server.domains.EnsureDefined(_dedicated(0))))[1] == HypervisorFailed.code
            assert await _floats_on(server) == [{2, 4}] * 4
            async with recovering(server):
                async with asyncio.timeout(60):
                    while not any(entry["event"] == "affinity.settle_interrupted" for entry in logs):
                        await asyncio.sleep(0.01)
                fault.undo()
                async with asyncio.timeout(60):
                    while server.affinities._settled is None:
                        await asyncio.sleep(0.01)


def _fail(*_: object) -> None:
    raise libvirt.libvirtError("QEMU is gone")


def _floating_spec(**changes: Any) -> Any:
    return a_spec(uuid=DEDICATED_UUID, name="ecs-dedicated", nics=[], **changes)


def _resync() -> DomainChange:
    return DomainChange("", "", "")


@asynccontextmanager
async def recovering(server: DomainServer) -> AsyncIterator[None]:
    """The loop of recovery runs, and must still do so in the end."""
    task = asyncio.create_task(AffinityRecovery(server.connection, server.affinities, server.events).run())
    try:
        await asyncio.sleep(0)
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _eventually(server: DomainServer, expected: list[set[int]]) -> None:
    async with asyncio.timeout(60):
        while await _floats_on(server) != expected:
            await asyncio.sleep(0.01)
