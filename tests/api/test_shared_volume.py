"""Volumes that several instances have at once, over REST, the task engine and an agent that does as the test says."""

import threading
from typing import Any

import grpc
import pytest

from coordinator.domain.migration import MigrationType
from coordinator.domain.unit import GIB
from coordinator.services.device_tie import find_ties
from coordinator.store.tables import Instance, Task, Volume, VolumeAttachment
from tests.api.client import Answer, Api
from tests.api.cloud import INSTANCES, Cloud, finish
from tests.api.test_volume_attachment import VOLUMES, bare, make, show
from tests.builders import a_node, add
from tests.database import SQLITE_ONLY
from tests.lab.waiting import wait_until
from tests.scripted_agent import Refusal, ScriptedAgent

STILL_ATTACHED = Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "DeviceStillAttached", "the guest still has the device")
UNSUPPORTED = "ECS.InvalidParameter.Status.NotSupported"


@pytest.fixture
def pair(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> list[str]:
    """Two instances that run; what it took to make them is forgotten."""
    made = [cloud.create(customer, displayName=name) for name in ("one", "two")]
    agent.calls.clear()
    return made


def call(api: Api, action: str, volume: dict[str, Any], ecs_ids: list[str]) -> Answer:
    body = {"volumeId": volume["volumeId"], "ecsIds": ecs_ids}
    return api.call("PUT", f"{INSTANCES}/batch-{action}-volume", body)


def share(api: Api, volume: dict[str, Any], ecs_ids: list[str]) -> dict[str, Any]:
    answer = call(api, "attach", volume, ecs_ids)
    assert (answer.code, answer.data) == ("Success", None), answer
    return finish(api, answer)


def sharers(api: Api, volume: dict[str, Any]) -> dict[str, str]:
    return {one["ecsId"]: one["status"] for one in show(api, volume)["attachments"]}


def holders(agent: ScriptedAgent, volume: dict[str, Any]) -> int:
    return sum(bare(volume) in disks for disks in agent.disks.values())


def test_a_volume_is_given_to_two_instances_grows_for_both_and_stays_with_the_other(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, pair: list[str]
) -> None:
    volume = make(customer, multiAttach=True)
    assert share(customer, volume, pair)["state"] == "Succeeded"
    assert agent.calls == ["ensure_volume", "ensure_disk_attached", "ensure_disk_attached"]
    assert (bare(volume) in agent.shared, holders(agent, volume)) == (True, 2)
    shown = show(customer, volume)
    assert (shown["status"], shown["ecsId"], sharers(customer, volume)) == (
        "inUse",
        pair[0],
        dict.fromkeys(pair, "inUse"),
    )
    other = make(customer)
    for condition in (*(f"ecsId:eq:{ecs_id}|multiAttach:eq:true" for ecs_id in pair), f"ecsId:in:{','.join(pair)}"):
        found = customer.ok("GET", f"{VOLUMES}?filter={condition}")
        listed = [it["volumeUuid"] for it in found["list"]]
        assert (listed.count(volume["volumeUuid"]), other["volumeUuid"] in listed) == (1, False), condition
        assert found["totalCount"] == len(listed)
    ordered = [it["ecsId"] for it in customer.ok("GET", f"{VOLUMES}?orderBy=ecsId:desc&pageSize=50")["list"]]
    held = [ecs_id for ecs_id in ordered if ecs_id]
    assert (len(held), held) == (3, sorted(held, reverse=True))
    for ecs_id in pair:
        mapped = customer.ok("GET", f"{INSTANCES}/{ecs_id}")["blockDeviceMappings"]
        assert [disk["volumeUuid"] for disk in mapped][1:] == [volume["volumeUuid"]]
        listed = customer.ok("GET", f"{INSTANCES}/{ecs_id}/attached-volumes")["attachedVolumes"]
        assert [disk["volumeUuid"] for disk in listed][1:] == [volume["volumeUuid"]]
    # Both have it again after their next start.
    finish(customer, customer.call("PUT", f"{INSTANCES}/{pair[0]}/stop", {"gracePeriodSeconds": 0}))
    finish(customer, customer.call("PUT", f"{INSTANCES}/{pair[0]}/start", None))
    assert any([disk.volume_uuid for disk in spec.disks][1:] == [bare(volume)] for spec in agent.specs.values())
    grown = customer.call("PUT", f"{VOLUMES}/{volume['volumeId']}/resize", {"volumeSize": 7})
    assert finish(customer, grown)["state"] == "Succeeded"
    assert {(order.size_bytes, order.domain_uuid) for order in agent.orders} == {(7 * GIB, it) for it in agent.domains}
    assert finish(customer, call(customer, "detach", volume, pair[:1]))["state"] == "Succeeded"
    assert (sharers(customer, volume), holders(agent, volume)) == ({pair[1]: "inUse"}, 1)
    assert customer.refused("DELETE", f"{VOLUMES}/{volume['volumeId']}").code == UNSUPPORTED
    # One at a time, as for other volumes.
    one = {"volumeld": volume["volumeId"]}
    assert finish(customer, customer.call("PUT", f"{INSTANCES}/{pair[1]}/detach-volume", one))["state"] == "Succeeded"
    shown = show(customer, volume)
    assert (shown["status"], shown["ecsId"], shown["attachments"]) == ("available", "", [])
    assert finish(customer, customer.call("DELETE", f"{VOLUMES}/{volume['volumeId']}"))["state"] == "Succeeded"
    assert bare(volume) not in agent.volumes


def test_a_shared_volume_goes_with_the_last_of_its_instances(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, pair: list[str]
) -> None:
    volume = make(customer, multiAttach=True)
    for ecs_id in pair:
        order = [{"volumeId": volume["volumeId"], "deleteOnTermination": True}]
        answer = customer.call("PUT", f"{INSTANCES}/{ecs_id}/attach-volumes", order)
        assert finish(customer, answer)["state"] == "Succeeded"
    finish(customer, customer.call("DELETE", f"{INSTANCES}/{pair[0]}"))
    assert (sharers(customer, volume), bare(volume) in agent.volumes) == ({pair[1]: "inUse"}, True)
    finish(customer, customer.call("DELETE", f"{INSTANCES}/{pair[1]}"))
    wait_until(lambda: bare(volume) not in agent.volumes, "its data is gone")
    wait_until(lambda: cloud.rows(Volume) == [], "it is gone")
    assert (cloud.rows(VolumeAttachment), cloud.holds_nothing()) == ([], True)


@pytest.mark.parametrize("action", ["attach", "detach"])
def test_all_or_none(customer: Api, agent: ScriptedAgent, pair: list[str], action: str) -> None:
    volume = make(customer, multiAttach=True)
    if action == "detach":
        share(customer, volume, pair)
        agent.refusals["ensure_disk_detached"] = STILL_ATTACHED
    else:
        agent.refusals["ensure_disk_attached"] = Refusal(message="no port is free")
    answer = call(customer, action, volume, pair)
    assert finish(customer, answer)["state"] == "Failed"
    expected = dict.fromkeys(pair, "inUse") if action == "detach" else {}
    assert sharers(customer, volume) == expected
    assert show(customer, volume)["status"] == ("inUse" if expected else "available")
    for ecs_id in pair:
        shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
        assert (shown["status"], bool(shown["errMessage"])) == ("Running", True)


def test_nobody_gets_a_new_volume_that_is_just_being_removed_again(
    customer: Api, agent: ScriptedAgent, pair: list[str]
) -> None:
    volume = make(customer, multiAttach=True)
    agent.refusals["ensure_disk_attached"] = Refusal(message="no port is free")
    agent.gates["ensure_volume_removed"] = gate = threading.Event()
    answer = call(customer, "attach", volume, pair[:1])
    wait_until(lambda: "ensure_volume_removed" in agent.calls, "it is being removed")
    assert call(customer, "attach", volume, pair[1:]).code == UNSUPPORTED
    agent.refusals.clear()
    gate.set()
    assert finish(customer, answer)["state"] == "Failed"
    assert (show(customer, volume)["status"], share(customer, volume, pair[1:])["state"]) == ("available", "Succeeded")
    assert bare(volume) in agent.volumes


def test_what_is_shared_is_in_no_snapshot_and_keeps_its_instances_from_what_would_tear_it(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, pair: list[str]
) -> None:
    volume = make(customer, multiAttach=True)
    share(customer, volume, pair)
    taken = customer.call("POST", "/api/ecs/v1/snapshot", {"ecsId": pair[0], "snapshotName": "before"})
    assert finish(customer, taken)["state"] == "Succeeded"
    assert (len(agent.snapshots), bare(volume) in agent.snapshots) == (1, False)
    hibernation = customer.refused("PUT", f"{INSTANCES}/{pair[0]}/hibernate", None)
    assert (hibernation.code, "shares volume" in hibernation.message) == (UNSUPPORTED, True)
    clone = customer.call("GET", f"{INSTANCES}/{pair[0]}/check-clone?tenantId={cloud.tenant.id}")
    assert "shares volume" in clone.message, clone


def test_nodes_without_common_storage_share_nothing(customer: Api, cloud: Cloud, pair: list[str]) -> None:
    other = a_node(name="elsewhere")
    with cloud.runtime.database.write() as session:
        add(session, other)
    volume = make(customer, multiAttach=True)
    instances = {row.ecs_id: row for row in cloud.rows(Instance)}
    cloud.change(instances[pair[1]], node_id=other.id)
    answer = call(customer, "attach", volume, pair)
    assert (answer.code, "do not share their storage" in answer.message) == (UNSUPPORTED, True)
    for node in (cloud.node, other):
        cloud.change(node, storage_id="one-place")
    cloud.change(instances[pair[1]], node_id=cloud.node.id)
    assert share(customer, volume, pair[:1])["state"] == "Succeeded"
    # Its storage cannot be left any more.
    cloud.change(other, storage_id="another-place")
    with cloud.runtime.database.read() as session:
        ties = find_ties(session, cloud.rows(Instance), MigrationType.COLD)
    assert [(ecs_id, "shares volumes" in tie.en) for ecs_id, tie in ties.items()] == [(pair[0], True)]


def test_what_is_refused_has_a_reason(customer: Api, stranger: Api, cloud: Cloud, pair: list[str]) -> None:
    volume, own = make(customer, multiAttach=True), make(customer)
    share(customer, volume, pair[:1])
    foreign = make(stranger, multiAttach=True)
    for action, named, ecs_ids, code, word in (
        ("attach", volume, pair, UNSUPPORTED, "already"),
        ("attach", own, pair, UNSUPPORTED, "multiAttach"),
        ("detach", own, pair, UNSUPPORTED, "multiAttach"),
        ("detach", volume, pair, UNSUPPORTED, "not attached"),
        ("attach", foreign, pair, "ECS.DBGet.NoData", foreign["volumeUuid"]),
        ("attach", volume, [pair[1], "ecs-x"], "ECS.DBGet.NoData", "ecs-x"),
    ):
        answer = call(customer, action, named, ecs_ids)
        assert (answer.code, word in answer.message or code == "ECS.DBGet.NoData") == (code, True), answer
    mixed = [{"volumeId": volume["volumeId"]}, {"volumeId": own["volumeId"]}]
    answer = customer.refused("PUT", f"{INSTANCES}/{pair[1]}/attach-volumes", mixed)
    assert (answer.code, "of its own" in answer.message) == ("ECS.InvalidParameter", True)
    started_from = [{"volumeId": volume["volumeId"], "bootable": True}]
    assert "bootable" in customer.refused("PUT", f"{INSTANCES}/{pair[1]}/attach-volumes", started_from).message
    assert [task for task in cloud.rows(Task) if task.kind == "detach_shared_volume"] == []


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"volumeId": 1}, "ecsIds"),
        ({"ecsIds": ["ecs-1"]}, "volumeId"),
        ({"volumeId": 1, "ecsIds": []}, "ecsIds"),
        ({"volumeId": 1, "ecsIds": ["ecs-1", "ecs-1"]}, "ecsIds"),
        ({"volumeId": 1, "ecsIds": [f"ecs-{number}" for number in range(17)]}, "ecsIds"),
        ({"volumeId": 1, "ecsIds": "ecs-1"}, "ecsIds"),
    ],
)
def test_a_field_that_is_wrong_is_named(customer: Api, cloud: Cloud, body: dict[str, Any], named: str) -> None:
    for action in ("attach", "detach"):
        answer = customer.refused("PUT", f"{INSTANCES}/batch-{action}-volume", body)
        assert (answer.code, named in answer.message) == ("ECS.InvalidParameter", True), answer
