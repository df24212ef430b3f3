"""Other systems for instances over REST: which disk there is when, what stays, and what each failure leaves."""

import json
import threading
from datetime import timedelta
from typing import Any

import grpc
import pytest

from coordinator.domain.unit import GIB
from coordinator.store.tables import Allocation, Image, Instance, Task, Volume
from protos.agent.v1 import domain_pb2
from tests.api.client import Answer, Api
from tests.api.cloud import INSTANCES, Cloud, an_os_disk, finish
from tests.builders import add, an_image
from tests.lab.waiting import wait_until
from tests.scripted_agent import Refusal, ScriptedAgent

NO_STATUS = "ECS.InvalidParameter.Status.NotSupported"
PASSWORD = "Admin@123"


@pytest.fixture
def ecs_id(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> str:
    """An instance with a data disk."""
    data = {"volumeSize": 5, "volumeType": "ssd", "isOsDisk": False, "deleteOnTermination": True}
    made = cloud.create(customer, volumes=[an_os_disk(), data])
    agent.calls.clear()
    return made


@pytest.fixture
def image(cloud: Cloud) -> Image:
    return stored_image(cloud, virtual_size_bytes=30 * GIB, os_type="windows")


def stored_image(cloud: Cloud, **fields: Any) -> Image:
    made = an_image(**fields)
    with cloud.runtime.database.write() as session:
        add(session, made)
    return made


def change(api: Api, ecs_id: str, **fields: Any) -> Answer:
    return api.call("POST", f"{INSTANCES}/{ecs_id}/change-os", fields)


def volumes_of(cloud: Cloud) -> list[tuple[str, bool, str, int]]:
    rows = sorted(cloud.rows(Volume), key=lambda row: row.id)
    return [(row.uuid, row.is_os_disk, row.status, row.size_gib) for row in rows]


def held(cloud: Cloud) -> dict[tuple[str, str], int]:
    return {(row.consumer_uuid, row.resource_class): row.amount for row in cloud.rows(Allocation)}


def test_the_system_disk_is_replaced_and_all_else_stays(
    customer: Api, operator: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str, image: Image
) -> None:
    (uuid,) = agent.domains
    before = agent.specs[uuid]
    _, (data, *_) = volumes_of(cloud)
    gate = agent.gates["probe_guest"] = threading.Event()
    answer = change(customer, ecs_id, imageId=image.id, user="root", password=PASSWORD)
    assert (answer.code, answer.data) == ("Success", None)
    wait_until(lambda: "probe_guest" in agent.calls, "the new system boots")
    # Both disks are there, and room for both is held.
    assert len(agent.volumes) == 3
    assert sorted(amount for (_, name), amount in held(cloud).items() if name == "STORAGE_GIB") == [25, 30]
    assert operator.ok("GET", "/api/ecs/v1/placement/differences") == []
    gate.set()
    assert finish(customer, answer)["state"] == "Succeeded"
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["status"], shown["imageId"], shown["osType"], shown["errMessage"]) == (
        "Running",
        image.id,
        "windows",
        "",
    )
    (kept, *_), (new, is_os_disk, status, size_gib) = volumes_of(cloud)
    assert (kept, is_os_disk, status, size_gib) == (data, True, "inUse", 30)
    assert set(agent.volumes) == {data, new}
    assert {name: amount for (_, name), amount in held(cloud).items()}["STORAGE_GIB"] == 35
    after = agent.specs[uuid]
    assert [disk.volume_uuid for disk in after.disks] == [new, data]
    assert (after.nics, after.cloud_init.hostname) == (before.nics, before.cloud_init.hostname)
    assert after.cloud_init.password_hash.startswith("$6$")
    (task,) = [row for row in cloud.rows(Task) if row.kind == "change_os"]
    assert PASSWORD not in json.dumps(task.args)
    assert task.args["passwordHash"] == ""
    # Installed anew with the same image, and deleted without leaving anything.
    finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/stop", {"gracePeriodSeconds": 0}))
    assert finish(customer, change(customer, ecs_id, password=PASSWORD, user="admin"))["state"] == "Succeeded"
    assert "guest-set-user-password" in agent.guest_commands[-1]
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Running"
    assert finish(customer, customer.call("DELETE", f"{INSTANCES}/{ecs_id}"))["state"] == "Succeeded"
    assert cloud.holds_nothing()
    assert agent.is_empty()


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("ensure_volume", "injected"),
        ("ensure_stopped", "injected"),
        ("ensure_running", "injected"),
        ("silence", "guest"),
    ],
)
def test_the_old_disk_is_back_when_the_new_system_does_not_come(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str, image: Image, call: str, told: str
) -> None:
    (uuid,) = agent.domains
    volumes, amounts, disks = volumes_of(cloud), held(cloud), [disk.volume_uuid for disk in agent.specs[uuid].disks]
    cloud.runtime.settings.new_system_grace = timedelta(seconds=1)
    if call == "silence":
        agent.guest_agent_state = domain_pb2.GUEST_AGENT_STATE_NOT_RUNNING
    agent.refusals[call] = Refusal(grpc.StatusCode.INTERNAL, "HypervisorFailed", "injected", times=1)
    operation = finish(customer, change(customer, ecs_id, imageId=image.id, expectsVmtools=True))
    assert operation["state"] == "Failed", operation
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["status"], shown["imageId"], told in shown["errMessage"]) == ("Running", cloud.image.id, True)
    assert (volumes_of(cloud), held(cloud)) == (volumes, amounts)
    assert [disk.volume_uuid for disk in agent.specs[uuid].disks] == disks
    assert set(agent.volumes) == set(disks)


def test_bad_systems_are_refused_and_change_nothing(
    customer: Api, stranger: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str, image: Image
) -> None:
    before = (held(cloud), volumes_of(cloud))
    arm, iso = stored_image(cloud, cpu_arch="arm"), stored_image(cloud, format="iso")
    huge, foreign = stored_image(cloud, virtual_size_bytes=2000 * GIB), stored_image(cloud, visibility="private")
    for code, told, fields in (
        ("ECS.GetImage.Fail", "imageId", {"imageId": "img-00000000000000"}),
        ("ECS.GetImage.Fail", "imageId", {"imageId": foreign.id}),
        ("ECS.GetImage.Fail", "imageId", {"imageId": iso.id}),
        ("ECS.OperationFailed.InvalidCpuArch", "imageId", {"imageId": arm.id}),
        ("ECS.OperationFailed.Unschedulable", "storage", {"imageId": huge.id}),
        ("ECS.InvalidParameter.Password.ValueNotSupported", "password", {"password": "short"}),
        ("ECS.InvalidParameter", "user", {"user": "a b", "password": PASSWORD}),
        ("ECS.InvalidParameter", "password", {"user": "root"}),
    ):
        answer = change(customer, ecs_id, **{"imageId": image.id, **fields})
        assert (answer.code, told in answer.message) == (code, True), (answer, fields)
    assert change(stranger, ecs_id, imageId=image.id).code == "ECS.DBGet.NoData"
    cloud.change(cloud.tenant, quota_storage_gib=25)
    assert change(customer, ecs_id, imageId=image.id).code == "ECS.OperationDenied.QuotaExceeded"
    cloud.change(cloud.tenant, quota_storage_gib=None)
    finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/suspend"))
    assert change(customer, ecs_id, imageId=image.id).code == NO_STATUS
    assert (held(cloud), volumes_of(cloud)) == before
    assert len(cloud.rows(Instance)) == 1
