"""A coordinator that dies at any commit of an operation with images: its successor ends in the same state."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from coordinator.runtime import Runtime
from coordinator.store.tables import Tenant
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud, finish, stock
from tests.api.test_device_recovery import Death, end, points
from tests.api.test_image import IMAGES, a_qcow2, files, stop
from tests.api.test_iso import an_iso, in_drives, listed, put
from tests.api.test_snapshot import take
from tests.scripted_agent import Refusal, ScriptedAgent, at_work


@pytest.fixture
def death() -> Death:
    return Death()


@pytest.fixture
def cloud(runtime: Runtime, tenant: Tenant) -> Cloud:
    return stock(runtime, tenant)


@pytest.fixture
def agent(runtime: Runtime, cloud: Cloud, tmp_path: Path, death: Death) -> Iterator[ScriptedAgent]:
    with at_work(runtime, cloud.node, tmp_path / "pki", death) as working:
        yield working


def arm(death: Death, point: str) -> None:
    """The next death is at that point."""
    death.point, death.has_come = point, False


def test_isos_come_and_go(customer: Api, cloud: Cloud, agent: ScriptedAgent, death: Death, runtime: Runtime) -> None:
    ecs_id, image = cloud.create(customer), an_iso(runtime)
    attaching = points("attach_isos", "ensure_images.intent", "ensure_images.result", "insert.result")
    detaching = points("detach_isos", "eject.intent", "eject.result")
    for number, point in enumerate(attaching):
        arm(death, point)
        assert end(customer, cloud, death, put(customer, ecs_id, "attach", image))["state"] == "Succeeded", point
        assert (in_drives(agent), [iso["status"] for iso in listed(customer, ecs_id)]) == ({0: image.id}, ["attached"])
        arm(death, detaching[number % len(detaching)])
        assert end(customer, cloud, death, put(customer, ecs_id, "detach", image))["state"] == "Succeeded", point
        assert (in_drives(agent), listed(customer, ecs_id)) == ({}, [])


@pytest.mark.parametrize("kind", ["capture_image", "capture_snapshot"])
def test_an_image_is_made_of_an_instance_or_snapshot(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, death: Death, runtime: Runtime, kind: str
) -> None:
    ecs_id = cloud.create(customer)
    stop(customer, ecs_id)
    origin = {"ecsId": ecs_id}
    if kind == "capture_snapshot":
        origin = {"snapshotId": take(customer, ecs_id)["ecsSnapshotId"]}
    making = points(kind, "export.intent", "export.result", "fetch.result", "clean.result")
    undoing = points(kind, "fetch.undo", "export.undo")
    for content, wanted, places in ((a_qcow2(), "Active", making), (a_qcow2(backing=1024), "Error", undoing)):
        agent.exported = content
        for point in places:
            arm(death, point)
            answer = customer.call("POST", IMAGES, {"name": "golden", **origin})
            end(customer, cloud, death, answer)
            path = f"{IMAGES}/{answer.data['imageId']}"
            assert customer.ok("GET", path)["status"] == wanted, point
            assert files(runtime) == ([answer.data["imageId"]] if wanted == "Active" else []), point
            assert agent.exports == set(), point
            assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Stopped", point
            customer.ok("DELETE", path)


def test_nobody_waits_for_a_node_to_give_up_the_copy_of_a_snapshot(
    customer: Api, cloud: Cloud, agent: ScriptedAgent
) -> None:
    origin = {"snapshotId": take(customer, cloud.create(customer))["ecsSnapshotId"]}
    agent.refusals["ensure_volume_export_removed"] = Refusal(grpc.StatusCode.UNAVAILABLE, code="", message="away")
    for content, state in ((a_qcow2(), "Succeeded"), (a_qcow2(backing=1024), "Failed")):
        agent.exported = content
        assert finish(customer, customer.call("POST", IMAGES, {"name": "golden", **origin}))["state"] == state
