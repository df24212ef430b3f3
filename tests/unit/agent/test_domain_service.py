"""DomainService and GuestService, as a coordinator meets them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest
from google.protobuf.duration_pb2 import Duration

from agent.errors import HypervisorTimeout
from agent.hypervisor import description, guest
from agent.hypervisor.events import CHANGED
from agent.watchdog.record import FencedGuest, FenceRecord
from protos.agent.v1.domain_pb2 import (
    Disk,
    DomainSpec,
    EnsureDefinedRequest,
    EnsurePausedRequest,
    EnsureRemovedRequest,
    EnsureResumedRequest,
    EnsureRunningRequest,
    EnsureStoppedRequest,
    GetDomainRequest,
    GuestAgentState,
    ListDomainsRequest,
    Nic,
    PowerState,
    RebootRequest,
    WatchEventsRequest,
)
from protos.agent.v1.guest_pb2 import ProbeGuestRequest, RunGuestCommandRequest
from tests.unit.agent.domain_server import FOREIGN_UUID, DomainServer, drain, failure, serve
from tests.unit.agent.guest_builder import GIB, GUEST_UUID, a_spec
from tests.unit.agent.test_self_fence import lease_of

NOBODY = "00000000-7e64-4a7e-9c60-0e2a4a7a7d11"
RUNNING = PowerState.POWER_STATE_RUNNING
PAUSED = PowerState.POWER_STATE_PAUSED
SHUTOFF = PowerState.POWER_STATE_SHUTOFF


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[DomainServer]:
    async with serve(tmp_path) as server:
        yield server


async def _define(server: DomainServer, **changes: Any) -> Any:
    return await server.domains.EnsureDefined(EnsureDefinedRequest(spec=a_spec(**changes)))


async def _run(server: DomainServer) -> Any:
    await _define(server)
    return await server.domains.EnsureRunning(EnsureRunningRequest(uuid=GUEST_UUID))


async def test_a_defined_domain_is_ours_off_and_has_its_seed(server: DomainServer) -> None:
    domain = await _define(server)
    assert (domain.uuid, domain.name, domain.power_state) == (GUEST_UUID, "ecs-7751tih23uy93g", SHUTOFF)
    assert (domain.vcpus, domain.memory_bytes, domain.generation, domain.foreign) == (2, 2 * GIB, 3, False)
    assert domain.guest_agent_state == GuestAgentState.GUEST_AGENT_STATE_NOT_RUNNING
    assert (server.directory / "seeds" / f"{GUEST_UUID}.iso").exists()


async def test_defining_again_changes_the_definition_and_older_ones_are_refused(server: DomainServer) -> None:
    await _define(server)
    assert (await _define(server, generation=4, memory_bytes=GIB)).memory_bytes == GIB
    assert await failure(lambda: server.domains.EnsureDefined(EnsureDefinedRequest(spec=a_spec(generation=3)))) == (
        "FAILED_PRECONDITION",
        "DomainGenerationStale",
    )
    again = await server.domains.Get(GetDomainRequest(uuid=GUEST_UUID))
    assert (again.generation, again.memory_bytes) == (4, GIB)


async def test_a_domain_keeps_its_machine_and_takes_that_of_another_node(server: DomainServer) -> None:
    assert (await _define(server, machine="pc-q35-6.0")).machine == "pc-q35-6.0"
    assert (await _define(server, generation=4, machine="pc-q35-7.2")).machine == "pc-q35-6.0"


async def test_a_running_domain_runs_on_when_it_is_defined_anew(server: DomainServer) -> None:
    await _run(server)
    domain = await _define(server, generation=4)
    assert (domain.power_state, domain.generation) == (RUNNING, 4)


async def test_a_domain_that_somebody_renamed_has_its_name_back_when_it_is_off(server: DomainServer) -> None:
    def find(handle: libvirt.virConnect) -> libvirt.virDomain:
        return handle.lookupByUUIDString(GUEST_UUID)

    await _define(server)
    await server.connection.call(lambda handle: find(handle).rename("other"))
    await server.connection.call(lambda handle: find(handle).create())
    domain = await _define(server, generation=4)
    assert (domain.name, domain.generation, domain.power_state) == ("other", 4, RUNNING)
    await server.connection.call(lambda handle: find(handle).destroy())
    domain = await _define(server, generation=4)
    assert (domain.name, domain.generation, domain.power_state) == ("ecs-7751tih23uy93g", 4, SHUTOFF)


async def test_a_domain_without_a_seed_loses_the_one_it_had(server: DomainServer) -> None:
    await _define(server)
    spec = a_spec(generation=4)
    spec.ClearField("cloud_init")
    await server.domains.EnsureDefined(EnsureDefinedRequest(spec=spec))
    assert not (server.directory / "seeds" / f"{GUEST_UUID}.iso").exists()


async def test_a_highly_available_guest_is_known_to_the_watchdog_before_it_can_run(server: DomainServer) -> None:
    server.self_fence.note_sending(0)
    server.self_fence.begin([], 30)
    run_dir = server.directory / "run"
    assert (await _define(server, ha_enabled=True)).ha_enabled
    assert lease_of(run_dir).guests == (GUEST_UUID,)
    assert not (await _define(server, generation=4)).ha_enabled
    assert lease_of(run_dir).guests == ()
    await _define(server, generation=5, ha_enabled=True)
    listed = (await server.domains.List(ListDomainsRequest())).domains
    assert {domain.uuid for domain in listed if domain.ha_enabled} == {GUEST_UUID}
    await server.domains.EnsureRemoved(EnsureRemovedRequest(uuid=GUEST_UUID))
    assert lease_of(run_dir).guests == ()


async def test_a_guest_that_was_ended_here_starts_only_after_its_release(server: DomainServer) -> None:
    await _define(server, ha_enabled=True)
    record = FenceRecord(server.directory / "fenced")
    record.add(FencedGuest(GUEST_UUID, 1.0, 26.0, 30))

    def start() -> Any:
        return server.domains.EnsureRunning(EnsureRunningRequest(uuid=GUEST_UUID))

    assert await failure(start) == ("FAILED_PRECONDITION", "DomainFenced")
    server.self_fence.release([GUEST_UUID])
    assert (await start()).power_state == RUNNING
    record.add(FencedGuest(GUEST_UUID, 1.0, 26.0, 30))
    await server.domains.EnsureRemoved(EnsureRemovedRequest(uuid=GUEST_UUID))
    assert record.list() == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (a_spec(vcpus=0), ("INVALID_ARGUMENT", "RequestInvalid")),
        (a_spec(disks=[Disk(volume_uuid=NOBODY)]), ("NOT_FOUND", "VolumeNotFound")),
        (
            a_spec(nics=[Nic(port_id="p", mac_address="52:54:00:12:34:56", subnet_id="snet-x")]),
            ("NOT_FOUND", "SubnetNotFound"),
        ),
        (a_spec(firmware="FIRMWARE_UEFI"), ("FAILED_PRECONDITION", "CapabilityMissing")),
        (a_spec(uuid=FOREIGN_UUID), ("FAILED_PRECONDITION", "DomainForeign")),
        (DomainSpec(), ("INVALID_ARGUMENT", "RequestInvalid")),
    ],
)
async def test_what_cannot_be_defined_leaves_nothing(
    server: DomainServer, spec: DomainSpec, expected: tuple[str, str]
) -> None:
    assert await failure(lambda: server.domains.EnsureDefined(EnsureDefinedRequest(spec=spec))) == expected
    listed = await server.domains.List(ListDomainsRequest())
    assert [domain.name for domain in listed.domains] == ["foreign"]
    assert not list((server.directory).glob("seeds/*"))


async def test_running_paused_resumed_and_stopped_may_each_be_asked_for_twice(server: DomainServer) -> None:
    await _define(server)
    domains = server.domains
    for method, request, state in (
        (domains.EnsureRunning, EnsureRunningRequest(uuid=GUEST_UUID), RUNNING),
        (domains.EnsurePaused, EnsurePausedRequest(uuid=GUEST_UUID), PAUSED),
        (domains.EnsureResumed, EnsureResumedRequest(uuid=GUEST_UUID), RUNNING),
        (domains.EnsurePaused, EnsurePausedRequest(uuid=GUEST_UUID), PAUSED),
        (domains.EnsureRunning, EnsureRunningRequest(uuid=GUEST_UUID), RUNNING),
    ):
        assert [(await method(request)).power_state for _ in range(2)] == [state, state]
    for force in (True, True, False):
        progress = await drain(domains.EnsureStopped(EnsureStoppedRequest(uuid=GUEST_UUID, force=force)))
        assert progress[-1].domain.power_state == SHUTOFF


async def test_many_callers_at_once_end_in_one_state(server: DomainServer) -> None:
    await _define(server)
    request = EnsureRunningRequest(uuid=GUEST_UUID)
    answers = await asyncio.gather(*(server.domains.EnsureRunning(request) for _ in range(20)))
    assert {answer.power_state for answer in answers} == {RUNNING}


async def test_a_graceful_stop_tells_how_the_guest_was_asked(server: DomainServer) -> None:
    await _run(server)
    progress = await drain(server.domains.EnsureStopped(EnsureStoppedRequest(uuid=GUEST_UUID)))
    assert [message.method for message in progress] == ["acpi", "acpi"]
    assert not progress[0].HasField("domain")
    assert progress[-1].domain.power_state_reason == "shutdown"


async def test_a_paused_guest_cannot_be_asked_and_is_not_forced(server: DomainServer) -> None:
    await _run(server)
    await server.domains.EnsurePaused(EnsurePausedRequest(uuid=GUEST_UUID))
    stop = EnsureStoppedRequest(uuid=GUEST_UUID)
    assert await failure(lambda: server.domains.EnsureStopped(stop)) == ("FAILED_PRECONDITION", "DomainStateConflict")
    assert (await server.domains.Get(GetDomainRequest(uuid=GUEST_UUID))).power_state == PAUSED


@pytest.mark.parametrize("seconds", [0, -1])
async def test_a_grace_must_be_more_than_nothing(server: DomainServer, seconds: int) -> None:
    await _run(server)
    stop = EnsureStoppedRequest(uuid=GUEST_UUID, grace=Duration(seconds=seconds))
    assert await failure(lambda: server.domains.EnsureStopped(stop)) == ("INVALID_ARGUMENT", "RequestInvalid")


async def test_states_that_do_not_allow_it_are_refused(server: DomainServer) -> None:
    await _define(server)
    conflict = ("FAILED_PRECONDITION", "DomainStateConflict")
    domains = server.domains
    assert await failure(lambda: domains.EnsurePaused(EnsurePausedRequest(uuid=GUEST_UUID))) == conflict
    assert await failure(lambda: domains.EnsureResumed(EnsureResumedRequest(uuid=GUEST_UUID))) == conflict
    reboot = RebootRequest(uuid=GUEST_UUID, operation_id="op-1")
    assert await failure(lambda: domains.Reboot(reboot)) == conflict


async def test_removing_leaves_nothing_and_may_be_repeated(server: DomainServer) -> None:
    await _run(server)
    serial = server.directory / "serial"
    for name in (f"{GUEST_UUID}.log", f"{GUEST_UUID}.log.0", f"{NOBODY}.log"):
        (serial / name).touch()
    for _ in range(2):
        await server.domains.EnsureRemoved(EnsureRemovedRequest(uuid=GUEST_UUID))
    assert await failure(lambda: server.domains.Get(GetDomainRequest(uuid=GUEST_UUID))) == (
        "NOT_FOUND",
        "DomainNotFound",
    )
    assert [path.name for path in serial.iterdir()] == [f"{NOBODY}.log"]
    assert not list((server.directory / "seeds").iterdir())


async def test_a_foreign_domain_is_reported_and_never_touched(server: DomainServer) -> None:
    (foreign,) = (await server.domains.List(ListDomainsRequest())).domains
    assert (foreign.uuid, foreign.foreign, foreign.generation) == (FOREIGN_UUID, True, 0)
    assert foreign.guest_agent_state == GuestAgentState.GUEST_AGENT_STATE_UNSPECIFIED
    domains, guests_api = server.domains, server.guests_api
    command = RunGuestCommandRequest(uuid=FOREIGN_UUID, command_json='{"execute": "guest-ping"}')
    for call in (
        lambda: domains.EnsureRunning(EnsureRunningRequest(uuid=FOREIGN_UUID)),
        lambda: domains.EnsureStopped(EnsureStoppedRequest(uuid=FOREIGN_UUID)),
        lambda: domains.EnsureStopped(EnsureStoppedRequest(uuid=FOREIGN_UUID, force=True)),
        lambda: domains.EnsurePaused(EnsurePausedRequest(uuid=FOREIGN_UUID)),
        lambda: domains.EnsureResumed(EnsureResumedRequest(uuid=FOREIGN_UUID)),
        lambda: domains.Reboot(RebootRequest(uuid=FOREIGN_UUID, operation_id="op-1", force=True)),
        lambda: domains.EnsureRemoved(EnsureRemovedRequest(uuid=FOREIGN_UUID)),
        lambda: guests_api.RunCommand(command),
        lambda: guests_api.Probe(ProbeGuestRequest(uuid=FOREIGN_UUID)),
    ):
        assert await failure(call) == ("FAILED_PRECONDITION", "DomainForeign")
    assert await domains.Get(GetDomainRequest(uuid=FOREIGN_UUID)) == foreign


async def test_what_does_not_exist_is_not_found_and_what_is_no_uuid_is_invalid(server: DomainServer) -> None:
    domains, guests_api = server.domains, server.guests_api
    command = '{"execute": "guest-ping"}'
    for uuid, expected in (
        (NOBODY, ("NOT_FOUND", "DomainNotFound")),
        ("nobody", ("INVALID_ARGUMENT", "RequestInvalid")),
    ):
        for call in (
            lambda: domains.Get(GetDomainRequest(uuid=uuid)),  # noqa: B023 - called at once
            lambda: domains.EnsureRunning(EnsureRunningRequest(uuid=uuid)),  # noqa: B023
            lambda: domains.EnsureStopped(EnsureStoppedRequest(uuid=uuid)),  # noqa: B023
            lambda: domains.Reboot(RebootRequest(uuid=uuid, operation_id="op-1")),  # noqa: B023
            lambda: guests_api.Probe(ProbeGuestRequest(uuid=uuid)),  # noqa: B023
            lambda: guests_api.RunCommand(RunGuestCommandRequest(uuid=uuid, command_json=command)),  # noqa: B023
        ):
            assert await failure(call) == expected


async def test_a_reboot_is_done_once_for_each_operation(server: DomainServer) -> None:
    request = RebootRequest(uuid=GUEST_UUID, operation_id="op-1")
    started = []
    async with server.events.subscribe() as changes:
        await _run(server)
        while (await asyncio.wait_for(changes.get(), 60)).kind != "started":
            pass
        for _ in range(3):
            progress = await drain(server.domains.Reboot(request))
            assert progress[-1].domain.power_state == RUNNING
        await drain(server.domains.Reboot(RebootRequest(uuid=GUEST_UUID, operation_id="op-2", force=True)))
        await asyncio.sleep(0.1)
        while not changes.empty():
            started += [change for change in (changes.get_nowait(),) if change.kind == "started"]
    assert len(started) == 2


@pytest.mark.parametrize("operation_id", ["", "../x", "a b", "x" * 65])
async def test_an_operation_id_is_a_plain_name(server: DomainServer, operation_id: str) -> None:
    await _run(server)
    request = RebootRequest(uuid=GUEST_UUID, operation_id=operation_id)
    assert await failure(lambda: server.domains.Reboot(request)) == ("INVALID_ARGUMENT", "RequestInvalid")


async def test_an_operation_of_another_domain_is_not_answered(server: DomainServer) -> None:
    await _run(server)
    await drain(server.domains.Reboot(RebootRequest(uuid=GUEST_UUID, operation_id="op-1")))
    request = RebootRequest(uuid=NOBODY, operation_id="op-1")
    assert await failure(lambda: server.domains.Reboot(request)) == ("INVALID_ARGUMENT", "RequestInvalid")


async def test_a_watcher_gets_everything_first_and_then_each_change(server: DomainServer) -> None:
    watch = server.domains.WatchEvents(WatchEventsRequest())
    first = await watch.read()
    assert (first.kind, first.domain.name) == ("", "foreign")
    await _run(server)
    await server.domains.EnsureRemoved(EnsureRemovedRequest(uuid=GUEST_UUID))
    seen: list[tuple[str, Any]] = []
    while not seen or seen[-1] != ("undefined", PowerState.POWER_STATE_ABSENT):
        event = await asyncio.wait_for(watch.read(), 60)
        assert event.domain.uuid == GUEST_UUID
        seen.append((event.kind, event.domain.power_state))
    watch.cancel()
    assert {"defined", "started", "stopped", "undefined"} <= {kind for kind, _ in seen}


@pytest.mark.parametrize(
    ("method", "call", "state"),
    [
        ("create", lambda domains: domains.EnsureRunning(EnsureRunningRequest(uuid=GUEST_UUID)), SHUTOFF),
        ("suspend", lambda domains: domains.EnsurePaused(EnsurePausedRequest(uuid=GUEST_UUID)), RUNNING),
        ("resume", lambda domains: domains.EnsureResumed(EnsureResumedRequest(uuid=GUEST_UUID)), PAUSED),
        ("destroy", lambda domains: domains.EnsureStopped(EnsureStoppedRequest(uuid=GUEST_UUID, force=True)), RUNNING),
        ("undefineFlags", lambda domains: domains.EnsureRemoved(EnsureRemovedRequest(uuid=GUEST_UUID)), SHUTOFF),
    ],
)
async def test_what_a_failed_call_left_is_told(
    server: DomainServer, monkeypatch: pytest.MonkeyPatch, method: str, call: Callable[[Any], Any], state: int
) -> None:
    """libvirt tells that a guest is born, and not that its start failed after that."""
    await _define(server)
    if method != "create":
        await server.guests.start(GUEST_UUID)
    if method == "resume":
        await server.guests.suspend(GUEST_UUID)

    def fail(*_: Any) -> None:
        raise libvirt.libvirtError("QEMU is gone")

    watch = server.domains.WatchEvents(WatchEventsRequest())
    assert {(await watch.read()).domain.name for _ in range(2)} == {"foreign", "ecs-7751tih23uy93g"}
    monkeypatch.setattr(libvirt.virDomain, method, fail)
    await failure(lambda: call(server.domains))
    while (event := await asyncio.wait_for(watch.read(), 60)).kind != CHANGED:
        pass
    watch.cancel()
    assert event.domain.power_state == state


async def test_a_call_that_ends_after_its_time_is_told_then(
    server: DomainServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _define(server)
    create, may_start = libvirt.virDomain.create, threading.Event()

    def start_late(domain: libvirt.virDomain) -> None:
        may_start.wait(60)
        create(domain)

    monkeypatch.setattr(guest, "_START_TIMEOUT_SECONDS", 0.01)
    monkeypatch.setattr(libvirt.virDomain, "create", start_late)
    async with server.events.subscribe() as changes:
        with pytest.raises(HypervisorTimeout):
            await server.guests.start(GUEST_UUID)
        may_start.set()
        while (await asyncio.wait_for(changes.get(), 60)).kind != CHANGED:
            pass
    assert (await server.guests.get(GUEST_UUID)).power_state is description.PowerState.RUNNING


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("{", ("INVALID_ARGUMENT", "RequestInvalid")),
        ("[]", ("INVALID_ARGUMENT", "RequestInvalid")),
        ('{"execute": 3}', ("INVALID_ARGUMENT", "RequestInvalid")),
        ('{"execute": "guest-ping", "arguments": []}', ("INVALID_ARGUMENT", "RequestInvalid")),
        ('{"execute": "quit"}', ("PERMISSION_DENIED", "GuestAgentCommandForbidden")),
        ('{"execute": "guest-ping"}', ("FAILED_PRECONDITION", "GuestAgentUnavailable")),
    ],
)
async def test_a_guest_command_is_checked_before_it_is_passed_on(
    server: DomainServer, command: str, expected: tuple[str, str]
) -> None:
    await _run(server)
    request = RunGuestCommandRequest(uuid=GUEST_UUID, command_json=command)
    assert await failure(lambda: server.guests_api.RunCommand(request)) == expected


async def test_a_guest_without_an_agent_is_probed_as_not_running(server: DomainServer) -> None:
    await _run(server)
    probe = await server.guests_api.Probe(ProbeGuestRequest(uuid=GUEST_UUID))
    assert probe.state == GuestAgentState.GUEST_AGENT_STATE_NOT_RUNNING
    assert probe.probed_at.seconds > 0
