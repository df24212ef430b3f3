"""Sessions with a coordinator over real gRPC: it knows everything about a node, whatever breaks in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import libvirt
import pytest
from structlog.testing import capture_logs

from agent import reporter as reporter_module
from agent.coordinator_client import CoordinatorClient
from agent.errors import HypervisorUnavailable, StorageFailed
from agent.facts.memory import Memory
from agent.hypervisor.connection import Connection
from agent.hypervisor.events import DomainChange, DomainEvents
from agent.hypervisor.guest import Guests
from agent.hypervisor.guest_agent import GuestAgents
from agent.hypervisor.prober import GuestAgentProber
from agent.reporter import DomainView, Reporter
from agent.self_fence import SelfFence
from agent.watchdog.lease import Health, read_boot_id, read_clock, write_health
from agent.watchdog.record import FencedGuest, FenceRecord
from coordinator.pki import Authority
from protos.agent.v1 import domain_pb2, host_pb2
from tests.stopwatch import Stopwatch
from tests.unit.agent.coordinator_server import Coordinator, an_identity, serving
from tests.unit.agent.device_builder import Node
from tests.unit.agent.sysfs_builder import Machine
from tests.unit.agent.test_device_change import Bell, watching
from tests.unit.agent.test_self_fence import lease_of

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
GIB = 1024**3
_NODE = f"""
<node>
  <domain type="test">
    <name>test</name>
    <uuid>{UUID}</uuid>
    <memory>1024</memory>
    <os><type>hvm</type></os>
  </domain>
</node>
"""


class Host:
    """The hardware of a node."""

    def __init__(self) -> None:
        self.hostname = "host-a"
        self.inventory_now = host_pb2.HostInventory(
            vcpus=8, memory_bytes=16 * GIB, storage_bytes=100 * GIB, storage_free_bytes=50 * GIB
        )
        self.failures: list[Exception] = []

    async def facts(self, memory: Memory | None = None) -> host_pb2.HostFacts:
        """See agent.reporter.Host."""
        if self.failures:
            raise self.failures.pop(0)
        return host_pb2.HostFacts(hostname=self.hostname)

    async def inventory(self, memory: Memory | None = None) -> host_pb2.HostInventory:
        """See agent.reporter.Host."""
        inventory = host_pb2.HostInventory()
        inventory.CopyFrom(self.inventory_now)
        return inventory


class Changes:
    """Wakes the reporter when its time is over, or when the test says so."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()

    async def wait(self, seconds: float) -> Memory:
        """See agent.reporter.Changes."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.changed.wait()
        self.changed.clear()
        return Memory()

    def notice(self) -> None:
        """See agent.reporter.Changes."""
        self.changed.set()


class Agent:
    """A reporter that runs, and what it reports of."""

    def __init__(self, connection: Connection, client: CoordinatorClient, directory: Path) -> None:
        self.connection = connection
        self.record = FenceRecord(directory / "fenced")
        self.self_fence = SelfFence(directory, self.record)
        self.events = DomainEvents(connection)
        self.host = Host()
        self.changes = Changes()
        self.sessions: list[bool] = []
        self.address_failures: list[OSError] = []
        guests = Guests(connection, self.events)
        prober = GuestAgentProber(guests, GuestAgents(connection, allowed_commands=()), self.events)
        self.reporter = Reporter(
            client,
            self.host,
            DomainView(guests, prober),
            self.events,
            self.self_fence,
            self.changes,
            advertise_address=self.advertise,
            zone="AZ1",
            list_ended=lambda: [UUID],
            on_session=self.sessions.append,
        )

    def advertise(self) -> str:
        """The address, when the network allows to find it."""
        if self.address_failures:
            raise self.address_failures.pop(0)
        return "10.0.0.7:8446"

    async def touch(self, method: str) -> None:
        """A person calls libvirt."""
        await self.connection.call(lambda handle: getattr(handle.lookupByName("test"), method)())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter_module, "_FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(reporter_module, "_LAST_RETRY_SECONDS", 0.05)


@pytest.fixture
async def coordinator(tmp_path: Path) -> Coordinator:
    return Coordinator(Authority.open(tmp_path / "authority"))


@pytest.fixture
async def agent(tmp_path: Path, coordinator: Coordinator) -> AsyncIterator[Agent]:
    """One whose reporter does not run yet."""
    node = tmp_path / "node.xml"
    node.write_text(_NODE)
    connection = Connection(f"test://{node}", worker_count=2, guest_agent_worker_count=1)
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(coordinator))
        client = CoordinatorClient(
            f"127.0.0.1:{port}", an_identity(tmp_path / "state", coordinator.authority).credentials()
        )
        stack.push_async_callback(client.close)
        stack.push_async_callback(connection.close)
        agent = Agent(connection, client, tmp_path)
        await connection.open()
        yield agent


@asynccontextmanager
async def reporting(agent: Agent) -> AsyncIterator[asyncio.Task[None]]:
    """The reporter runs, and must still do so in the end."""
    task = asyncio.create_task(agent.reporter.run())
    try:
        yield task
        assert not task.done(), task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def eventually(question: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not question():
            await asyncio.sleep(0.005)


async def nothing(coordinator: Coordinator, method: str, seconds: float = 0.1) -> None:
    """No such request arrives for a while."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(coordinator.requests[method].get(), seconds)


async def test_a_session_begins_with_everything(agent: Agent, coordinator: Coordinator) -> None:
    async with reporting(agent):
        told = await coordinator.request("Register")
        await eventually(lambda: agent.sessions)
    assert (told.facts.hostname, told.inventory) == ("host-a", agent.host.inventory_now)
    assert (told.advertise_address, told.zone) == ("10.0.0.7:8446", "AZ1")
    (domain,) = told.domains
    assert (domain.uuid, domain.name, domain.foreign) == (UUID, "test", True)
    assert domain.power_state == domain_pb2.POWER_STATE_RUNNING
    assert len(told.session_id) == 32
    assert list(told.ended_domain_uuids) == [UUID]
    assert agent.sessions == [True]


async def test_the_lease_is_renewed_all_the_time(agent: Agent, coordinator: Coordinator) -> None:
    async with reporting(agent):
        session_id = (await coordinator.request("Register")).session_id
        beats = [await coordinator.request("Heartbeat") for _ in range(3)]
    assert {(beat.session_id, beat.last_event_sequence) for beat in beats} == {(session_id, 0)}


async def test_the_lease_on_highly_available_guests_follows_what_was_stored(
    agent: Agent, coordinator: Coordinator, tmp_path: Path
) -> None:
    coordinator.ha_tolerance_seconds = 60
    began = read_clock()
    async with reporting(agent):
        assert not (await coordinator.request("Register")).self_fence.armed
        await eventually(lambda: agent.self_fence.tolerance_seconds == 60)
        write_health(tmp_path, Health(read_boot_id(), 1, read_clock() + 60, 60))
        first = await coordinator.request("Heartbeat")
        second = await coordinator.request("Heartbeat")
        assert (first.sequence, second.sequence) == (1, 2)
        assert (second.self_fence.armed, second.self_fence.tolerance_seconds) == (True, 60)
        await eventually(lambda: lease_of(tmp_path).renewed_at > began + 0.02)
        coordinator.stores_heartbeats = False
        for _ in range(3):
            await coordinator.request("Heartbeat")
        lease = lease_of(tmp_path)
        for _ in range(5):
            await coordinator.request("Heartbeat")
        assert lease_of(tmp_path) == lease


@pytest.mark.parametrize("failure", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION])
async def test_a_heartbeat_that_fails_renews_nothing(
    agent: Agent, coordinator: Coordinator, tmp_path: Path, failure: grpc.StatusCode
) -> None:
    coordinator.failures["Heartbeat"] = [failure] * 1000
    coordinator.failures["Register"] = [None, *[grpc.StatusCode.UNAVAILABLE] * 1000]
    async with reporting(agent):
        await coordinator.request("Register")
        await eventually((tmp_path / "lease").exists)
        lease = lease_of(tmp_path)
        for _ in range(5):
            await coordinator.request("Heartbeat" if failure is grpc.StatusCode.UNAVAILABLE else "Register")
        assert lease_of(tmp_path) == lease


@pytest.mark.parametrize(("tolerance", "longest"), [(0, 15.0), (30, 5.0), (60, 10.0), (600, 15.0)])
async def test_a_coordinator_that_is_back_is_noticed_before_the_lease_is_over(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, tolerance: int, longest: float
) -> None:
    monkeypatch.setattr(reporter_module, "_FIRST_RETRY_SECONDS", 0.5)
    monkeypatch.setattr(reporter_module, "_LAST_RETRY_SECONDS", 15.0)
    pauses: list[float] = []

    async def pause(_changes: object, seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(reporter_module, "_pause", pause)
    monkeypatch.setattr("random.uniform", lambda _least, most: most)
    agent.self_fence.note_sending(0)
    agent.self_fence.begin([], tolerance)
    agent.host.failures = [StorageFailed("again")] * 10
    async with reporting(agent):
        await eventually(lambda: len(pauses) == 10)
    assert max(pauses) == longest


async def test_what_the_watchdog_has_ended_is_told_until_it_is_released(agent: Agent, coordinator: Coordinator) -> None:
    other = "0f1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d12"
    for uuid in (UUID, other):
        agent.record.add(FencedGuest(uuid, 1_700_000_000.0, 26.5, 30))
    coordinator.released_domain_uuids = [UUID]
    coordinator.failures["Heartbeat"] = [grpc.StatusCode.FAILED_PRECONDITION]
    async with reporting(agent):
        told = (await coordinator.request("Register")).fenced_domains
        again = (await coordinator.request("Register")).fenced_domains
    assert [domain.uuid for domain in told] == [other, UUID]
    assert (told[0].fenced_at.seconds, told[0].silence.ToTimedelta().total_seconds()) == (1_700_000_000, 26.5)
    assert [domain.uuid for domain in again] == [other]


async def test_what_the_watchdog_ends_within_a_session_is_told_once_the_lease_is_renewed(
    agent: Agent, coordinator: Coordinator
) -> None:
    coordinator.ha_tolerance_seconds = 30
    async with reporting(agent):
        assert not (await coordinator.request("Register")).fenced_domains
        await coordinator.request("Heartbeat")
        agent.record.add(FencedGuest(UUID, 1_700_000_000.0, 26.0, 30))
        (told,) = (await coordinator.request("Register")).fenced_domains
        # Known, and not released: it is no news, until the guest is ended once more.
        await nothing(coordinator, "Register")
        agent.record.add(FencedGuest(UUID, 1_700_000_100.0, 26.0, 30))
        (again,) = (await coordinator.request("Register")).fenced_domains
    assert (told.uuid, again.fenced_at.seconds) == (UUID, 1_700_000_100)


async def test_changes_of_domains_are_told_in_order(agent: Agent, coordinator: Coordinator) -> None:
    told: list[Any] = []
    async with reporting(agent):
        session_id = (await coordinator.request("Register")).session_id
        for method in ("destroy", "create", "destroy", "undefine"):
            await agent.touch(method)
            before = len(told)
            while len(told) == before or (method == "undefine" and told[-1].event.kind != "undefined"):
                request = await coordinator.request("ReportEvents")
                assert request.session_id == session_id
                told += request.events
        while (await coordinator.request("Heartbeat")).last_event_sequence != len(told):
            pass
    assert [event.sequence for event in told] == list(range(1, len(told) + 1))
    kinds = [event.event.kind for event in told]
    assert [kind for kind in kinds if kind != "resumed"] == ["stopped", "started", "stopped", "undefined"]
    assert told[0].event.domain.power_state == domain_pb2.POWER_STATE_SHUTOFF
    assert told[-1].event.domain.power_state == domain_pb2.POWER_STATE_ABSENT
    assert told[-1].event.domain.uuid == UUID
    assert told[0].event.at.seconds > 0


async def test_what_happened_before_the_session_is_part_of_its_beginning(
    agent: Agent, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter_module, "_FIRST_RETRY_SECONDS", 0.5)  # long enough for what happens meanwhile
    coordinator.failures["Register"] = [grpc.StatusCode.UNAVAILABLE]
    async with reporting(agent):
        await coordinator.request("Register")
        await agent.touch("destroy")
        told = await coordinator.request("Register")
        assert told.domains[0].power_state == domain_pb2.POWER_STATE_SHUTOFF
        await nothing(coordinator, "ReportEvents")


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
async def test_changes_are_told_until_they_were_stored(
    agent: Agent, coordinator: Coordinator, status: grpc.StatusCode
) -> None:
    coordinator.failures["ReportEvents"] = [status, None, None]
    coordinator.acknowledgements = [0, 1]
    async with reporting(agent):
        await coordinator.request("Register")
        await agent.touch("destroy")
        told = [await coordinator.request("ReportEvents") for _ in range(3)]
        await nothing(coordinator, "ReportEvents")
    assert [[event.sequence for event in request.events] for request in told] == [[1]] * 3
    assert agent.sessions == [True]


async def test_changes_that_pile_up_are_told_together(agent: Agent, coordinator: Coordinator) -> None:
    async with reporting(agent):
        await coordinator.request("Register")
        await coordinator.request("Heartbeat")
        for _ in range(150):
            agent.events.publish(DomainChange(UUID, "test", "rebooted"))
        sizes = [len((await coordinator.request("ReportEvents")).events) for _ in range(2)]
    assert sizes == [100, 50]


async def test_a_coordinator_that_does_not_know_the_session_is_told_everything(
    agent: Agent, coordinator: Coordinator
) -> None:
    coordinator.failures["Heartbeat"] = [None, grpc.StatusCode.FAILED_PRECONDITION]
    async with reporting(agent):
        first, second = [await coordinator.request("Register") for _ in range(2)]
        await eventually(lambda: len(agent.sessions) == 3)
    assert first.session_id != second.session_id
    assert second.domains == first.domains
    assert agent.sessions == [True, False, True]


async def test_changes_of_a_new_session_are_counted_anew(agent: Agent, coordinator: Coordinator) -> None:
    coordinator.failures["ReportEvents"] = [None, grpc.StatusCode.FAILED_PRECONDITION]
    sequences = []
    async with reporting(agent):
        for method, sessions in (("destroy", 1), ("create", 1), ("destroy", 3)):
            await eventually(lambda sessions=sessions: len(agent.sessions) == sessions)  # type: ignore[misc]
            await agent.touch(method)
            sequences.append((await coordinator.request("ReportEvents")).events[0].sequence)
    assert sequences == [1, 2, 1]


async def test_a_coordinator_that_is_away_for_less_than_the_lease_misses_nothing(
    agent: Agent, coordinator: Coordinator
) -> None:
    coordinator.failures["Heartbeat"] = [None, *[grpc.StatusCode.UNAVAILABLE] * 5]
    async with reporting(agent):
        await coordinator.request("Register")
        for _ in range(8):
            await coordinator.request("Heartbeat")
        await nothing(coordinator, "Register", 0.02)
    assert agent.sessions == [True]


async def test_a_lease_that_has_ended_is_not_renewed(agent: Agent, coordinator: Coordinator) -> None:
    coordinator.lease_seconds = 0.05
    coordinator.failures["Heartbeat"] = [grpc.StatusCode.UNAVAILABLE] * 100
    async with reporting(agent):
        first, second = [await coordinator.request("Register") for _ in range(2)]
    assert first.session_id != second.session_id
    assert agent.sessions[:2] == [True, False]


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED])
async def test_a_coordinator_that_does_not_let_it_in_is_asked_again(
    agent: Agent, coordinator: Coordinator, status: grpc.StatusCode
) -> None:
    coordinator.failures["Register"] = [status] * 3
    async with reporting(agent):
        for _ in range(4):
            await coordinator.request("Register")
        await eventually(lambda: agent.sessions[-1])
    assert agent.sessions == [False] * 3 + [True]


@pytest.mark.parametrize(
    "failure",
    [HypervisorUnavailable("libvirt is away"), StorageFailed("no file system"), OSError("no such directory")],
)
async def test_a_node_that_cannot_be_read_is_told_when_it_can(
    agent: Agent, coordinator: Coordinator, failure: Exception
) -> None:
    agent.host.failures = [failure]
    async with reporting(agent):
        await coordinator.request("Register")
        await eventually(lambda: agent.sessions == [False, True])


async def test_a_node_without_a_way_to_the_coordinator_waits_for_one(agent: Agent, coordinator: Coordinator) -> None:
    """Right after a boot there may be neither a route nor a name server."""
    agent.address_failures = [
        OSError(101, "Network is unreachable"),
        OSError(-3, "Temporary failure in name resolution"),
    ]
    async with reporting(agent):
        await coordinator.request("Register")
        await eventually(lambda: agent.sessions == [False, False, True])


async def test_when_libvirt_comes_back_everything_is_told_again(agent: Agent, coordinator: Coordinator) -> None:
    async with reporting(agent):
        await coordinator.request("Register")
        await eventually(lambda: agent.sessions)
        agent.connection._lost.set()  # as libvirt's close callback does
        await coordinator.request("Register")
        await eventually(lambda: agent.sessions[-1])
        assert len(agent.sessions) >= 3
        await agent.touch("destroy")
        assert (await coordinator.request("ReportEvents")).events[0].sequence == 1


class TestLibvirt:
    """libvirt goes away and comes back, which is no failure of the coordinator's: nobody waits because of it."""

    @pytest.fixture(autouse=True)
    def _patient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reporter_module, "_FIRST_RETRY_SECONDS", 60.0)
        monkeypatch.setattr(reporter_module, "_LAST_RETRY_SECONDS", 60.0)

    async def test_when_it_comes_back_the_next_session_begins_at_once(
        self, agent: Agent, coordinator: Coordinator
    ) -> None:
        async with reporting(agent):
            for number in range(1, 4):
                await coordinator.request("Register")
                await eventually(lambda number=number: agent.sessions.count(True) == number)  # type: ignore[misc]
                agent.connection._lost.set()  # as libvirt's close callback does
            await coordinator.request("Register")

    async def test_a_session_that_could_not_begin_without_it_begins_with_it(
        self, agent: Agent, coordinator: Coordinator
    ) -> None:
        agent.host.failures = [HypervisorUnavailable("libvirt is away")]
        async with reporting(agent):
            await eventually(lambda: agent.sessions == [False])
            agent.connection._lost.set()
            await coordinator.request("Register")

    async def test_the_lease_is_renewed_while_it_is_away(
        self, agent: Agent, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reporter_module, "_INVENTORY_SECONDS", 0.01)

        def refuse(uri: str) -> None:
            raise libvirt.libvirtError(f"{uri} is away")

        async with reporting(agent):
            session_id = (await coordinator.request("Register")).session_id
            with monkeypatch.context() as patch:
                patch.setattr(libvirt, "open", refuse)
                agent.connection._lost.set()
                await eventually(lambda: not agent.connection.is_open)
                agent.host.failures = [HypervisorUnavailable("libvirt is away")] * 3
                agent.events.publish(DomainChange(UUID, "test", "stopped"))
                await eventually(lambda: not agent.host.failures)
                coordinator.requests["Heartbeat"] = asyncio.Queue()
                beats = [await coordinator.request("Heartbeat") for _ in range(3)]
            assert {beat.session_id for beat in beats} == {session_id}
            assert coordinator.requests["Register"].empty()
            await coordinator.request("Register")
            assert agent.sessions == [True, False]


class TestInventory:
    """Facts and inventory, when they change."""

    @pytest.fixture(autouse=True)
    def _often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reporter_module, "_INVENTORY_SECONDS", 0.01)

    async def test_what_is_as_it_was_is_no_news(self, agent: Agent, coordinator: Coordinator) -> None:
        async with reporting(agent):
            await coordinator.request("Register")
            agent.host.inventory_now.storage_free_bytes -= 256 * 1024**2
            await nothing(coordinator, "ReportInventory")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("vcpus", 4),
            ("memory_bytes", 8 * GIB),
            ("storage_bytes", 101 * GIB),
            ("storage_free_bytes", 50 * GIB - 256 * 1024**2 - 1),
            ("storage_free_bytes", 51 * GIB),
        ],
    )
    async def test_a_changed_inventory_is_told_once(
        self, agent: Agent, coordinator: Coordinator, field: str, value: int
    ) -> None:
        async with reporting(agent):
            session_id = (await coordinator.request("Register")).session_id
            setattr(agent.host.inventory_now, field, value)
            told = await coordinator.request("ReportInventory")
            await nothing(coordinator, "ReportInventory")
        assert (told.session_id, told.inventory) == (session_id, agent.host.inventory_now)

    async def test_a_device_that_is_not_offered_any_more_is_told(self, agent: Agent, coordinator: Coordinator) -> None:
        disk = host_pb2.Device(id="wwn-0x5000", kind="disk")
        agent.host.inventory_now.devices.append(disk)
        async with reporting(agent):
            await coordinator.request("Register")
            agent.host.inventory_now.devices[0].withheld_reason = "mounted"
            told = await coordinator.request("ReportInventory")
        assert [device.withheld_reason for device in told.inventory.devices] == ["mounted"]

    async def test_a_change_that_somebody_noticed_is_told_at_once(
        self, agent: Agent, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reporter_module, "_INVENTORY_SECONDS", 3600)
        async with reporting(agent):
            await coordinator.request("Register")
            agent.host.inventory_now.devices.append(host_pb2.Device(id="usb-0000:00:14.0-0-4", kind="usb"))
            await nothing(coordinator, "ReportInventory")
            agent.changes.changed.set()
            told = await coordinator.request("ReportInventory")
        assert [device.kind for device in told.inventory.devices] == ["usb"]

    async def test_a_device_is_told_within_two_seconds_after_it_was_plugged_or_pulled(
        self, agent: Agent, coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reporter_module, "_INVENTORY_SECONDS", 3600)
        (tmp_path / "machine").mkdir()
        node, bell = Node(Machine(tmp_path / "machine")), Bell()
        node.add_usb("1-4", "0951:1666")

        async def read_inventory(_known: Memory | None = None) -> host_pb2.HostInventory:
            return host_pb2.HostInventory(vcpus=8, devices=await asyncio.to_thread(node.discover))

        monkeypatch.setattr(agent.host, "inventory", read_inventory)
        async with watching(lambda: bell) as watch:
            agent.reporter._changes = watch
            async with reporting(agent):
                (device,) = (await coordinator.request("Register")).inventory.devices
                for number, ids in ((6, ["usb-0000:00:14.0-0-4", "usb-0000:00:14.0-0-5"]), (None, [device.id])):
                    if number:
                        node.add_usb("1-5", "1a86:7523", number=number)
                    else:
                        (node.machine.root / "bus/usb/devices/1-5").unlink()
                    for _ in range(12):
                        bell.ring()
                    with Stopwatch() as stopwatch:
                        told = await coordinator.request("ReportInventory")
                    assert stopwatch.seconds < 2
                    assert [device.id for device in told.inventory.devices] == ids

    async def test_what_a_domain_had_is_looked_at_when_the_domain_changes(
        self, agent: Agent, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reporter_module, "_INVENTORY_SECONDS", 3600)
        gpu = host_pb2.Device(id="0000:3b:00.0", kind="gpu", withheld_reason="used by domain test")
        agent.host.inventory_now.devices.append(gpu)
        async with reporting(agent):
            await coordinator.request("Register")
            agent.host.inventory_now.devices[0].withheld_reason = ""
            await nothing(coordinator, "ReportInventory")
            agent.events.publish(DomainChange(UUID, "test", "stopped"))
            told = await coordinator.request("ReportInventory")
            assert [device.withheld_reason for device in told.inventory.devices] == [""]
            agent.host.inventory_now.vcpus = 4
            agent.events.publish(DomainChange(UUID, "test", "started"))
            await nothing(coordinator, "ReportInventory")

    async def test_news_that_nobody_took_are_told_again_before_long(
        self, agent: Agent, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reporter_module, "_INVENTORY_SECONDS", 3600)
        coordinator.failures["ReportInventory"] = [grpc.StatusCode.UNAVAILABLE]
        async with reporting(agent):
            await coordinator.request("Register")
            agent.host.inventory_now.vcpus = 4
            agent.changes.changed.set()
            told = [(await coordinator.request("ReportInventory")).inventory.vcpus for _ in range(2)]
        assert told == [4, 4]

    async def test_changed_facts_are_told(self, agent: Agent, coordinator: Coordinator) -> None:
        async with reporting(agent):
            await coordinator.request("Register")
            agent.host.hostname = "host-b"
            assert (await coordinator.request("ReportInventory")).facts.hostname == "host-b"

    async def test_news_that_did_not_arrive_are_news_still(self, agent: Agent, coordinator: Coordinator) -> None:
        coordinator.failures["ReportInventory"] = [grpc.StatusCode.UNAVAILABLE]
        async with reporting(agent):
            await coordinator.request("Register")
            agent.host.hostname = "host-b"
            told = [await coordinator.request("ReportInventory") for _ in range(2)]
            await nothing(coordinator, "ReportInventory")
        assert told[0] == told[1]
        assert agent.sessions == [True]


class TestRetry:
    """How long it waits before it tries again; told in the log, so that nobody has to wait here."""

    @pytest.fixture(autouse=True)
    def _at_once(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody waits, and every session lasts longer than the longest pause."""
        monkeypatch.setattr("random.uniform", lambda _low, _high: 0.0)
        monkeypatch.setattr(reporter_module, "_FIRST_RETRY_SECONDS", 0.5)
        monkeypatch.setattr(reporter_module, "_LAST_RETRY_SECONDS", 15.0)
        clock = SimpleNamespace(monotonic=lambda: agent.sessions.count(True) * 15.1)
        monkeypatch.setattr(reporter_module, "time", clock)

    async def test_failures_make_it_ask_ever_less_often(self, agent: Agent, coordinator: Coordinator) -> None:
        coordinator.failures["Register"] = [grpc.StatusCode.UNAVAILABLE] * 7
        assert await self._pauses(agent, 7) == [0.5, 1, 2, 4, 8, 15, 15]

    async def test_a_long_session_ends_the_caution(self, agent: Agent, coordinator: Coordinator) -> None:
        coordinator.failures["Register"] = [grpc.StatusCode.UNAVAILABLE] * 2
        coordinator.failures["Heartbeat"] = [grpc.StatusCode.FAILED_PRECONDITION]
        assert await self._pauses(agent, 3) == [0.5, 1, 0.5]

    async def _pauses(self, agent: Agent, count: int) -> list[float]:
        with capture_logs() as logs:
            async with reporting(agent):
                await eventually(lambda: agent.sessions.count(False) >= count and agent.sessions[-1])
        return [entry["retry_seconds"] for entry in logs if entry["event"] == "coordinator.session_ended"][:count]
