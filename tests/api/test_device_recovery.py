"""A coordinator that dies at any commit of an operation with devices: its successor ends in the same state."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import update

from coordinator.agents.device_report import make_devices
from coordinator.runtime import Runtime
from coordinator.store.tables import DeviceAllocation, Task, Tenant
from protos.agent.v1 import host_pb2, migration_pb2
from tests.api.client import Answer, Api
from tests.api.cloud import INSTANCES, Cloud, finish, stock
from tests.api.test_device_search import a_disk, a_stick
from tests.api.test_instance_device import NODES, a_gpu, a_gpu_flavor, a_reader, a_vgpu_maker, bind_usb, fill
from tests.builders import a_node, add, an_inventory
from tests.database import SQLITE_ONLY
from tests.lab.waiting import wait_until
from tests.scripted_agent import Refusal, ScriptedAgent, all_at_work, at_work


class Death:
    """Ends what works on a task at one commit, once: before it nothing of the commit counts, after it all does."""

    def __init__(self) -> None:
        self.point = ""
        self.has_come = False

    def __call__(self, point: str) -> None:
        if point == self.point and not self.has_come:
            self.has_come = True
            raise RuntimeError("killed")


@pytest.fixture
def death() -> Death:
    return Death()


@pytest.fixture
def cloud(runtime: Runtime, tenant: Tenant) -> Cloud:
    made = stock(runtime, tenant)
    with runtime.database.write() as session:
        add(session, *make_devices(made.node.id, [a_stick("1"), a_disk(1), a_disk(2), a_gpu(0), a_gpu(1)]))
    return made


@pytest.fixture
def agent(runtime: Runtime, cloud: Cloud, tmp_path: Path, death: Death) -> Iterator[ScriptedAgent]:
    with at_work(runtime, cloud.node, tmp_path / "pki", death) as working:
        yield working


def take_over(cloud: Cloud) -> None:
    """The leases of the dead coordinator are over."""
    with cloud.runtime.database.write() as session:
        session.execute(update(Task).values(lease_owner="", lease_expires_at=None))
    cloud.runtime.wake_tasks()


def end(api: Api, cloud: Cloud, death: Death, answer: Answer) -> dict[str, Any]:
    """The operation, once the successor has ended it."""
    wait_until(lambda: death.has_come, f"it dies at {death.point}")
    take_over(cloud)
    return finish(api, answer)


def claims(cloud: Cloud) -> list[str]:
    return sorted(row.device_id for row in cloud.rows(DeviceAllocation))


def disks(api: Api, ecs_id: str, verb: str) -> Answer:
    return api.call("PUT", f"{INSTANCES}/{ecs_id}/{verb}-localdisks", [{"diskName": f"wwn-{n}"} for n in (1, 2)])


def points(kind: str, *places: str) -> list[str]:
    return [f"{kind}.{place}.{side}" for place in (*places, "end") for side in ("before", "after")]


@pytest.mark.parametrize("point", points("attach_devices", "attach.intent", "attach.result"))
def test_attaching(customer: Api, cloud: Cloud, agent: ScriptedAgent, death: Death, point: str) -> None:
    ecs_id = cloud.create(customer)
    death.point = point
    assert end(customer, cloud, death, disks(customer, ecs_id, "attach"))["state"] == "Succeeded"
    [uuid] = agent.journal
    assert agent.devices_of(uuid) == set(claims(cloud)) == {"wwn-1", "wwn-2"}


@pytest.mark.parametrize("point", points("attach_devices", "attach.intent", "attach.result", "attach.undo"))
def test_attaching_that_fails(customer: Api, cloud: Cloud, agent: ScriptedAgent, death: Death, point: str) -> None:
    ecs_id = cloud.create(customer)
    agent.refusals["ensure_attached"] = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "DeviceFaulty", "broken")
    death.point = point
    operation = end(customer, cloud, death, disks(customer, ecs_id, "attach"))
    assert (operation["state"], operation["error"]["code"]) == ("Failed", "DeviceFaulty")
    assert (claims(cloud), agent.journal) == ([], {})


@pytest.mark.parametrize(
    "point", points("detach_devices", "detach.intent", "detach.result", "release.intent", "release.result")
)
def test_detaching(customer: Api, cloud: Cloud, agent: ScriptedAgent, death: Death, point: str) -> None:
    ecs_id = cloud.create(customer)
    finish(customer, disks(customer, ecs_id, "attach"))
    death.point = point
    assert end(customer, cloud, death, disks(customer, ecs_id, "detach"))["state"] == "Succeeded"
    assert (claims(cloud), agent.journal, sorted(agent.wiped)) == ([], {}, ["wwn-1", "wwn-2"])


@pytest.mark.parametrize("point", points("detach_devices", "detach.intent", "detach.result", "detach.undo"))
def test_detaching_that_fails(customer: Api, cloud: Cloud, agent: ScriptedAgent, death: Death, point: str) -> None:
    ecs_id = cloud.create(customer)
    finish(customer, disks(customer, ecs_id, "attach"))
    agent.refusals["ensure_detached"] = Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "DeviceBusy", "it keeps it")
    death.point = point
    assert end(customer, cloud, death, disks(customer, ecs_id, "detach"))["state"] == "Failed"
    [uuid] = agent.journal
    assert agent.devices_of(uuid) == set(claims(cloud)) == {"wwn-1", "wwn-2"}


@pytest.mark.parametrize("point", points("create_instance", "define.result", "define.undo", "ensure_ports.undo"))
def test_a_creation_that_fails(customer: Api, cloud: Cloud, agent: ScriptedAgent, death: Death, point: str) -> None:
    agent.refusals["ensure_running"] = Refusal()
    death.point = point
    answer = customer.call("POST", INSTANCES, cloud.order(**a_gpu_flavor(cloud), localDisk=1))
    assert end(customer, cloud, death, answer)["state"] == "Failed"
    assert (claims(cloud), agent.is_empty(), agent.wiped) == ([], True, ["wwn-1"])


@pytest.mark.parametrize("point", points("delete_instance", "remove_domain.result", "release.result"))
def test_a_deletion(customer: Api, cloud: Cloud, agent: ScriptedAgent, death: Death, point: str) -> None:
    ecs_id = cloud.create(customer, **a_gpu_flavor(cloud), localDisk=1)
    death.point = point
    answer = customer.call("DELETE", f"{INSTANCES}/{ecs_id}")
    assert end(customer, cloud, death, answer)["state"] == "Succeeded"
    assert (claims(cloud), agent.is_empty(), agent.wiped) == ([], True, ["wwn-1"])


@pytest.mark.parametrize("point", points("set_gpu_mode", "set_mode.intent", "set_mode.result", "read_devices.result"))
def test_a_mode(operator: Api, cloud: Cloud, agent: ScriptedAgent, death: Death, point: str) -> None:
    agent.inventory.devices.extend([a_gpu(0, "vgpu"), a_gpu(1, "vgpu")])
    death.point = point
    answer = operator.call("PUT", f"{NODES}/gpu-mode", {"name": "node-a", "gpuMode": "nvidia-222"})
    assert end(operator, cloud, death, answer)["state"] == "Succeeded"
    assert (claims(cloud), agent.gpu_mode) == ([], "nvidia-222")
    devices = operator.ok("GET", "/api/ecs/v1/devices")["list"]
    assert {(it["id"], it["attributes"]["mode"]) for it in devices} == {
        ("0000:3b:00.0", "vgpu"),
        ("0000:3b:00.1", "vgpu"),
    }


RESIZE_POINTS = points("resize_instance", "define.result", "start.intent", "start.result")
UNDO_POINTS = points("resize_instance", "start.undo", "define.undo")


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("point", "fails"), [*((it, False) for it in RESIZE_POINTS), *((it, True) for it in UNDO_POINTS)]
)
def test_other_devices(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, death: Death, point: str, fails: bool
) -> None:
    flavors = [a_gpu_flavor(cloud), a_gpu_flavor(cloud, 2, sriov=0)]
    ecs_id = cloud.create(customer, **flavors[0], localDisk=1)
    agent.calls.clear()
    if fails:
        agent.refusals["ensure_running"] = Refusal(grpc.StatusCode.INTERNAL, "Failed", "injected", times=1)
    death.point = point
    body = {"cpus": 2, "memory": {"amount": "4Gi"}, "localDisk": 0, **flavors[1]}
    answer = customer.call("PATCH", f"{INSTANCES}/{ecs_id}", body)
    assert end(customer, cloud, death, answer)["state"] == ("Failed" if fails else "Succeeded")
    held = ["0000:3b:00.0", "wwn-1"] if fails else ["0000:3b:00.0", "0000:3b:00.1"]
    wait_until(lambda: claims(cloud) == held, "the others are given back")
    [uuid] = agent.journal
    assert agent.devices_of(uuid) == {it.device_id for it in agent.journal[uuid].values()} == set(held)
    assert agent.wiped == ([] if fails else ["wwn-1"])


@contextmanager
def two_at_work(
    cloud: Cloud, death: Death, tmp_path: Path, here: host_pb2.Device, there: host_pb2.Device
) -> Iterator[list[ScriptedAgent]]:
    """The cloud's node and another one, with a device each."""
    other = a_node("node-b")
    with cloud.runtime.database.write() as session:
        add(session, other, *an_inventory(other))
    fill(cloud, cloud.node, here)
    fill(cloud, other, there)
    with all_at_work(cloud.runtime, [cloud.node, other], tmp_path / "pki", death) as agents:
        agents[0].peer, agents[1].peer = agents[1], agents[0]
        yield agents


def move(
    operator: Api, cloud: Cloud, death: Death, agents: list[ScriptedAgent], ecs_id: str, held: str, *, fails: bool
) -> None:
    """The instance moves live from the first node to the second, or fails to, and has that device then."""
    [uuid] = agents[0].journal
    if fails:
        agents[0].ending = migration_pb2.MIGRATION_STATE_FAILED
    answer = operator.call("POST", f"{INSTANCES}/{ecs_id}/live-migrate", {"nodeName": "node-b"})
    assert end(operator, cloud, death, answer)["state"] == ("Failed" if fails else "Succeeded")
    here, there = agents if fails else reversed(agents)
    wait_until(lambda: claims(cloud) == [held] and there.is_empty(), "the other node is clean")
    assert here.devices_of(uuid) == {held}


VGPU_POINTS = points("live_migrate_instance", "ensure_ports.result", "migrate.intent", "migrate.result")


@SQLITE_ONLY
@pytest.mark.parametrize("point", VGPU_POINTS)
@pytest.mark.parametrize("fails", [False, True])
def test_vgpus_that_go_along(
    operator: Api, cloud: Cloud, death: Death, tmp_path: Path, point: str, fails: bool
) -> None:
    with two_at_work(cloud, death, tmp_path, a_vgpu_maker(0), a_vgpu_maker(4)) as agents:
        ecs_id = cloud.create(operator, **a_gpu_flavor(cloud, vgpu_type_id="nvidia-222"), hostId=cloud.node.id)
        death.point = point
        move(operator, cloud, death, agents, ecs_id, "0000:3b:00.0" if fails else "0000:3b:00.4", fails=fails)


MOVE_POINTS = points(
    "live_migrate_instance", "ensure_ports.intent", "ensure_ports.result", "migrate.result", "attach_functions.result"
)
BACK_POINTS = points("live_migrate_instance", "migrate.intent", "ensure_ports.undo")


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("point", "fails"), [*((it, False) for it in MOVE_POINTS), *((it, True) for it in BACK_POINTS)]
)
def test_usb_devices_around_a_live_migration(
    operator: Api, cloud: Cloud, death: Death, tmp_path: Path, point: str, fails: bool
) -> None:
    with two_at_work(cloud, death, tmp_path, a_reader("1"), a_reader("7")) as agents:
        ecs_id = cloud.create(operator, hostId=cloud.node.id)
        bind_usb(operator, ecs_id, "1", replaceable=True)
        death.point = point
        move(operator, cloud, death, agents, ecs_id, "usb-x-0-1" if fails else "usb-x-0-7", fails=fails)
