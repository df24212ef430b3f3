"""Whoever dies wherever in an operation: it ends as if nothing had happened, or undone, and nothing is left of it.

Each kind of operation is watched once undisturbed, then done anew with a blow at each of its commits and calls: the
coordinator dies before or after, the agent or its answer is lost, the call is refused for good, somebody cancels; and
after a refusal the coordinator dies at each commit and call of the undoing. By default some of these, all first blows
with NODEWRIGHT_TEST_RECOVERY=single, and all of all, which takes half a day, with NODEWRIGHT_TEST_RECOVERY=1.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from coordinator.runtime import Runtime
from coordinator.store.tables import Image, Instance, Node, Snapshot, Tenant, Volume, VolumeBackup
from coordinator.tasks import ledger
from coordinator.tasks.kinds import change_os, roll_back_instance
from tests.api.client import Answer, Api
from tests.api.cloud import INSTANCES, Cloud, a_network, an_os_disk, finish, stock
from tests.api.crash import Blow, Fate, World, await_end, difference, error_of, hear, read_world, settle, watch_calls
from tests.api.test_image import IMAGES, a_qcow2
from tests.api.test_ssh_key import KEYS, public_line
from tests.builders import a_flavor, a_node, add, an_image, an_inventory
from tests.database import SQLITE_ONLY
from tests.scripted_agent import Refusal, ScriptedAgent, all_at_work
from tests.scripted_guest import ScriptedGuest

SNAPSHOTS = "/api/ecs/v1/snapshot"
BACKUPS = "/api/ecs/v1/backups"
VOLUMES = "/api/ebs/v1/volumes"
BIN = "/api/ecs/v1/recycle/instances"
_DEPTH = os.environ.get("NODEWRIGHT_TEST_RECOVERY", "")
IS_EXHAUSTIVE = bool(_DEPTH)
FOLLOWS_UP = IS_EXHAUSTIVE and _DEPTH != "single"
# Of the blows that are possible, by default.
SAMPLE = 5


@dataclass
class Stage:
    """Two nodes, the first of which gets the instances, and who plays on it."""

    cloud: Cloud
    customer: Api
    operator: Api
    agents: list[ScriptedAgent]
    fate: Fate
    nodes: list[Node]
    flavors: dict[str, Any] = field(default_factory=dict)

    def world(self) -> World:
        return read_world(self.cloud, self.agents)

    def hear(self) -> None:
        """What both nodes say of their guests."""
        hear(self.cloud, {node.id: agent for node, agent in zip(self.nodes, self.agents, strict=True)})

    def do(self, method: str, path: str, body: Any = None) -> Answer:
        """A call that begins an operation."""
        answer = self.customer.call(method, path, body)
        assert answer.code == "Success", answer
        return answer

    def done(self, method: str, path: str, body: Any = None) -> Answer:
        """The same, which succeeds."""
        answer = self.do(method, path, body)
        assert finish(self.customer, answer)["state"] == "Succeeded"
        return answer

    def create(self, **fields: Any) -> str:
        """An instance that runs with two disks, on which something is written."""
        data = {"isOsDisk": False, "volumeSize": 5, "volumeType": "ssd", "deleteOnTermination": True}
        body = self.cloud.order(volumes=[an_os_disk(), data], hostId=self.cloud.node.id, **fields)
        ecs_id = str(self.done("POST", INSTANCES, body).data["ecsId"])
        self.write("old")
        return ecs_id

    def write(self, text: str) -> None:
        """On all disks; of an image's name is left what it is."""
        for agent in self.agents:
            agent.contents.update({uuid: f"{text} {size}" for uuid, size in agent.volumes.items()})

    def take(self, ecs_id: str) -> str:
        """A snapshot of the instance."""
        self.done("POST", SNAPSHOTS, {"ecsId": ecs_id, "snapshotName": "before"})
        return str(self.cloud.rows(Snapshot)[-1].snapshot_id)

    def back_up(self, ecs_id: str) -> str:
        """A backup of the instance's system disk, and of the others."""
        return str(self.done("POST", BACKUPS, {"ecsId": ecs_id}).data["backups"][0]["backupId"])

    def _delete(self, path: str) -> None:
        """Of what never was anywhere nothing is left to be done."""
        answer = self.do("DELETE", path)
        if "x-operation-id" in answer.headers:
            assert finish(self.customer, answer)["state"] == "Succeeded"

    def clear(self) -> None:
        """Deletes everything, which must be possible, and leaves nothing on the nodes."""
        self.operator.ok("PUT", f"{INSTANCES}/recycle-config", {"enable": False, "freezeTime": 3})
        for row in self.cloud.rows(Snapshot):
            if _is_at_rest(self.cloud, row.instance_id):
                self.done("DELETE", f"{SNAPSHOTS}/{row.snapshot_id}")
        for backup in self.cloud.rows(VolumeBackup):
            self.done("DELETE", f"{BACKUPS}/{backup.backup_id}")
        for row in self.cloud.rows(Instance):
            if row.deleted_at is None:
                bin_or_list = BIN if row.status == "SoftDeleted" else INSTANCES
                self._delete(f"{bin_or_list}/{row.ecs_id}")
        settle(self.cloud)
        for row in self.cloud.rows(Volume):
            answer = self.customer.call("DELETE", f"{VOLUMES}/volume-{row.uuid}")
            assert answer.code == "Success", answer
        for row in self.cloud.rows(Image):
            if row.deleted_at is None and row.name == "captured":
                self.customer.ok("DELETE", f"{IMAGES}/{row.id}")
        settle(self.cloud)
        assert self.cloud.holds_nothing()
        for agent in self.agents:
            assert agent.is_empty()
            # A node that does not remove one when it is told to does so later.
            agent.exports.clear()
            agent.refusals.clear()
            agent.disks.clear()
            agent.media.clear()


def _is_at_rest(cloud: Cloud, instance_id: int) -> bool:
    return any(row.id == instance_id and row.status in ("Running", "Stopped") for row in cloud.rows(Instance))


Prepare = Callable[[Stage], dict[str, Any]]
Begin = Callable[[Stage, dict[str, Any]], Answer]


@dataclass(frozen=True)
class Operation:
    """What is done to what; `ends` tells what may be there after a failure, if it is not what was there before."""

    prepare: Prepare
    begin: Begin
    # Of a failure: parts of the world in which something may be left to be seen and done again.
    blurred: tuple[str, ...] = ()
    # The same of any end, after such a blow.
    overlooked: tuple[str, ...] = ()
    overlooking: tuple[str, ...] = ("refused",)
    # Blurred is only what comes of a blow at this call; empty: at any.
    blurring: str = ""
    # Of a failure: parts of the whole that may be missing, because all is done but the guest cannot be started.
    unstarted: tuple[str, ...] = ()


def _running(stage: Stage) -> dict[str, Any]:
    return {"id": stage.create()}


def _stopped(stage: Stage) -> dict[str, Any]:
    ecs_id = stage.create()
    stage.done("PUT", f"{INSTANCES}/{ecs_id}/stop", {"gracePeriodSeconds": 0})
    return {"id": ecs_id}


def _hibernated(stage: Stage) -> dict[str, Any]:
    ecs_id = stage.create()
    stage.done("PUT", f"{INSTANCES}/{ecs_id}/hibernate")
    return {"id": ecs_id}


def _with_snapshot(stage: Stage) -> dict[str, Any]:
    ecs_id = stage.create()
    made = {"id": ecs_id, "snapshot": stage.take(ecs_id)}
    stage.write("new")
    return made


def _with_backup(stage: Stage) -> dict[str, Any]:
    ecs_id = stage.create()
    made = {"id": ecs_id, "backup": stage.back_up(ecs_id)}
    stage.write("new")
    return made


def _with_other_image(stage: Stage) -> dict[str, Any]:
    return {"id": stage.create(), "image": stage.flavors["image"].id}


def _with_full_node(stage: Stage) -> dict[str, Any]:
    filler = stage.cloud.order(hostId=stage.cloud.node.id, flavorId=stage.flavors["filler"].flavor_id, cpus=8)
    made = {"id": stage.create()}
    stage.done("POST", INSTANCES, filler)
    return made


def _not_in_room(stage: Stage) -> dict[str, Any]:
    refusal = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "DomainGrowthUnsupported", "no room")
    stage.agents[0].refusals["ensure_grown"] = refusal
    return _running(stage)


def _with_volume(stage: Stage) -> dict[str, Any]:
    made = stage.customer.ok("POST", VOLUMES, {"name": "data", "volumeSize": 3})
    return {"id": stage.create(), "volume": made["volumeUuid"]}


def _with_attached(stage: Stage) -> dict[str, Any]:
    made = _with_volume(stage)
    stage.done("PUT", f"{INSTANCES}/{made['id']}/attach-volumes", [{"volumeId": made["volume"]}])
    stage.write("old")
    return made


def _with_shared(stage: Stage) -> dict[str, Any]:
    made = stage.customer.ok("POST", VOLUMES, {"name": "quorum", "volumeSize": 3, "multiAttach": True})
    return {"ids": [stage.create(), stage.create()], "volume": made["volumeUuid"]}


def _sharing(stage: Stage) -> dict[str, Any]:
    made = _with_shared(stage)
    _share("attach")(stage, made)
    settle(stage.cloud)
    return made


def _share(action: str) -> Begin:
    return lambda stage, made: stage.do(
        "PUT", f"{INSTANCES}/batch-{action}-volume", {"volumeId": made["volume"], "ecsIds": made["ids"]}
    )


def _with_iso(stage: Stage) -> dict[str, Any]:
    made = _running(stage)
    stage.done("PUT", f"{INSTANCES}/{made['id']}/attach-iso", [{"imageId": stage.flavors["iso"].id}])
    return made


def _with_key(stage: Stage) -> dict[str, Any]:
    for agent in stage.agents:
        agent.guest = ScriptedGuest()
    return {**_running(stage), "key": stage.flavors["key"]}


def _bound(stage: Stage) -> dict[str, Any]:
    made = _with_key(stage)
    stage.done("POST", f"{KEYS}/bind", _binding(made))
    return made


def _with_bin(stage: Stage) -> dict[str, Any]:
    stage.operator.ok("PUT", f"{INSTANCES}/recycle-config", {"enable": True, "freezeTime": 3})
    return _with_snapshot(stage)


def _recycled(stage: Stage) -> dict[str, Any]:
    made = _with_bin(stage)
    stage.done("DELETE", f"{INSTANCES}/{made['id']}")
    return made


def _binding(made: dict[str, Any]) -> dict[str, Any]:
    return {"keyPairId": made["key"], "passwordAuth": "no", "ecsIds": [made["id"]]}


def _clone(stage: Stage, made: dict[str, Any]) -> Answer:
    order = stage.cloud.order(
        sourceEcsId=made["id"], isClone=True, billingMode="OnDemand", volumes=None, networks=[a_network()]
    )
    return stage.do("POST", f"{INSTANCES}/{made['id']}/clone", order)


def _resize(stage: Stage, made: dict[str, Any], name: str = "large") -> Answer:
    flavor = stage.flavors[name]
    body = {"cpus": flavor.cpu, "memory": {"amount": f"{flavor.ram_gib}Gi"}, "flavorId": flavor.flavor_id}
    return stage.do("PATCH", f"{INSTANCES}/{made['id']}", body)


def _put(action: str, body: Callable[[Stage, dict[str, Any]], Any] = lambda stage, made: None) -> Begin:
    return lambda stage, made: stage.do("PUT", f"{INSTANCES}/{made['id']}/{action}", body(stage, made))


def _iso(stage: Stage, made: dict[str, Any]) -> Any:
    return [{"imageId": stage.flavors["iso"].id}]


_SEEN = ("instances", "snapshots", "parts", "node0.snapshots", "volumes", "allocations", "ports")
OPERATIONS: dict[str, Operation] = {
    "create_instance": Operation(
        lambda stage: {},
        lambda stage, made: stage.do("POST", INSTANCES, stage.cloud.order(hostId=stage.cloud.node.id)),
    ),
    "create_snapshot": Operation(
        _running, lambda stage, made: stage.do("POST", SNAPSHOTS, {"ecsId": made["id"], "snapshotName": "one"})
    ),
    # It may be half gone, and shows that; deleted again it is gone.
    "delete_snapshot": Operation(
        _with_snapshot,
        lambda stage, made: stage.do("DELETE", f"{SNAPSHOTS}/{made['snapshot']}"),
        blurred=("snapshots", "node0.snapshots"),
    ),
    "roll_back_instance": Operation(
        _with_snapshot,
        lambda stage, made: stage.do("POST", f"{SNAPSHOTS}/{made['snapshot']}/rollback"),
        unstarted=("instances", "node0.guests"),
    ),
    # Backups that are there stay, when the state before them does not go: the next one removes it.
    "back_up_volumes": Operation(
        _with_backup,
        lambda stage, made: stage.do("POST", BACKUPS, {"ecsId": made["id"]}),
        blurred=("backups", "node0.snapshots", "node0.exports"),
        blurring="EnsureSnapshotRemoved",
        overlooked=("node0.exports",),
        overlooking=("refused", "lost"),
    ),
    # It may be half gone, and shows that. A node that does not remove a file when it is told to does so later.
    "delete_backup": Operation(
        _with_backup,
        lambda stage, made: stage.do("DELETE", f"{BACKUPS}/{made['backup']}"),
        blurred=("backups", "node0.snapshots"),
        overlooked=("node0.exports",),
        overlooking=("refused", "lost"),
    ),
    "clone_instance": Operation(_running, _clone),
    "clone_instance_off": Operation(_stopped, _clone),
    "change_os": Operation(
        _with_other_image,
        lambda stage, made: stage.do("POST", f"{INSTANCES}/{made['id']}/change-os", {"imageId": made["image"]}),
    ),
    "resize_instance": Operation(_running, _resize),
    "resize_instance_by_restart": Operation(_not_in_room, _resize),
    "move_resized_instance": Operation(_with_full_node, lambda stage, made: _resize(stage, made, "huge")),
    "hibernate_instance": Operation(_running, _put("hibernate")),
    "wake_instance": Operation(_hibernated, _put("start")),
    "discard_hibernation": Operation(_hibernated, _put("stop", lambda stage, made: {"gracePeriodSeconds": 0})),
    "suspend_instance": Operation(_running, _put("suspend")),
    # It may be off, and shows that.
    "recycle_instance": Operation(
        _with_bin,
        lambda stage, made: stage.do("DELETE", f"{INSTANCES}/{made['id']}"),
        blurred=("instances", "node0.guests"),
    ),
    "purge_instance": Operation(
        _recycled,
        lambda stage, made: stage.do("DELETE", f"{BIN}/{made['id']}"),
        blurred=(*_SEEN, "node0.guests", "node0.volumes", "node0.ports"),
    ),
    "delete_instance": Operation(
        _with_snapshot,
        lambda stage, made: stage.do("DELETE", f"{INSTANCES}/{made['id']}"),
        blurred=(*_SEEN, "node0.guests", "node0.volumes", "node0.ports"),
    ),
    "capture_image": Operation(
        _stopped,
        lambda stage, made: stage.do("POST", IMAGES, {"name": "captured", "ecsId": made["id"]}),
        overlooked=("node0.exports",),
    ),
    "capture_snapshot": Operation(
        _with_snapshot,
        lambda stage, made: stage.do("POST", IMAGES, {"name": "captured", "snapshotId": made["snapshot"]}),
        overlooked=("node0.exports",),
        overlooking=("refused", "lost"),
    ),
    "cold_migrate_hibernated": Operation(
        _hibernated,
        lambda stage, made: stage.do("POST", f"{INSTANCES}/{made['id']}/cold-migrate", {"nodeName": "node-b"}),
    ),
    "grow_volume": Operation(
        _with_attached, lambda stage, made: stage.do("PUT", f"{VOLUMES}/{made['volume']}/resize", {"volumeSize": 9})
    ),
    "attach_volumes": Operation(
        _with_volume, _put("attach-volumes", lambda stage, made: [{"volumeId": made["volume"]}])
    ),
    "detach_volumes": Operation(
        _with_attached, _put("detach-volumes", lambda stage, made: {"volumeUuids": [made["volume"]]})
    ),
    "attach_shared_volume": Operation(_with_shared, _share("attach")),
    "detach_shared_volume": Operation(_sharing, _share("detach")),
    "attach_isos": Operation(_running, _put("attach-iso", _iso)),
    "detach_isos": Operation(_with_iso, _put("detach-iso", _iso)),
    # A guest that may have heard of it is told again: an open binding is what is left.
    "bind_key": Operation(
        _with_key, lambda stage, made: stage.do("POST", f"{KEYS}/bind", _binding(made)), blurred=("bindings",)
    ),
    "unbind_key": Operation(
        _bound, lambda stage, made: stage.do("POST", f"{KEYS}/unbind", _binding(made)), blurred=("bindings",)
    ),
}


@pytest.fixture
def cloud(runtime: Runtime, tenant: Tenant) -> Cloud:
    return stock(runtime, tenant)


@pytest.fixture
def stage(
    cloud: Cloud, customer: Api, operator: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stage]:
    monkeypatch.setattr(ledger, "_FIRST_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(roll_back_instance, "_LOOK_AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(change_os, "_LOOK_SECONDS", 0.02)
    cloud.runtime.settings.new_system_grace = timedelta(seconds=60)
    fate = Fate(cloud.runtime)
    watch_calls(monkeypatch, fate)
    other, image, iso = a_node("node-b"), an_image(name="other"), an_image(name="netinst", format="iso")
    flavors = {
        "large": a_flavor(cloud.flavor_type, vcpus=6, memory_gib=12),
        "filler": a_flavor(cloud.flavor_type, vcpus=8, memory_gib=4),
        "huge": a_flavor(cloud.flavor_type, vcpus=12, memory_gib=8),
    }
    with cloud.runtime.database.write() as session:
        add(session, other, *an_inventory(other), image, iso, *flavors.values())
    body = {"name": "laptop", "departmentId": cloud.department.id, "idRSAPub": public_line(comment="me")}
    key = customer.ok("POST", f"{KEYS}/import", body)["keyPairId"]
    made = {**flavors, "image": image, "iso": iso, "key": key}
    with all_at_work(cloud.runtime, [cloud.node, other], tmp_path / "pki", fate) as agents:
        agents[0].peer = agents[1]
        for agent in agents:
            agent.exported = a_qcow2()
        yield Stage(cloud, customer, operator, agents, fate, [cloud.node, other], made)


@dataclass(frozen=True)
class Outcome:
    """How an operation ended under some blows, and what was there then."""

    state: str
    world: World
    commits: tuple[str, ...]
    calls: tuple[str, ...]
    dealt: tuple[Blow, ...]
    errors: tuple[str, ...]


def act(stage: Stage, operation: Operation, *blows: Blow) -> tuple[World, Outcome]:
    """What was there before, and how it ended."""
    stage.fate.begin()
    made = operation.prepare(stage)
    settle(stage.cloud)
    stage.hear()
    before = stage.world()
    stage.fate.begin(*blows)
    state = await_end(stage.customer, stage.cloud, stage.fate, operation.begin(stage, made))
    stage.hear()
    fate, world = stage.fate, stage.world()
    commits, calls, dealt = tuple(fate.commits), tuple(fate.calls), tuple(fate.dealt)
    fate.begin()
    outcome = Outcome(state, world, commits, calls, dealt, tuple(error_of(stage.cloud)))
    stage.clear()
    return before, outcome


def blows_at(what: str, places: Sequence[str], begin: int = 0) -> list[Blow]:
    """One on each side of each place from that one on, counted by their names."""
    seen: Counter[str] = Counter()
    found = []
    for number, place in enumerate(places):
        if number >= begin:
            found += [Blow(what, place, side, seen[place]) for side in ("before", "after")]
        seen[place] += 1
    return found


def judge(operation: Operation, before: World, whole: World, outcome: Outcome) -> list[str]:
    """What is wrong with an end: it must be the whole, or nothing."""
    if outcome.state not in ("Succeeded", "Failed", "Canceled"):
        return [outcome.state]
    wrong = difference(outcome.world, whole)
    if any(blow.what in operation.overlooking for blow in outcome.dealt):
        wrong = {name: found for name, found in wrong.items() if name not in operation.overlooked}
    if outcome.state == "Succeeded":
        return [f"it succeeded, but {wrong} {outcome.errors}"] if wrong or outcome.errors else []
    if operation.unstarted and not wrong.keys() - set(operation.unstarted):
        return []
    undone = difference(outcome.world, before)
    is_blurred = not operation.blurring or any(blow.place == operation.blurring for blow in outcome.dealt)
    for name in (*(operation.blurred if is_blurred else ()), *operation.overlooked):
        undone.pop(name, None)
    return [f"it ended {outcome.state}, but {undone}"] if wrong and undone else []


@SQLITE_ONLY
@pytest.mark.parametrize("name", OPERATIONS)
def test_whoever_dies_it_is_done_or_undone(stage: Stage, name: str) -> None:
    operation = OPERATIONS[name]
    before, whole = act(stage, operation)
    assert whole.state == "Succeeded"
    assert difference(whole.world, before), "it changes something"
    single = [(blow,) for blow in blows_at("dies", whole.commits)]
    for what in ("dies", "lost", "refused", "canceled"):
        single += [(blow,) for blow in blows_at(what, whole.calls)]
    faults, count = [], 0
    tried = single if IS_EXHAUSTIVE else single[:: -(-len(single) // SAMPLE)]
    for blows in tried:
        count += 1
        faults += check(stage, operation, whole.world, blows)
    refused = [blow for (blow,) in single if blow.what in ("refused", "canceled")]
    for first in refused if FOLLOWS_UP else refused[len(refused) // 2 :][:1]:
        undoing = undoing_of(stage, operation, first)
        for second in undoing if FOLLOWS_UP else undoing[len(undoing) // 2 :][:2]:
            count += 1
            faults += check(stage, operation, whole.world, (first, second))
    print(f"{name}: {count} places, {len(faults)} faults")
    assert not faults, "\n".join(faults)


def check(stage: Stage, operation: Operation, whole: World, blows: tuple[Blow, ...]) -> list[str]:
    """What is wrong after those blows."""
    told = ", then ".join(map(str, blows))
    try:
        before, outcome = act(stage, operation, *blows)
    except AssertionError as error:
        raise AssertionError(f"{told}: {error}") from error
    faults = [f"{told}: {fault}" for fault in judge(operation, before, whole, outcome)]
    print(*faults, sep="\n", end="\n" if faults else "", flush=True)
    return faults


def undoing_of(stage: Stage, operation: Operation, first: Blow) -> list[Blow]:
    """Deaths in what follows that failure."""
    _, failed = act(stage, operation, first)
    if failed.state == "Succeeded":
        return []
    commits = [place for place in failed.commits if place.endswith((".undo", ".end"))]
    return [*blows_at("dies", commits), *blows_at("dies", failed.calls, failed.calls.index(first.place) + 1)]
