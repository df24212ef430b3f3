"""Moves of instances over REST: what is taken at once, what is answered, and what each end leaves."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from coordinator.domain.clock import utc_now
from coordinator.domain.instance import InstanceStatus, PowerState
from coordinator.domain.migration import MigrationState
from coordinator.domain.task import ATTEMPTS_OF_AN_HOUR
from coordinator.services.restart import RestartSweep
from coordinator.services.retention import forget_expired
from coordinator.store.tables import Allocation, Event, Instance, Migration, Node, Task, Volume
from protos.agent.v1 import domain_pb2, migration_pb2
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud, finish, register
from tests.builders import a_node, add, an_inventory
from tests.database import BOTH_DATABASES, SQLITE_ONLY
from tests.lab.waiting import wait_until
from tests.scripted_agent import Refusal, ScriptedAgent, all_at_work

CONFIG = "/api/ecs/v1/global-config"
NETWORK = f"{CONFIG}/network-config"
NO_STATUS = "ECS.InvalidParameter.Status.NotSupported"
UNSCHEDULABLE = "ECS.OperationFailed.Unschedulable"
LIVE_MIGRATE = "ECS.OperationFailed.LiveMigrate"


class Cluster:
    """Two nodes; instances begin on the first."""

    def __init__(self, cloud: Cloud, target: Node, agents: list[ScriptedAgent]) -> None:
        self.cloud = cloud
        self.target_node = target
        self.source, self.target = agents
        self.source.peer = self.target

    def create(self, api: Api, **fields: Any) -> str:
        """An instance that runs on the first node."""
        return self.cloud.create(api, hostId=self.cloud.node.id, **fields)

    def migrate(self, api: Api, ecs_id: str, **fields: Any) -> Any:
        """The answer to the request for a live migration."""
        body = {"nodeName": self.target_node.name, **fields}
        return api.call("POST", f"{INSTANCES}/{ecs_id}/live-migrate", body)

    def instance(self, ecs_id: str) -> Instance:
        """As it is stored."""
        found: Instance = next(row for row in self.cloud.rows(Instance) if row.ecs_id == ecs_id)
        return found

    def ended(self, api: Api, operation_id: str) -> Any:
        """The operation once it has ended."""
        shown = api.ok("GET", f"/api/ecs/v1/operations/{operation_id}")
        return shown["state"] not in ("Pending", "Running") and shown

    def holders(self, node: Node) -> set[str]:
        """Consumers that hold something on the node."""
        return {row.consumer_uuid for row in self.cloud.rows(Allocation) if row.node_id == node.id}

    def lose(self, node: Node) -> None:
        """The node's lease is over."""
        with self.cloud.runtime.database.write() as session:
            session.get_one(Node, node.id).ready = False

    def wait_until_clean(self, agent: ScriptedAgent, node: Node) -> None:
        """Nothing of any instance is left on the node, nor claimed."""
        wait_until(lambda: agent.is_empty() and not self.holders(node), f"{node.name} is clean")


@pytest.fixture
def target_node(cloud: Cloud) -> Node:
    node = a_node("node-b")
    with cloud.runtime.database.write() as session:
        add(session, node, *an_inventory(node))
    return node


@pytest.fixture
def cluster(cloud: Cloud, target_node: Node, tmp_path: Path) -> Iterator[Cluster]:
    with all_at_work(cloud.runtime, [cloud.node, target_node], tmp_path / "pki") as agents:
        yield Cluster(cloud, target_node, agents)


def test_an_instance_moves_with_all_that_it_holds(customer: Api, operator: Api, cluster: Cluster) -> None:
    ecs_id = cluster.create(customer)
    uuid, held = cluster.instance(ecs_id).uuid, cluster.holders(cluster.cloud.node)
    operation = finish(operator, cluster.migrate(customer, ecs_id))
    assert operation["state"] == "Succeeded", operation
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["nodeName"], shown["status"], shown["errMessage"]) == ("node-b", "Running", "")
    assert cluster.holders(cluster.target_node) == held == {uuid}
    assert set(cluster.target.domains) == {uuid}
    cluster.wait_until_clean(cluster.source, cluster.cloud.node)
    (move,) = customer.ok("GET", f"{INSTANCES}/{ecs_id}/migrations")["list"]
    assert (move["sourceNode"], move["targetNode"], move["state"]) == (cluster.cloud.node.name, "node-b", "Completed")


def test_moves_are_forgotten_after_a_time_but_not_while_a_node_is_to_be_cleaned(
    customer: Api, operator: Api, cluster: Cluster
) -> None:
    ecs_id = cluster.create(customer)
    gate = cluster.source.gates["ensure_volume_removed"] = threading.Event()
    finish(operator, cluster.migrate(customer, ecs_id))
    forget = replace(cluster.cloud.runtime, now=lambda: utc_now() + timedelta(days=31))
    forget_expired(forget)
    assert len(cluster.cloud.rows(Migration)) == 1
    gate.set()
    cluster.wait_until_clean(cluster.source, cluster.cloud.node)
    forget_expired(cluster.cloud.runtime)
    assert len(cluster.cloud.rows(Migration)) == 1
    (task,) = (row for row in cluster.cloud.rows(Task) if row.kind == "clean_node")
    wait_until(lambda: operator.ok("GET", f"/api/ecs/v1/operations/{task.id}")["state"] == "Succeeded", "it is over")
    forget_expired(forget)
    assert cluster.cloud.rows(Migration) == []


def test_the_regions_network_is_taken_unless_an_operator_names_another(
    customer: Api, operator: Api, cluster: Cluster
) -> None:
    operator.ok("PUT", NETWORK, {"globalNetwork": "cninet", "nodeInfoMethod": "ccos-api"})
    ecs_id = cluster.create(customer)
    finish(operator, cluster.migrate(customer, ecs_id))
    order, incoming = cluster.source.orders[-1], cluster.target.incoming[-1]
    assert (order.tls, incoming.network_role, order.auto_converge) == (True, "manage", True)
    assert len(order.copied_volume_uuids) == 1
    other = cluster.create(customer, displayName="other")
    assert cluster.migrate(customer, other, network="storage").code == "ECS.OperationDenied.Identity"
    options = {"network": "storage", "bandwidthMibPerSecond": 7, "maxDowntimeMs": 50, "allowPostCopy": True}
    finish(operator, cluster.migrate(operator, other, **options))
    order, incoming = cluster.source.orders[-1], cluster.target.incoming[-1]
    assert (order.tls, incoming.network_role) == (False, "storage")
    assert (order.bandwidth_mib_per_second, order.max_downtime_ms, order.allow_post_copy) == (7, 50, True)


def test_what_both_nodes_share_is_neither_copied_nor_removed(customer: Api, operator: Api, cluster: Cluster) -> None:
    ecs_id = cluster.create(customer)
    with cluster.cloud.runtime.database.write() as session:
        for node in (cluster.cloud.node, cluster.target_node):
            session.get_one(Node, node.id).storage_id = "one-place"
    volumes = dict(cluster.source.volumes)
    assert finish(operator, cluster.migrate(customer, ecs_id))["state"] == "Succeeded"
    assert list(cluster.source.orders[-1].copied_volume_uuids) == []
    wait_until(lambda: "ensure_port_removed" in cluster.source.calls, "the source is cleaned")
    assert (cluster.source.volumes, cluster.target.volumes) == (volumes, {})
    cluster.target.blockers["iso"] = "an ISO image"
    back = {"nodeName": cluster.cloud.node.name}
    assert finish(operator, operator.call("POST", f"{INSTANCES}/{ecs_id}/live-migrate", back))["state"] == "Failed"
    wait_until(lambda: "ensure_incoming_removed" in cluster.source.calls, "the target is cleaned")
    time.sleep(0.3)
    assert cluster.source.volumes == volumes


@BOTH_DATABASES
def test_the_target_is_claimed_at_once_and_let_go_when_it_fails(customer: Api, operator: Api, cluster: Cluster) -> None:
    ecs_id = cluster.create(customer)
    gate = cluster.target.gates["prepare_incoming"] = threading.Event()
    cluster.target.refusals["prepare_incoming"] = Refusal(code="GuestIncompatible", message="the CPU lacks avx9")
    answer = cluster.migrate(customer, ecs_id)
    (migration,) = cluster.cloud.rows(Migration)
    assert cluster.holders(cluster.target_node) == {migration.id}
    assert len(cluster.holders(cluster.cloud.node)) == 1
    wait_until(lambda: "prepare_incoming" in cluster.target.calls, "the target is asked")
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Migrating"
    gate.set()
    operation = finish(operator, answer)
    assert (operation["state"], operation["error"]["code"]) == ("Failed", "GuestIncompatible")
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["nodeName"], shown["status"]) == (cluster.cloud.node.name, "Running")
    assert "avx9" in shown["errMessage"]
    cluster.wait_until_clean(cluster.target, cluster.target_node)
    assert len(cluster.holders(cluster.cloud.node)) == 1


@pytest.mark.parametrize(
    ("code", "expected"), [("iso", "ECS.OperationFailed.MigrateIso"), ("host-device", LIVE_MIGRATE)]
)
def test_what_keeps_a_guest_is_told(customer: Api, operator: Api, cluster: Cluster, code: str, expected: str) -> None:
    ecs_id = cluster.create(customer)
    cluster.source.blockers[code] = "something of the host"
    operation = finish(operator, cluster.migrate(customer, ecs_id))
    assert operation["error"] == {"code": expected, "message": "something of the host"}
    cluster.wait_until_clean(cluster.target, cluster.target_node)
    assert "migrate" not in cluster.source.calls


def test_a_cancelled_migration_leaves_the_instance_where_it_was(customer: Api, operator: Api, cluster: Cluster) -> None:
    ecs_id = cluster.create(customer)
    cluster.source.gates["move"] = threading.Event()
    answer = cluster.migrate(customer, ecs_id)
    wait_until(lambda: cluster.source.orders, "the migration has begun")
    cancelling = operator.call("DELETE", f"{INSTANCES}/{ecs_id}/live-migrate")
    assert cancelling.headers["x-operation-id"] == answer.headers["x-operation-id"]
    assert finish(operator, answer)["state"] == "Canceled"
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Running"
    assert cluster.instance(ecs_id).node_id == cluster.cloud.node.id
    cluster.wait_until_clean(cluster.target, cluster.target_node)
    assert operator.call("DELETE", f"{INSTANCES}/{ecs_id}/live-migrate").code == NO_STATUS


def test_a_cancellation_that_comes_too_late_changes_nothing(customer: Api, operator: Api, cluster: Cluster) -> None:
    ecs_id = cluster.create(customer)
    gate = cluster.source.gates["move"] = threading.Event()
    cluster.source.refusals["cancel_migration"] = Refusal(code="DomainStateConflict", message="no way back")
    answer = cluster.migrate(customer, ecs_id)
    wait_until(lambda: cluster.source.orders, "the migration has begun")
    operator.ok("DELETE", f"{INSTANCES}/{ecs_id}/live-migrate")
    wait_until(lambda: "cancel_migration" in cluster.source.calls, "the source is told")
    gate.set()
    assert finish(operator, answer)["state"] == "Succeeded"
    assert cluster.instance(ecs_id).node_id == cluster.target_node.id


def test_a_cancellation_that_comes_too_late_changes_nothing_when_the_source_was_away_meanwhile(
    customer: Api, operator: Api, cluster: Cluster
) -> None:
    ecs_id = cluster.create(customer)
    gate = cluster.source.gates["move"] = threading.Event()
    cluster.source.refusals["cancel_migration"] = Refusal(code="DomainStateConflict", message="no way back")
    cluster.source.refusals["migrate"] = Refusal(status=grpc.StatusCode.UNAVAILABLE, code="", times=1)
    answer = cluster.migrate(customer, ecs_id)
    wait_until(lambda: cluster.source.orders, "the migration has begun")
    operator.ok("DELETE", f"{INSTANCES}/{ecs_id}/live-migrate")
    wait_until(lambda: "cancel_migration" in cluster.source.calls, "the source is told")
    gate.set()
    assert finish(operator, answer)["state"] == "Succeeded"
    assert cluster.instance(ecs_id).node_id == cluster.target_node.id
    cluster.wait_until_clean(cluster.source, cluster.cloud.node)


@BOTH_DATABASES
def test_a_guest_that_has_come_is_the_targets_even_if_that_is_lost_at_once(
    customer: Api, operator: Api, cluster: Cluster
) -> None:
    ecs_id = cluster.create(customer)
    cluster.target.refusals["get_domain"] = Refusal(status=grpc.StatusCode.UNAVAILABLE, code="")
    gate = cluster.source.gates["move"] = threading.Event()
    answer = cluster.migrate(customer, ecs_id)
    wait_until(lambda: cluster.source.orders, "the migration has begun")
    cluster.lose(cluster.target_node)
    gate.set()
    assert finish(operator, answer)["state"] == "Succeeded"
    instance = cluster.instance(ecs_id)
    # As such it is one of those that high availability starts elsewhere.
    assert (instance.node_id, instance.status) == (cluster.target_node.id, InstanceStatus.UNKNOWN)
    assert (instance.power_state, instance.task_id) == (PowerState.RUNNING, None)


def test_what_the_source_cannot_decide_the_target_does(customer: Api, operator: Api, cluster: Cluster) -> None:
    ecs_id = cluster.create(customer)
    cluster.source.ending = migration_pb2.MIGRATION_STATE_UNDECIDED
    operation = finish(operator, cluster.migrate(customer, ecs_id))
    assert (operation["state"], operation["error"]["code"]) == ("Failed", LIVE_MIGRATE)
    assert "ensure_resumed" in cluster.source.calls
    cluster.wait_until_clean(cluster.target, cluster.target_node)
    # Its node went down meanwhile: there is nothing to resume.
    cluster.source.refusals["ensure_resumed"] = Refusal(code="DomainStateConflict", message="the domain is off")
    operation = finish(operator, cluster.migrate(customer, ecs_id))
    assert operation["error"] == {"code": LIVE_MIGRATE, "message": "injected"}
    cluster.wait_until_clean(cluster.target, cluster.target_node)
    # The other way: it has come.
    uuid = cluster.instance(ecs_id).uuid
    cluster.target.domains[uuid] = cluster.source.domains[uuid]
    cluster.source.calls.clear()
    assert finish(operator, cluster.migrate(customer, ecs_id))["state"] == "Succeeded"
    assert "ensure_resumed" not in cluster.source.calls
    assert cluster.instance(ecs_id).node_id == cluster.target_node.id


def test_a_guest_that_moved_when_all_lost_their_power_is_started_where_it_has_come(
    customer: Api, operator: Api, cluster: Cluster
) -> None:
    runtime, nodes = cluster.cloud.runtime, (cluster.target_node, cluster.cloud.node)
    for node in nodes:
        register(runtime, node, "boot-1", [])
    ecs_id = cluster.create(customer)
    gate = cluster.source.gates["move"] = threading.Event()
    answer = cluster.migrate(customer, ecs_id)
    wait_until(lambda: cluster.source.orders, "it is on its way")
    # It has been cut over, and is in neither node's memory any more.
    (domain,) = cluster.source.domains.values()
    domain.power_state = domain_pb2.POWER_STATE_SHUTOFF
    for node in nodes:
        register(runtime, node, "boot-2", [])
    sweep = RestartSweep(runtime)
    assert sweep() == []
    gate.set()
    assert finish(operator, answer)["state"] == "Succeeded"
    assert sweep() == [ecs_id]
    wait_until(lambda: customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Running", "it runs again")
    assert set(cluster.target.domains) == {cluster.instance(ecs_id).uuid}


def test_a_source_that_is_lost_lets_the_target_decide(customer: Api, operator: Api, cluster: Cluster) -> None:
    ecs_id = cluster.create(customer)
    cluster.source.refusals["migrate"] = Refusal(status=grpc.StatusCode.UNAVAILABLE, code="", message="gone")
    answer = cluster.migrate(customer, ecs_id)
    wait_until(lambda: cluster.source.calls.count("migrate") > 1, "it is tried again")
    assert "ensure_incoming_removed" not in cluster.target.calls
    cluster.lose(cluster.cloud.node)
    operation = finish(operator, answer)
    assert operation["state"] == "Failed"
    assert "the source is lost" in operation["error"]["message"]
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert shown["status"] == "Unknown"
    assert "is away" in shown["errMessage"]
    assert cluster.instance(ecs_id).node_id == cluster.cloud.node.id


@BOTH_DATABASES
def test_no_more_move_at_once_than_the_region_admits(customer: Api, operator: Api, cluster: Cluster) -> None:
    operator.ok("PUT", f"{CONFIG}/live-migrate-limit", {"migrateLimit": 2})
    cluster.cloud.runtime.settings.migrations_per_node = 3
    ecs_ids = [cluster.create(customer, displayName=f"vm{number}") for number in range(4)]
    gate = cluster.source.gates["move"] = threading.Event()
    answers = [cluster.migrate(customer, ecs_id) for ecs_id in ecs_ids]
    wait_until(lambda: len(cluster.source.orders) == 2, "two are under way")
    time.sleep(0.5)
    states = [row.state for row in cluster.cloud.rows(Migration)]
    assert sorted(states) == [MigrationState.RUNNING] * 2 + [MigrationState.WAITING] * 2
    waiting = [operator.ok("GET", f"/api/ecs/v1/operations/{it.headers['x-operation-id']}") for it in answers]
    assert sum("as many as the region admits" in operation["message"] for operation in waiting) == 2
    operator.ok("PUT", f"{CONFIG}/live-migrate-limit", {"migrateLimit": 3})
    wait_until(lambda: len(cluster.source.orders) == 3, "the new limit counts at once")
    time.sleep(0.5)
    assert len(cluster.source.orders) == 3
    gate.set()
    assert all(finish(operator, answer)["state"] == "Succeeded" for answer in answers)


def test_a_batch_moves_who_can_and_tells_about_the_others(customer: Api, operator: Api, cluster: Cluster) -> None:
    first, second = (cluster.create(customer, displayName=name) for name in ("one", "two"))
    customer.ok("PUT", f"{INSTANCES}/{second}/lock", {"isLock": True})
    wishes = [{"ecsId": first}, {"ecsId": second, "nodeName": "node-b"}, {"ecsId": "ecs-nobody"}]
    answer = operator.call("POST", f"{INSTANCES}/batch-live-migrate", {"migrations": wishes})
    codes = {result["ecsId"]: result["code"] for result in answer.data}
    assert codes == {first: "Success", second: "ECS.OperationDenied.Identity", "ecs-nobody": "ECS.DBGet.NoData"}
    assert answer.headers["x-operation-id"] == answer.data[0]["operationId"]
    assert finish(operator, answer)["state"] == "Succeeded"
    assert cluster.instance(first).node_id == cluster.target_node.id
    refused = operator.call("POST", f"{INSTANCES}/batch-live-migrate", {"migrations": wishes[2:]})
    assert refused.code == "ECS.DBGet.NoData"
    twice = operator.call("POST", f"{INSTANCES}/batch-live-migrate", {"migrations": [wishes[0], wishes[0]]})
    assert twice.code == "ECS.InvalidParameter"
    assert customer.call("POST", f"{INSTANCES}/batch-live-migrate", {"migrations": wishes}).status == 400


def test_a_move_back_waits_until_the_node_is_clean(customer: Api, operator: Api, cluster: Cluster) -> None:
    ecs_id = cluster.create(customer)
    gate = cluster.source.gates["ensure_volume_removed"] = threading.Event()
    finish(operator, cluster.migrate(customer, ecs_id))
    cluster.target.peer = cluster.source
    body = {"nodeName": cluster.cloud.node.name}
    back = operator.call("POST", f"{INSTANCES}/{ecs_id}/live-migrate", body)
    time.sleep(0.5)
    assert not cluster.target.orders
    gate.set()
    assert finish(operator, back)["state"] == "Succeeded"
    assert cluster.source.volumes.keys() == {row.uuid for row in cluster.cloud.rows(Volume)}


def test_a_node_that_cannot_be_cleaned_now_is_cleaned_later(customer: Api, operator: Api, cluster: Cluster) -> None:
    ecs_id = cluster.create(customer)
    cluster.source.refusals["ensure_volume_removed"] = Refusal(code="VolumeInUse", message="a backup reads it", times=2)
    finish(operator, cluster.migrate(customer, ecs_id))
    cluster.wait_until_clean(cluster.source, cluster.cloud.node)
    (task,) = (row for row in cluster.cloud.rows(Task) if row.kind == "clean_node")
    assert wait_until(lambda: cluster.ended(operator, task.id), "the cleaning has ended")["state"] == "Succeeded"
    assert not [row for row in cluster.cloud.rows(Event) if row.kind == "alarm.node_not_cleaned"]


def test_who_cannot_clean_a_node_for_an_hour_tells_why(customer: Api, operator: Api, cluster: Cluster) -> None:
    ecs_id, node = cluster.create(customer), cluster.cloud.node
    gate = cluster.source.gates["ensure_volume_removed"] = threading.Event()
    cluster.source.refusals["ensure_volume_removed"] = Refusal(code="VolumeInUse", message="a backup reads it", times=1)
    finish(operator, cluster.migrate(customer, ecs_id))
    wait_until(lambda: "ensure_volume_removed" in cluster.source.calls, "the cleaning has begun")
    (task,) = (row for row in cluster.cloud.rows(Task) if row.kind == "clean_node")
    cluster.cloud.change(task, attempts=ATTEMPTS_OF_AN_HOUR)
    gate.set()
    told = wait_until(
        lambda: [row for row in cluster.cloud.rows(Event) if row.kind == "alarm.node_not_cleaned"], "it is told"
    )
    (event,) = told
    assert (event.severity, event.node_id, event.data["ecsId"]) == ("alarm", node.id, ecs_id)
    assert "a backup reads it" in event.data["reason"]
    shown = operator.ok("GET", "/api/ecs/v1/placement/differences")
    assert [it["nodeName"] for it in shown if it["kind"] == "node-not-clean"] == [node.name]


def test_the_cleanings_of_a_node_run_one_after_the_other(customer: Api, operator: Api, cluster: Cluster) -> None:
    ecs_id = cluster.create(customer)
    gate = cluster.source.gates["ensure_removed"] = threading.Event()
    finish(operator, cluster.migrate(customer, ecs_id))
    # The way back waits for the cleaning, is given up meanwhile, and leaves one of its own on the same node.
    back = cluster.migrate(customer, ecs_id, nodeName=cluster.cloud.node.name)
    operator.ok("DELETE", f"{INSTANCES}/{ecs_id}/live-migrate")
    assert finish(operator, back)["state"] == "Canceled"
    cleanings = [row for row in cluster.cloud.rows(Task) if row.kind == "clean_node"]
    assert len(cleanings) == 2
    assert {row.after_task_id for row in cleanings} & {row.id for row in cleanings}
    gate.set()
    cluster.wait_until_clean(cluster.source, cluster.cloud.node)


def test_a_node_is_never_rid_of_an_instance_that_is_on_it(customer: Api, operator: Api, cluster: Cluster) -> None:
    ecs_id = cluster.create(customer)
    gate = cluster.source.gates["ensure_removed"] = threading.Event()
    cluster.source.refusals["ensure_removed"] = Refusal(status=grpc.StatusCode.UNAVAILABLE, times=1)
    finish(operator, cluster.migrate(customer, ecs_id))
    wait_until(lambda: "ensure_removed" in cluster.source.calls, "the cleaning has begun")
    cluster.cloud.change(cluster.instance(ecs_id), node_id=cluster.cloud.node.id)
    gate.set()
    (task,) = (row for row in cluster.cloud.rows(Task) if row.kind == "clean_node")
    shown = wait_until(lambda: cluster.ended(operator, task.id), "the cleaning has ended")
    assert (shown["state"], shown["error"]["code"]) == ("Failed", NO_STATUS), shown
    assert cluster.source.calls.count("ensure_removed") == 1


def test_a_deletion_that_overtakes_a_move_leaves_nothing_anywhere(
    customer: Api, operator: Api, cluster: Cluster
) -> None:
    ecs_id = cluster.create(customer)
    cluster.source.gates["move"] = threading.Event()
    cluster.migrate(customer, ecs_id)
    wait_until(lambda: cluster.source.orders, "the migration has begun")
    deletion = customer.call("DELETE", f"{INSTANCES}/{ecs_id}")
    assert finish(operator, deletion)["state"] == "Succeeded"
    cluster.wait_until_clean(cluster.target, cluster.target_node)
    assert cluster.source.is_empty()
    assert cluster.cloud.holds_nothing()


def stopped(customer: Api, cluster: Cluster) -> str:
    """An instance on the first node that is shut off."""
    ecs_id = cluster.create(customer)
    finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/stop", {"gracePeriodSeconds": 0}))
    return ecs_id


def test_an_instance_that_is_off_moves_with_its_data(customer: Api, operator: Api, cluster: Cluster) -> None:
    operator.ok("PUT", NETWORK, {"globalNetwork": "cninet", "nodeInfoMethod": "ccos-api"})
    cluster.source.machine = "pc-q35-6.0"
    ecs_id = stopped(customer, cluster)
    volumes = set(cluster.source.volumes)
    path = f"{INSTANCES}/{ecs_id}/cold-migrate"
    operation = finish(operator, customer.call("POST", path, {"nodeName": "node-b"}))
    assert operation["state"] == "Succeeded", operation
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["nodeName"], shown["status"]) == ("node-b", "Stopped")
    assert {order.uuid for order in cluster.source.orders} == volumes == set(cluster.target.volumes)
    assert all(order.tls for order in cluster.source.orders)
    assert {incoming.network_role for incoming in cluster.target.incoming} == {"manage"}
    assert cluster.target.domains[cluster.instance(ecs_id).uuid].machine == "pc-q35-6.0"
    cluster.wait_until_clean(cluster.source, cluster.cloud.node)
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}/migrations")["list"][0]["type"] == "cold"


def test_what_hibernates_moves_with_its_memory_or_stays_with_it(customer: Api, operator: Api, cluster: Cluster) -> None:
    ecs_id = cluster.create(customer)
    uuid, path = cluster.instance(ecs_id).uuid, f"{INSTANCES}/{ecs_id}/cold-migrate"
    finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/hibernate"))
    volumes = set(cluster.source.volumes)

    def move() -> Any:
        return finish(operator, customer.call("POST", path, {"nodeName": "node-b"}))

    for call, code in (("prepare_volume_receive", "GuestIncompatible"), ("complete_memory_receive", "VolumeCorrupt")):
        cluster.target.refusals[call] = Refusal(code=code, message="injected")
        operation = move()
        assert (operation["state"], operation["error"]["code"]) == ("Failed", code)
        shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
        assert (shown["nodeName"], shown["status"]) == (cluster.cloud.node.name, "Hibernated")
        cluster.wait_until_clean(cluster.target, cluster.target_node)
        del cluster.target.refusals[call]
    assert cluster.source.domains[uuid].power_state == domain_pb2.POWER_STATE_HIBERNATED
    assert "send_volume" in cluster.source.calls
    cluster.target.incoming.clear()
    assert move()["state"] == "Succeeded"
    listing = customer.ok("GET", f"{INSTANCES}/{ecs_id}/migrations?pageSize=2&pageNumber=2")
    assert ([it["state"] for it in listing["list"]], listing["totalCount"]) == (["Failed"], 3)
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["nodeName"], shown["status"]) == ("node-b", "Hibernated")
    # Asked for its CPU and room before anything is copied.
    assert [it.uuid for it in cluster.target.incoming] == [uuid, *volumes, uuid]
    assert cluster.target.incoming[0].volume.cpu_xml == "<cpu/>"
    cluster.wait_until_clean(cluster.source, cluster.cloud.node)
    finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/start"))
    assert cluster.target.domains[uuid].power_state == domain_pb2.POWER_STATE_RUNNING


def test_a_volume_that_arrives_otherwise_than_it_left_moves_nothing(
    customer: Api, operator: Api, cluster: Cluster
) -> None:
    ecs_id = stopped(customer, cluster)
    cluster.target.refusals["complete_volume_receive"] = Refusal(code="VolumeCorrupt", message="other bytes")
    wishes = [{"ecsId": ecs_id, "nodeName": "node-b"}]
    operation = finish(operator, customer.call("POST", f"{INSTANCES}/batch-cold-migrate", {"migrations": wishes}))
    assert (operation["state"], operation["error"]["code"]) == ("Failed", "VolumeCorrupt")
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["nodeName"], shown["status"]) == (cluster.cloud.node.name, "Stopped")
    assert cluster.source.volumes
    cluster.wait_until_clean(cluster.target, cluster.target_node)
    assert "ensure_volume_receive_ended" in cluster.target.calls


def test_a_cold_migration_can_be_cancelled(customer: Api, operator: Api, cluster: Cluster) -> None:
    ecs_id = stopped(customer, cluster)
    cluster.source.gates["send_volume"] = threading.Event()
    answer = customer.call("POST", f"{INSTANCES}/{ecs_id}/cold-migrate", {"nodeName": "node-b"})
    wait_until(lambda: cluster.source.orders, "the copying has begun")
    customer.ok("DELETE", f"/api/ecs/v1/operations/{answer.headers['x-operation-id']}")
    assert finish(operator, answer)["state"] == "Canceled"
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Stopped"
    assert "cancel_volume_send" in cluster.source.calls
    cluster.wait_until_clean(cluster.target, cluster.target_node)


def test_what_a_node_keeps_beside_the_disks_only_moves_live(customer: Api, cloud: Cloud, target_node: Node) -> None:
    ecs_id = str(customer.ok("POST", INSTANCES, cloud.order(hostId=cloud.node.id))["ecsId"])
    instance = next(row for row in cloud.rows(Instance) if row.ecs_id == ecs_id)
    cloud.change(instance, status=InstanceStatus.STOPPED, task_id=None, security_type="2.0")
    answer = customer.call("POST", f"{INSTANCES}/{ecs_id}/cold-migrate", {"nodeName": target_node.name})
    assert (answer.code, "TPM" in answer.message) == (NO_STATUS, True)


@SQLITE_ONLY
@pytest.mark.parametrize("status", [it for it in InstanceStatus if it not in ("Running", "Paused")])
def test_only_what_runs_moves_live(customer: Api, cloud: Cloud, target_node: Node, status: InstanceStatus) -> None:
    ecs_id = str(customer.ok("POST", INSTANCES, cloud.order(hostId=cloud.node.id))["ecsId"])
    instance = next(row for row in cloud.rows(Instance) if row.ecs_id == ecs_id)
    cloud.change(instance, status=status, task_id=None)
    answer = customer.call("POST", f"{INSTANCES}/{ecs_id}/live-migrate", {"nodeName": target_node.name})
    assert answer.code == NO_STATUS
    assert cloud.rows(Migration) == []


def test_refusals_hold_nothing(customer: Api, stranger: Api, cloud: Cloud, target_node: Node) -> None:
    ecs_id = str(customer.ok("POST", INSTANCES, cloud.order(hostId=cloud.node.id))["ecsId"])
    instance = next(row for row in cloud.rows(Instance) if row.ecs_id == ecs_id)
    cloud.change(instance, status=InstanceStatus.RUNNING, task_id=None)
    path = f"{INSTANCES}/{ecs_id}/live-migrate"
    before = len(cloud.rows(Allocation))
    assert customer.call("POST", path, {}).code == "ECS.InvalidParameter"
    assert customer.call("POST", path, {"nodeName": cloud.node.name}).code == "ECS.InvalidParameter"
    assert customer.call("POST", path, {"nodeName": "nowhere"}).code == "ECS.DBGet.NoData"
    assert stranger.call("POST", path, {"nodeName": target_node.name}).code == "ECS.DBGet.NoData"
    cloud.change(target_node, schedulable=False)
    refused = customer.call("POST", path, {"nodeName": target_node.name})
    assert refused.code == UNSCHEDULABLE
    assert len(cloud.rows(Allocation)) == before


def test_settings_are_kept_and_checked(operator: Api, customer: Api, auditor: Api) -> None:
    assert operator.ok("GET", NETWORK) == {"globalNetwork": "manage", "nodeInfoMethod": "ccos-api"}
    for network in ("storage", "business", "cninet", "manage"):
        operator.ok("PUT", NETWORK, {"globalNetwork": network, "nodeInfoMethod": "ccos-api"})
        assert auditor.ok("GET", NETWORK)["globalNetwork"] == network
    for body in ({"globalNetwork": "lan", "nodeInfoMethod": "ccos-api"}, {"globalNetwork": "manage"}):
        assert operator.call("PUT", NETWORK, body).code == "ECS.InvalidParameter"
    assert operator.ok("GET", f"{CONFIG}/live-migrate") == {"migrateLimit": 5, "cpuMultiArch": "OFF"}
    for limit, code in ((1, "ECS.InvalidParameter"), (2, "Success"), (100, "Success"), (101, "ECS.InvalidParameter")):
        assert operator.call("PUT", f"{CONFIG}/live-migrate-limit", {"migrateLimit": limit}).code == code
    for method, value in (("PUT", "ON"), ("POST", "OFF"), ("PUT", "ON")):
        operator.ok(method, f"{CONFIG}/live-migrate-arch", {"cpuMultiArch": value})
    assert operator.call("PUT", f"{CONFIG}/live-migrate-arch", {"cpuMultiArch": "maybe"}).code == "ECS.InvalidParameter"
    assert operator.ok("GET", f"{CONFIG}/live-migrate") == {"migrateLimit": 100, "cpuMultiArch": "ON"}
    for path in ("network-config", "live-migrate"):
        assert customer.call("GET", f"{CONFIG}/{path}").code == "ECS.OperationDenied.Identity"


def test_cleaning_a_node_spares_what_has_come_back_with_another_instance(
    customer: Api, operator: Api, cluster: Cluster
) -> None:
    ecs_id = cluster.create(customer)
    volume = customer.ok("POST", "/api/ebs/v1/volumes", {"name": "data", "volumeSize": 1})
    path, uuid = f"{INSTANCES}/{ecs_id}", volume["volumeUuid"].removeprefix("volume-")
    finish(customer, customer.call("PUT", f"{path}/attach-volumes", [{"volumeId": volume["volumeId"]}]))
    gate = cluster.source.gates["ensure_removed"] = threading.Event()
    finish(operator, cluster.migrate(customer, ecs_id))
    assert uuid in cluster.target.volumes
    finish(customer, customer.call("PUT", f"{path}/detach-volume", {"volumeId": volume["volumeId"]}))
    # Another instance, which moved, has brought it.
    (row,) = (row for row in cluster.cloud.rows(Volume) if row.uuid == uuid)
    assert row.node_id == cluster.target_node.id
    cluster.cloud.change(row, node_id=cluster.cloud.node.id)
    gate.set()
    (task,) = (row for row in cluster.cloud.rows(Task) if row.kind == "clean_node")
    wait_until(lambda: cluster.ended(operator, task.id), "the cleaning has ended")
    assert set(cluster.source.volumes) == {uuid}
