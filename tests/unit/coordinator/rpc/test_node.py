"""What agents tell, and what of it is seen afterwards: real gRPC and TLS, both databases."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from sqlmodel import SQLModel, select

from coordinator.domain.caller import Caller, Role
from coordinator.domain.clock import utc_now
from coordinator.domain.instance import InstanceStatus, PowerState
from coordinator.domain.lease import Heartbeat, LeaseBook, NodeSession
from coordinator.domain.placement import ResourceClass
from coordinator.services.domain_report import IO_ERROR_MESSAGE
from coordinator.services.ha_config import set_tolerance
from coordinator.services.node_report import LeaseSweep, expire_leases, refresh_leases
from coordinator.services.overcommit import set_cpu_overcommit
from coordinator.store.queries.node import find_inventories, find_reported_domains
from coordinator.store.tables import Allocation, Event, Instance, Interruption, Node, Tenant
from protos.agent.v1 import domain_pb2, host_pb2
from protos.coordinator.v1 import node_pb2, node_pb2_grpc
from tests.builders import a_flavor, a_flavor_type, a_node, a_tenant, add, an_instance
from tests.unit.coordinator.rpc.conftest import Cloud

GIB = 1024**3
PATIENCE_SECONDS = 60
RUNNING = domain_pb2.POWER_STATE_RUNNING
SHUTOFF = domain_pb2.POWER_STATE_SHUTOFF
CRASHED = domain_pb2.POWER_STATE_CRASHED
ABSENT = domain_pb2.POWER_STATE_ABSENT
ANSWERING = domain_pb2.GUEST_AGENT_STATE_RUNNING
SILENT = domain_pb2.GUEST_AGENT_STATE_NOT_RESPONDING


class Agent:
    """The agent of one node, as far as the coordinator hears of it."""

    def __init__(self, cloud: Cloud, node_id: str, stub: "node_pb2_grpc.NodeServiceAsyncStub") -> None:
        self.runtime = cloud.runtime
        self.node_id = node_id
        self.stub = stub
        self.session_id = str(uuid4())

    async def register(self, *domains: domain_pb2.Domain, **fields: Any) -> node_pb2.RegisterResponse:
        request = node_pb2.RegisterRequest(
            **{
                "facts": facts(),
                "inventory": host_pb2.HostInventory(vcpus=8, memory_bytes=16 * GIB, storage_bytes=100 * GIB),
                "domains": domains,
                "advertise_address": "192.0.2.1:8446",
                "session_id": self.session_id,
                **fields,
            }
        )
        return await self.stub.Register(request, timeout=PATIENCE_SECONDS)

    async def heartbeat(self, sequence: int = 0, **self_fence: Any) -> node_pb2.HeartbeatResponse:
        request = node_pb2.HeartbeatRequest(
            session_id=self.session_id, sequence=sequence, self_fence=node_pb2.SelfFence(**self_fence)
        )
        return await self.stub.Heartbeat(request, timeout=PATIENCE_SECONDS)

    async def report(self, *numbered: tuple[int, domain_pb2.Domain]) -> int:
        events = [
            node_pb2.ReportedEvent(sequence=number, event=domain_pb2.DomainEvent(domain=domain))
            for number, domain in numbered
        ]
        request = node_pb2.ReportEventsRequest(session_id=self.session_id, events=events)
        return (await self.stub.ReportEvents(request, timeout=PATIENCE_SECONDS)).acknowledged_sequence

    def row(self) -> Node:
        with self.runtime.database.read() as session:
            return session.get_one(Node, self.node_id)


def facts(**fields: Any) -> host_pb2.HostFacts:
    return host_pb2.HostFacts(
        **{
            "hostname": "host-a",
            "architecture": host_pb2.ARCHITECTURE_X86_64,
            "cpu": host_pb2.CpuFacts(model_name="EPYC 9654", logical_cpus=8),
            "memory_bytes": 16 * GIB,
            "agent_version": "0.1.0",
            "traits": ["uefi", "kvm"],
            **fields,
        }
    )


def a_domain(uuid: str, state: domain_pb2.PowerState = RUNNING, **fields: Any) -> domain_pb2.Domain:
    return domain_pb2.Domain(uuid=uuid, name="ecs-of-a-test", power_state=state, **fields)


def fenced_domain(uuid: str) -> node_pb2.FencedDomain:
    fenced = node_pb2.FencedDomain(uuid=uuid)
    fenced.fenced_at.FromSeconds(1_700_000_000)
    fenced.silence.FromTimedelta(timedelta(seconds=26))
    return fenced


@pytest.fixture
async def agent(cloud: Cloud) -> AsyncIterator[Agent]:
    member = await cloud.join()
    async with cloud.peer_channel(member.key_pem, member.certificate_pem) as channel:
        yield Agent(cloud, member.node_id, node_pb2_grpc.NodeServiceStub(channel))


@pytest.fixture
def instance(agent: Agent) -> Instance:
    """A running instance that is placed on the agent's node."""
    return place(agent, status=InstanceStatus.RUNNING, power_state=PowerState.RUNNING)


def place(agent: Agent, **columns: Any) -> Instance:
    with agent.runtime.database.write() as session:
        tenant: Tenant = a_tenant()
        kind = a_flavor_type()
        add(session, tenant, kind)
        flavor = a_flavor(kind)
        made = an_instance(tenant, flavor, node=session.get(Node, agent.node_id), **columns)
        add(session, flavor, made)
    return made


def reload(agent: Agent, instance: Instance) -> Instance:
    with agent.runtime.database.read() as session:
        return session.get_one(Instance, instance.id)


def rows(agent: Agent, table: type[SQLModel]) -> list[Any]:
    with agent.runtime.database.read() as session:
        return list(session.exec(select(table)).all())


def later(agent: Agent, seconds: float) -> None:
    """Turns the coordinator's clock."""
    agent.runtime.now = lambda: utc_now() + timedelta(seconds=seconds)


async def test_registered_node_is_ready_and_described(agent: Agent) -> None:
    answer = await agent.register()
    node = agent.row()
    assert (node.ready, node.zone, node.address) == (True, "AZ0", "192.0.2.1:8446")
    assert (node.architecture, node.cpu_model, node.traits) == ("x86", "EPYC 9654", ["kvm", "uefi"])
    assert node.facts["cpu"]["model_name"] == "EPYC 9654"
    assert answer.lease.ToTimedelta() == timedelta(seconds=30)
    assert answer.heartbeat_interval.ToTimedelta() == timedelta(seconds=5)


async def test_inventory_keeps_what_is_reserved_for_the_host(agent: Agent) -> None:
    agent.runtime.settings.cpu_allocation_ratio = 4.0
    agent.runtime.settings.reserved_host_vcpus = 1
    await agent.register()
    with agent.runtime.database.read() as session:
        offered = find_inventories(session, agent.node_id)
    amounts = {name: (row.total, row.reserved, row.allocation_ratio) for name, row in offered.items()}
    assert amounts == {
        ResourceClass.VCPU: (8, 1, 4.0),
        ResourceClass.MEMORY_MIB: (16 * 1024, 512, 1.0),
        ResourceClass.STORAGE_GIB: (100, 0, 1.0),
    }


async def test_a_stored_ratio_of_the_zone_beats_that_of_the_region_and_the_configuration(agent: Agent) -> None:
    agent.runtime.settings.cpu_allocation_ratio = 4.0
    set_cpu_overcommit(agent.runtime, Caller("tok-of-the-tests", Role.OPERATOR), 2, [("AZ0", 3)])
    await agent.register()
    with agent.runtime.database.read() as session:
        assert find_inventories(session, agent.node_id)[ResourceClass.VCPU].allocation_ratio == 3.0
    set_cpu_overcommit(agent.runtime, Caller("tok-of-the-tests", Role.OPERATOR), 2, [])
    with agent.runtime.database.read() as session:
        assert find_inventories(session, agent.node_id)[ResourceClass.VCPU].allocation_ratio == 2.0


async def test_new_inventory_makes_claims_look_again(agent: Agent) -> None:
    await agent.register()
    before = agent.row().generation
    request = node_pb2.ReportInventoryRequest(
        session_id=agent.session_id, facts=facts(), inventory=host_pb2.HostInventory(vcpus=16)
    )
    await agent.stub.ReportInventory(request, timeout=PATIENCE_SECONDS)
    with agent.runtime.database.read() as session:
        assert find_inventories(session, agent.node_id)[ResourceClass.VCPU].total == 16
    assert agent.row().generation > before


async def test_inventory_without_news_costs_no_write(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = host_pb2.Device(id="0xabc", kind="disk", attributes={"model": "X"}, size_bytes=GIB)
    offered: dict[str, Any] = {"vcpus": 8, "storage_bytes": 100 * GIB, "devices": [disk]}
    described = facts(numa_nodes=[host_pb2.NumaNode(id=0, cpu_ids=range(8), memory_bytes=16 * GIB)])
    await agent.register(facts=described, inventory=host_pb2.HostInventory(**offered, storage_free_bytes=9 * GIB))
    before = agent.row()
    written = Counter[str]()
    monkeypatch.setattr(agent.runtime.database, "before_commit", lambda _: written.update(["commit"]))
    # The last one is news.
    for free_gib, vcpus in ((9, 8), (1, 8), (1, 16)):
        inventory = host_pb2.HostInventory(**{**offered, "vcpus": vcpus}, storage_free_bytes=free_gib * GIB)
        request = node_pb2.ReportInventoryRequest(session_id=agent.session_id, facts=described, inventory=inventory)
        assert agent.row() == before
        assert not written
        await agent.stub.ReportInventory(request, timeout=PATIENCE_SECONDS)
    assert agent.row().generation > before.generation
    assert written


async def test_the_storage_of_a_node_is_the_one_that_it_told_last(agent: Agent) -> None:
    await agent.register()
    assert agent.row().storage_id == ""
    for storage_id in (str(uuid4()), str(uuid4())):
        inventory = host_pb2.HostInventory(vcpus=8, storage_id=storage_id)
        request = node_pb2.ReportInventoryRequest(session_id=agent.session_id, facts=facts(), inventory=inventory)
        await agent.stub.ReportInventory(request, timeout=PATIENCE_SECONDS)
        assert agent.row().storage_id == storage_id


async def test_node_in_an_unknown_zone_is_refused(agent: Agent) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await agent.register(zone="elsewhere")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not agent.row().ready


async def test_heartbeats_keep_a_node_ready(agent: Agent) -> None:
    await agent.register()
    later(agent, 25)
    await agent.heartbeat()
    assert expire_leases(agent.runtime) == []
    later(agent, 50)
    assert expire_leases(agent.runtime) == []
    assert agent.row().ready


async def test_silent_node_is_given_up_and_its_instances_are_unknown(agent: Agent, instance: Instance) -> None:
    await agent.register(a_domain(instance.uuid))
    later(agent, 31)
    assert expire_leases(agent.runtime) == [agent.node_id]
    assert not agent.row().ready
    seen = reload(agent, instance)
    assert seen.status == InstanceStatus.UNKNOWN
    assert "node host-a is away" in seen.error_message


async def test_node_that_comes_back_tells_the_truth_again(agent: Agent, instance: Instance) -> None:
    await agent.register(a_domain(instance.uuid))
    later(agent, 31)
    expire_leases(agent.runtime)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await agent.heartbeat()
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    await agent.register(a_domain(instance.uuid, SHUTOFF))
    seen = reload(agent, instance)
    assert (seen.status, seen.error_message) == (InstanceStatus.STOPPED, "")


async def test_instance_with_a_running_task_keeps_its_status_when_the_node_is_lost(agent: Agent) -> None:
    await agent.register()
    busy = place(agent, status=InstanceStatus.STARTING, task_id="op-1")
    later(agent, 31)
    expire_leases(agent.runtime)
    assert reload(agent, busy).status == InstanceStatus.STARTING


async def test_coordinator_that_was_away_does_not_blame_its_nodes(agent: Agent) -> None:
    await agent.register()
    later(agent, 3600)
    refresh_leases(agent.runtime)
    assert expire_leases(agent.runtime) == []


async def test_coordinator_that_stood_still_does_not_blame_its_nodes(agent: Agent, instance: Instance) -> None:
    await agent.register(a_domain(instance.uuid))
    clock = 0.0
    sweep = LeaseSweep(agent.runtime, monotonic=lambda: clock)
    later(agent, 100)
    clock = 100.0
    assert sweep() == []
    assert reload(agent, instance).status == InstanceStatus.RUNNING
    # From here on it looks in time again: silence is the node's own.
    for seconds in (110, 120, 131):
        later(agent, seconds)
        clock = float(seconds)
        lost = sweep()
    assert lost == [agent.node_id]


async def test_nodes_are_not_blamed_for_a_database_that_was_away(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    await agent.register()
    clock = 0.0
    sweep = LeaseSweep(agent.runtime, monotonic=lambda: clock)
    with monkeypatch.context() as broken:
        broken.setattr("coordinator.store.queries.node.find_lapsed", lambda *_: 1 / 0)
        for seconds in range(10, 50, 10):
            later(agent, seconds)
            clock = float(seconds)
            with pytest.raises(ZeroDivisionError):
                sweep()
    assert sweep() == []
    assert agent.row().ready


async def test_clock_that_was_turned_does_not_cost_nodes(agent: Agent) -> None:
    await agent.register()
    sweep = LeaseSweep(agent.runtime, monotonic=lambda: 1.0)
    later(agent, 3600)
    assert sweep() == []
    assert agent.row().ready


async def test_second_machine_with_a_nodes_identity_is_refused_while_the_first_is_alive(agent: Agent) -> None:
    await agent.register()
    first, agent.session_id = agent.session_id, str(uuid4())
    with pytest.raises(grpc.aio.AioRpcError, match=r"alive at 192\.0\.2\.1:8446") as caught:
        await agent.register(advertise_address="192.0.2.2:8446")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert (agent.row().address, agent.row().session_id) == ("192.0.2.1:8446", first)
    # The same machine starts its agent anew at any time, and with another address after its lease.
    await agent.register()
    agent.session_id = str(uuid4())
    later(agent, 31)
    await agent.register(advertise_address="192.0.2.2:8446")
    assert agent.row().address == "192.0.2.2:8446"


async def test_session_is_known_to_a_restarted_coordinator(agent: Agent) -> None:
    await agent.register()
    agent.runtime.leases = LeaseBook()
    await agent.heartbeat()


async def test_another_session_must_register_first(agent: Agent) -> None:
    await agent.register()
    agent.session_id = "other"
    for call in (agent.heartbeat(), agent.report((1, a_domain(str(uuid4()))))):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_event_changes_what_is_shown(agent: Agent, instance: Instance) -> None:
    await agent.register(a_domain(instance.uuid))
    assert await agent.report((1, a_domain(instance.uuid, SHUTOFF))) == 1
    assert reload(agent, instance).status == InstanceStatus.STOPPED


async def test_repeated_events_change_nothing(agent: Agent, instance: Instance) -> None:
    await agent.register(a_domain(instance.uuid))
    await agent.report((1, a_domain(instance.uuid, SHUTOFF)), (2, a_domain(instance.uuid, RUNNING)))
    assert await agent.report((1, a_domain(instance.uuid, SHUTOFF))) == 2
    assert reload(agent, instance).status == InstanceStatus.RUNNING


async def test_events_of_a_new_session_count_from_one_again(agent: Agent, instance: Instance) -> None:
    await agent.register(a_domain(instance.uuid))
    await agent.report((7, a_domain(instance.uuid, RUNNING)))
    agent.session_id = str(uuid4())
    await agent.register(a_domain(instance.uuid))
    assert await agent.report((1, a_domain(instance.uuid, SHUTOFF))) == 1
    assert reload(agent, instance).status == InstanceStatus.STOPPED


async def test_task_owns_the_status_while_power_is_still_told(agent: Agent) -> None:
    await agent.register()
    busy = place(agent, status=InstanceStatus.STOPPING, power_state=PowerState.RUNNING, task_id="op-1")
    await agent.report((1, a_domain(busy.uuid, SHUTOFF)))
    seen = reload(agent, busy)
    assert (seen.status, seen.power_state) == (InstanceStatus.STOPPING, PowerState.SHUTOFF)


async def test_crash_is_told_and_forgotten_with_the_next_start(agent: Agent, instance: Instance) -> None:
    await agent.register(a_domain(instance.uuid))
    await agent.report((1, a_domain(instance.uuid, CRASHED)))
    crashed = reload(agent, instance)
    assert (crashed.status, crashed.error_message) == (InstanceStatus.STOPPED, "the guest crashed")
    await agent.report((2, a_domain(instance.uuid, RUNNING)))
    assert reload(agent, instance).error_message == ""


async def test_guest_that_could_not_write_its_disk_says_so_until_it_runs(agent: Agent, instance: Instance) -> None:
    await agent.register(a_domain(instance.uuid))
    paused = a_domain(instance.uuid, domain_pb2.POWER_STATE_PAUSED, power_state_reason="ioerror")
    await agent.report((1, paused))
    seen = reload(agent, instance)
    assert (seen.status, seen.error_message) == (InstanceStatus.PAUSED, IO_ERROR_MESSAGE)
    await agent.report((2, a_domain(instance.uuid, RUNNING)))
    assert reload(agent, instance).error_message == ""


@pytest.mark.parametrize("way", ["register", "event"])
async def test_domain_that_is_gone_makes_its_instance_unknown(agent: Agent, instance: Instance, way: str) -> None:
    await agent.register(a_domain(instance.uuid))
    if way == "register":
        await agent.register()
    else:
        await agent.report((1, a_domain(instance.uuid, ABSENT)))
    seen = reload(agent, instance)
    assert (seen.status, seen.power_state) == (InstanceStatus.UNKNOWN, PowerState.ABSENT)
    assert "gone from node host-a" in seen.error_message


async def test_guest_tools_are_told_as_they_are_seen(agent: Agent, instance: Instance) -> None:
    await agent.register(a_domain(instance.uuid, guest_agent_state=SILENT))
    assert reload(agent, instance).vmtools_status == "VmtoolsNotInstalled"
    probed = a_domain(instance.uuid, guest_agent_state=ANSWERING, guest_agent_version="9.2", guest_monitor_version=1)
    await agent.report((1, probed))
    seen = reload(agent, instance)
    assert (seen.vmtools_status, seen.vmtools_version, seen.monitor_version) == ("VmtoolsRunning", "9.2", 1)
    # It has come anew, and nobody has asked it yet.
    await agent.report((2, a_domain(instance.uuid, guest_agent_state=ANSWERING)))
    assert reload(agent, instance).monitor_version == 1
    probed.guest_monitor_version = 0
    await agent.report((3, probed))
    assert reload(agent, instance).monitor_version == 0
    await agent.report((4, a_domain(instance.uuid, guest_agent_state=SILENT)))
    assert reload(agent, instance).vmtools_status == "VmtoolsNotRunning"


async def test_failed_operation_keeps_its_reason_over_reports(agent: Agent) -> None:
    await agent.register()
    stubborn = place(
        agent, status=InstanceStatus.RUNNING, power_state=PowerState.RUNNING, error_message="the guest did not stop"
    )
    await agent.report((1, a_domain(stubborn.uuid, RUNNING)))
    assert reload(agent, stubborn).error_message == "the guest did not stop"


async def test_foreign_domains_are_recorded_and_left_alone(agent: Agent) -> None:
    foreign = str(uuid4())
    answer = await agent.register(a_domain(foreign, foreign=True))
    assert list(answer.unexpected_domain_uuids) == []
    with agent.runtime.database.read() as session:
        assert find_reported_domains(session, agent.node_id)[foreign].foreign
    await agent.register()
    with agent.runtime.database.read() as session:
        assert find_reported_domains(session, agent.node_id) == {}


async def test_own_domain_that_nobody_placed_there_is_told(agent: Agent, instance: Instance) -> None:
    stray, external = str(uuid4()), str(uuid4())
    with agent.runtime.database.write() as session:
        session.add(
            Allocation(
                consumer_uuid=external,
                node_id=agent.node_id,
                resource_class=ResourceClass.VCPU,
                amount=1,
                external=True,
            )
        )
    answer = await agent.register(a_domain(stray), a_domain(external), a_domain(instance.uuid))
    assert list(answer.unexpected_domain_uuids) == [stray]


async def test_instance_on_another_node_is_not_touched(agent: Agent) -> None:
    await agent.register()
    elsewhere = place(agent, status=InstanceStatus.RUNNING, power_state=PowerState.RUNNING)
    with agent.runtime.database.write() as session:
        row = session.get_one(Instance, elsewhere.id)
        row.node_id = None
        session.add(row)
    await agent.report((1, a_domain(elsewhere.uuid, SHUTOFF)))
    assert reload(agent, elsewhere).status == InstanceStatus.RUNNING


async def test_heartbeats_cost_no_transaction_until_the_sweep(agent: Agent) -> None:
    await agent.register()
    before = agent.row().lease_expires_at
    later(agent, 10)
    await agent.heartbeat()
    assert agent.row().lease_expires_at == before
    expire_leases(agent.runtime)
    after = agent.row().lease_expires_at
    assert before is not None
    assert after is not None
    assert after > before


async def test_a_node_with_another_session_by_now_is_told_apart_from_the_others(agent: Agent) -> None:
    await agent.register()
    moved = a_node("host-b", session_id="new", lease_expires_at=None)
    with agent.runtime.database.write() as session:
        add(session, moved)
    former = NodeSession(moved.id, "former")
    agent.runtime.leases.open(former)
    agent.runtime.leases.renew(former, Heartbeat(agent.runtime.now(), sequence=1))
    await agent.heartbeat(1)
    expire_leases(agent.runtime)
    assert agent.runtime.leases.renew(former, Heartbeat(agent.runtime.now())) is None
    with agent.runtime.database.read() as session:
        assert session.get_one(Node, moved.id).heard_at is None
    assert (await agent.heartbeat(2)).ha_terms.stored_heartbeat == 1


async def test_a_node_renews_its_own_lease_by_what_is_stored(agent: Agent) -> None:
    assert (await agent.register()).ha_tolerance_seconds == 120
    told = await agent.heartbeat(1)
    assert (told.ha_terms.stored_heartbeat, told.ha_terms.ha_tolerance_seconds) == (0, 120)
    await agent.heartbeat(2)
    expire_leases(agent.runtime)
    await agent.heartbeat(3)
    assert (await agent.heartbeat(4)).ha_terms.stored_heartbeat == 2


async def test_what_could_not_be_stored_is_not_acknowledged(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    await agent.register()
    await agent.heartbeat(1)

    def fail(*_arguments: object) -> bool:
        raise OSError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr("coordinator.store.queries.node.extend_leases", fail)
        with pytest.raises(OSError, match="full"):
            expire_leases(agent.runtime)
    assert (await agent.heartbeat(2)).ha_terms.stored_heartbeat == 0
    expire_leases(agent.runtime)
    assert (await agent.heartbeat(3)).ha_terms.stored_heartbeat == 2


async def test_a_coordinator_that_takes_over_tells_nothing_before_it_has_stored(agent: Agent) -> None:
    await agent.register()
    agent.runtime.leases = LeaseBook()
    assert not (await agent.heartbeat(7)).HasField("ha_terms")
    expire_leases(agent.runtime)
    assert (await agent.heartbeat(8)).ha_terms.stored_heartbeat == 7


async def test_when_and_how_a_node_was_last_heard_of_is_known(agent: Agent) -> None:
    await agent.register()
    registered = agent.row()
    assert registered.heard_at is not None
    assert (registered.self_fence, registered.ha_tolerance_seconds) == (False, 120)
    later(agent, 10)
    await agent.heartbeat(1, armed=True, tolerance_seconds=120)
    assert agent.row() == registered
    expire_leases(agent.runtime)
    heard = agent.row()
    assert heard.heard_at is not None
    assert (heard.heard_at - registered.heard_at).total_seconds() == pytest.approx(10, abs=5)
    assert heard.self_fence


async def test_a_node_that_goes_by_no_tolerance_is_not_relied_on(agent: Agent) -> None:
    # Its watchdog runs, and does not know yet that it has anything to do.
    await agent.register(self_fence=node_pb2.SelfFence(armed=True))
    assert not agent.row().self_fence
    await agent.heartbeat(1, armed=True)
    expire_leases(agent.runtime)
    assert not agent.row().self_fence
    await agent.heartbeat(2, armed=True, tolerance_seconds=120)
    expire_leases(agent.runtime)
    assert agent.row().self_fence


async def test_a_shorter_tolerance_counts_when_the_node_goes_by_it(agent: Agent) -> None:
    await agent.register()
    set_tolerance(agent.runtime, Caller("tok-x", Role.OPERATOR), 30)

    async def beat(sequence: int, tolerance_seconds: int) -> tuple[int, int]:
        told = await agent.heartbeat(sequence, armed=True, tolerance_seconds=tolerance_seconds)
        expire_leases(agent.runtime)
        return told.ha_terms.ha_tolerance_seconds, agent.row().ha_tolerance_seconds

    # Told 120 with the registration, and again with the first answer; the second tells 30, which it may not get.
    assert await beat(1, 120) == (120, 120)
    assert await beat(2, 120) == (30, 120)
    assert await beat(3, 120) == (30, 120)
    assert await beat(4, 30) == (30, 30)
    set_tolerance(agent.runtime, Caller("tok-x", Role.OPERATOR), 600)
    # Stored before it is told.
    assert await beat(5, 30) == (30, 600)
    assert await beat(6, 30) == (600, 600)


async def test_a_guest_that_its_node_has_ended_says_why_and_may_be_started_there(
    agent: Agent, instance: Instance
) -> None:
    fenced = [fenced_domain(instance.uuid), fenced_domain(str(uuid4()))]
    answer = await agent.register(a_domain(instance.uuid, CRASHED), fenced_domains=fenced)
    assert list(answer.released_domain_uuids) == [instance.uuid]
    assert reload(agent, instance).error_message == (
        "node host-a ended the guest at 2023-11-14T22:13:20+00:00: it had not heard of the coordinator for 26 s, so "
        "the guest might have been started elsewhere"
    )
    with agent.runtime.database.write() as session:
        session.get_one(Instance, instance.id).task_id = None
    await agent.register(a_domain(instance.uuid, RUNNING))
    assert reload(agent, instance).error_message == ""


async def test_what_its_node_has_ended_is_to_start_there_again(agent: Agent, instance: Instance) -> None:
    stopping = place(agent, status=InstanceStatus.STOPPING, power_state=PowerState.RUNNING, task_id="op-stop")
    moving = place(agent, status=InstanceStatus.STARTING, power_state=PowerState.RUNNING, task_id="op-recovery")
    uuids = [instance.uuid, stopping.uuid, moving.uuid]
    for _ in range(2):  # the answer may get lost
        domains = [a_domain(uuid, CRASHED) for uuid in uuids]
        await agent.register(*domains, fenced_domains=[fenced_domain(uuid) for uuid in uuids])
    assert {row.instance_id for row in rows(agent, Interruption)} == {instance.id, moving.id}
    assert len([row for row in rows(agent, Event) if row.kind == "instance.interrupted"]) == 2
    # It is ended once more while it boots.
    with agent.runtime.database.write() as session:
        session.get_one(Interruption, instance.id).booting_since = utc_now()
    await agent.register(a_domain(instance.uuid, CRASHED), fenced_domains=[fenced_domain(instance.uuid)])
    (again,) = [row for row in rows(agent, Interruption) if row.instance_id == instance.id]
    assert again.booting_since is None
    assert len([row for row in rows(agent, Event) if row.kind == "instance.interrupted"]) == 3


async def test_a_guest_that_moved_meanwhile_is_not_released(agent: Agent, instance: Instance) -> None:
    with agent.runtime.database.write() as session:
        session.get_one(Instance, instance.id).node_id = None
    answer = await agent.register(a_domain(instance.uuid, SHUTOFF), fenced_domains=[fenced_domain(instance.uuid)])
    assert list(answer.released_domain_uuids) == []
    assert list(answer.unexpected_domain_uuids) == [instance.uuid]


async def test_without_self_fencing_nodes_are_told_that_there_is_none(agent: Agent) -> None:
    agent.runtime.settings.fences = []
    assert (await agent.register()).ha_tolerance_seconds == 0
    assert agent.row().ha_tolerance_seconds == 0


async def test_another_boot_id_tells_what_the_node_has_interrupted(agent: Agent) -> None:
    ran, ended = (place(agent, status=InstanceStatus.RUNNING, power_state=PowerState.RUNNING) for _ in range(2))
    await agent.register(a_domain(ran.uuid), a_domain(ended.uuid), facts=facts(boot_id="boot-1"))
    domains = [a_domain(ran.uuid, SHUTOFF, power_state_reason="unknown"), a_domain(ended.uuid, SHUTOFF)]
    for _ in range(2):  # the answer may get lost
        await agent.register(*domains, facts=facts(boot_id="boot-2"), ended_domain_uuids=[ended.uuid])
    assert agent.row().boot_id == "boot-2"
    with agent.runtime.database.read() as session:
        assert session.exec(select(Interruption.instance_id)).all() == [ran.id]
        told = session.exec(select(Event).where(Event.kind == "node.rebooted")).all()
    assert [(event.resource_id, event.data["interrupted"]) for event in told] == [(agent.node_id, 1)]
