"""ISO images in drives of instances, over REST, the task engine and an agent that does as the test says."""

import subprocess
from typing import Any

import grpc
import pytest

from coordinator.runtime import Runtime
from coordinator.store.tables import Image, Tenant, Volume
from protos.agent.v1.domain_pb2 import DISK_BUS_SATA, DISK_BUS_SCSI
from tests.api.client import Answer, Api
from tests.api.cloud import INSTANCES, Cloud, an_os_disk, finish
from tests.api.test_instance_clone import clone
from tests.builders import add, an_image
from tests.database import BOTH_DATABASES
from tests.scripted_agent import Refusal, ScriptedAgent

IMAGES = "/api/image/v1/images"
DATA = {"volumeSize": 5, "volumeType": "ssd", "isOsDisk": False, "deleteOnTermination": True}
LOCKED = Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "MediumLocked", "the guest does not let go of what is in drive sdb")


@pytest.fixture
def ecs_id(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> str:
    """An instance that runs; what it took to make it is forgotten."""
    made = cloud.create(customer)
    agent.calls.clear()
    return made


def an_iso(runtime: Runtime, **columns: Any) -> Image:
    image = an_image(**{"name": "netinst", "format": "iso", "platform": "CentOS", **columns})
    with runtime.database.write() as session:
        add(session, image)
    return image


def put(api: Api, ecs_id: str, action: str, *images: Image, query: str = "") -> Answer:
    return api.call("PUT", f"{INSTANCES}/{ecs_id}/{action}-iso{query}", [{"imageId": image.id} for image in images])


def listed(api: Api, ecs_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.ok("GET", f"{INSTANCES}/{ecs_id}/attached-iso")
    return found


def in_drives(agent: ScriptedAgent) -> dict[int, str]:
    (uuid,) = agent.domains
    return {number: image_id for number, image_id in agent.media.get(uuid, {}).items() if image_id}


@BOTH_DATABASES
def test_isos_are_attached_listed_and_detached(
    customer: Api, stranger: Api, agent: ScriptedAgent, runtime: Runtime, tenant: Tenant, ecs_id: str
) -> None:
    (spec,) = agent.specs.values()
    assert [(drive.number, drive.bus, drive.HasField("image")) for drive in spec.optical_drives] == [
        (number, DISK_BUS_SCSI, False) for number in range(3)
    ]
    one, other = an_iso(runtime), an_iso(runtime, name="drivers")
    answer = put(customer, ecs_id, "attach", one, other)
    assert (answer.code, answer.data) == ("Success", None)
    assert finish(customer, answer)["state"] == "Succeeded"
    assert agent.calls == ["ensure_image_cached", "ensure_image_cached", "ensure_medium", "ensure_medium"]
    assert in_drives(agent) == {0: one.id, 1: other.id}
    expected = {
        "ecsId": ecs_id,
        "imageId": one.id,
        "imageName": "netinst",
        "tenantId": tenant.id,
        "osType": "linux",
        "platform": "CentOS",
        "status": "attached",
        "bootState": False,
    }
    assert listed(customer, ecs_id) == [expected, {**expected, "imageId": other.id, "imageName": "drivers"}]
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["isMountedISO"] is True
    assert stranger.refused("GET", f"{INSTANCES}/{ecs_id}/attached-iso").code == "ECS.DBGet.NoData"

    # What is in a drive is there also after it was defined anew.
    for action in ("stop", "start"):
        answer = customer.call("PUT", f"{INSTANCES}/{ecs_id}/{action}", {"gracePeriodSeconds": 1})
        assert finish(customer, answer)["state"] == "Succeeded"
    (spec,) = agent.specs.values()
    assert [drive.image.image_id for drive in spec.optical_drives] == [one.id, other.id, ""]

    assert finish(customer, put(customer, ecs_id, "detach", one))["state"] == "Succeeded"
    assert in_drives(agent) == {1: other.id}
    # The drive that is empty is used first, the other stays where it is.
    assert finish(customer, put(customer, ecs_id, "attach", one))["state"] == "Succeeded"
    assert in_drives(agent) == {0: one.id, 1: other.id}
    assert finish(customer, put(customer, ecs_id, "detach"))["state"] == "Succeeded"
    assert (in_drives(agent), listed(customer, ecs_id)) == ({}, [])
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["isMountedISO"] is False
    assert "x-operation-id" not in put(customer, ecs_id, "detach").headers


@pytest.mark.parametrize("body", [lambda one: {"attachRequests": one}, lambda one: {"imageId": one}, lambda one: one])
def test_bodies_as_callers_write_them(customer: Api, runtime: Runtime, ecs_id: str, body: Any) -> None:
    wrapped = body([{"imageld": an_iso(runtime).id}])
    for action in ("attach", "detach"):
        answer = customer.call("PUT", f"{INSTANCES}/{ecs_id}/{action}-iso", wrapped)
        assert finish(customer, answer)["state"] == "Succeeded"


def test_what_cannot_be_attached(
    operator: Api, customer: Api, stranger: Api, cloud: Cloud, runtime: Runtime, ecs_id: str
) -> None:
    good = an_iso(runtime)
    private = an_iso(runtime, visibility="private")
    queued = an_iso(runtime, status="Queued")
    for images, code, named in (
        ((), "ECS.InvalidParameter", "imageId: "),
        ((good, good), "ECS.InvalidParameter", "imageId: "),
        ((good, cloud.image), "ECS.GetImage.Fail", "imageId: "),
        ((good, queued), "ECS.GetImage.Fail", "imageId: "),
        ((good, private), "ECS.DBGet.NoData", "image "),
        ((good, *(an_iso(runtime) for _ in range(3))), "ECS.OperationDenied.ISONumOverLimit", "imageId: "),
    ):
        answer = put(operator, ecs_id, "attach", *images)
        assert (answer.status, answer.code) == (400, code)
        assert answer.message.startswith(named)
    for body, named in (([{}], "imageId"), ({"imageId": "x"}, "body"), ([{"imageId": "x" * 33}], "imageId")):
        answer = customer.refused("PUT", f"{INSTANCES}/{ecs_id}/attach-iso", body)
        assert named in answer.message
    assert put(stranger, ecs_id, "attach", good).code == "ECS.DBGet.NoData"
    assert listed(customer, ecs_id) == []
    assert finish(customer, put(customer, ecs_id, "attach", good))["state"] == "Succeeded"
    assert put(customer, ecs_id, "attach", good).code == "ECS.OperationDenied.Repeat"
    assert put(customer, ecs_id, "detach", queued).code == "ECS.InvalidParameter.Status.NotSupported"
    answer = customer.call("PUT", f"{INSTANCES}/{ecs_id}/suspend")
    assert finish(customer, answer)["state"] == "Succeeded"
    assert put(customer, ecs_id, "detach", good).code == "ECS.InvalidParameter.Status.NotSupported"


def test_what_a_guest_holds_on_to_stays_unless_it_is_forced(
    customer: Api, agent: ScriptedAgent, runtime: Runtime, ecs_id: str
) -> None:
    one, other = an_iso(runtime), an_iso(runtime)
    assert finish(customer, put(customer, ecs_id, "attach", one, other))["state"] == "Succeeded"
    agent.refusals["ensure_medium"] = LOCKED
    operation = finish(customer, put(customer, ecs_id, "detach", one, other))
    assert (operation["state"], operation["error"]["code"]) == ("Failed", "ECS.OperationFailed.DetachISO")
    assert [iso["status"] for iso in listed(customer, ecs_id)] == ["attached", "attached"]
    assert in_drives(agent) == {0: one.id, 1: other.id}
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Running"
    answer = put(customer, ecs_id, "detach", one, other, query="?force=true")
    assert finish(customer, answer)["state"] == "Succeeded"
    assert in_drives(agent) == {}

    agent.refusals["ensure_medium"] = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "DevicePlugUnsafe", "no such drive")
    operation = finish(customer, put(customer, ecs_id, "attach", one))
    assert (operation["state"], operation["error"]["code"]) == ("Failed", "ECS.OperationFailed.AttachISO")
    assert listed(customer, ecs_id) == []


def test_an_image_in_a_drive_is_not_deleted(operator: Api, customer: Api, runtime: Runtime, ecs_id: str) -> None:
    image = an_iso(runtime)
    assert finish(customer, put(customer, ecs_id, "attach", image))["state"] == "Succeeded"
    assert operator.refused("DELETE", f"{IMAGES}/{image.id}").code == "ECS.OperationFailed.ImageUsed"
    assert finish(customer, customer.call("DELETE", f"{INSTANCES}/{ecs_id}"))["state"] == "Succeeded"
    operator.ok("DELETE", f"{IMAGES}/{image.id}")


def test_installers_of_windows_find_their_drives(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> None:
    cloud.change(cloud.image, os_type="windows")
    cloud.create(customer)
    (spec,) = agent.specs.values()
    assert {drive.bus for drive in spec.optical_drives} == {DISK_BUS_SATA}


def test_the_guest_tools_come_on_a_disc(
    customer: Api, stranger: Api, agent: ScriptedAgent, runtime: Runtime, ecs_id: str
) -> None:
    path = f"{INSTANCES}/{ecs_id}"
    assert customer.ok("GET", f"{path}/check-vmtoolsIso-attached") == "detached"
    answer = customer.call("PUT", f"{path}/attach-vmtools")
    assert (answer.code, answer.data) == ("Success", None)
    assert finish(customer, answer)["state"] == "Succeeded"
    assert customer.ok("GET", f"{path}/check-vmtoolsIso-attached") == "attached"
    (iso,) = listed(customer, ecs_id)
    assert in_drives(agent) == {0: iso["imageId"]}
    assert customer.call("PUT", f"{path}/attach-vmtools").headers.get("x-operation-id") is None
    image = customer.ok("GET", f"{IMAGES}/{iso['imageId']}")
    file = runtime.settings.images_dir / iso["imageId"]
    assert (image["format"], image["sizeBytes"]) == ("iso", file.stat().st_size)
    command = ["isoinfo", "-R", "-i", str(file), "-x", "/install.sh"]
    script = subprocess.run(command, capture_output=True, check=True).stdout
    assert subprocess.run(["sh", "-n"], input=script, check=False).returncode == 0
    assert b"qemu-guest-agent" in script
    assert finish(customer, customer.call("PUT", f"{path}/detach-iso", []))["state"] == "Succeeded"
    assert customer.ok("GET", f"{path}/check-vmtoolsIso-attached") == "detached"
    for method, action in (("GET", "check-vmtoolsIso-attached"), ("PUT", "attach-vmtools")):
        assert stranger.refused(method, f"{path}/{action}").code == "ECS.DBGet.NoData"


def test_an_instance_starts_from_a_disc_and_from_its_disks_again(
    customer: Api, stranger: Api, agent: ScriptedAgent, runtime: Runtime, ecs_id: str
) -> None:
    (uuid,) = agent.domains
    disc, other = an_iso(runtime), an_iso(runtime, name="other")
    finish(customer, put(customer, ecs_id, "attach", disc))

    def order(api: Api = customer, **body: Any) -> Answer:
        return api.call("PUT", f"{INSTANCES}/{ecs_id}/set-boot-order", body)

    def boot_indices() -> tuple[list[int], list[int]]:
        spec = agent.specs[uuid]
        return [drive.boot_index for drive in spec.optical_drives], [disk.boot_index for disk in spec.disks]

    for code, told, body in (
        ("ECS.OperationFailed.AlreadyBootedFromDisk", "disk", {"bootMode": 0}),
        ("ECS.InvalidParameter", "bootId", {"bootMode": 1}),
        ("ECS.InvalidParameter", "bootMode", {"bootMode": 2}),
        ("ECS.InvalidParameter", "bootMode", {}),
        ("ECS.OperationFailed.SetBootOrder", other.id, {"bootMode": 1, "bootId": other.id}),
    ):
        answer = order(**body)
        assert (answer.code, told in answer.message) == (code, True), answer
    assert order(stranger, bootMode=0).code == "ECS.DBGet.NoData"
    assert finish(customer, order(bootMode=1, bootId=disc.id))["state"] == "Succeeded"
    assert boot_indices() == ([1, 0, 0], [2])
    assert [iso["bootState"] for iso in listed(customer, ecs_id)] == [True]
    assert order(bootMode=1, bootId=disc.id).code == "ECS.OperationFailed.AlreadyBootedFromCDROM"
    finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/stop", {"gracePeriodSeconds": 0}))
    answer = order(bootMode=0)
    assert (answer.code, answer.data, "x-operation-id" in answer.headers) == ("Success", None, False)
    finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/start"))
    assert boot_indices() == ([0, 0, 0], [1])


def test_a_system_is_installed_from_a_disc(customer: Api, cloud: Cloud, agent: ScriptedAgent, runtime: Runtime) -> None:
    iso = an_iso(runtime, virtual_size_bytes=100 * 1024**3, os_type="windows")
    ecs_id = cloud.create(customer, image={"imageUid": iso.id}, volumes=[an_os_disk(volumeSize=30), DATA])
    (spec,) = agent.specs.values()
    assert [(drive.image.image_id, drive.boot_index) for drive in spec.optical_drives] == [
        (iso.id, 1),
        ("", 0),
        ("", 0),
    ]
    assert [disk.boot_index for disk in spec.disks] == [2, 0]
    # The disk has its own size, whatever that of the disc is, and stands on nothing.
    disk = cloud.rows(Volume)[0]
    assert (disk.image_id, agent.volumes[disk.uuid], agent.images) == (None, 30 * 1024**3, {iso.id})
    assert [(it["imageId"], it["status"], it["bootState"]) for it in listed(customer, ecs_id)] == [
        (iso.id, "attached", True)
    ]
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["imageId"], shown["isMountedISO"], shown["osType"]) == (iso.id, True, "windows")
    assert customer.refused("DELETE", f"{IMAGES}/{iso.id}").code == "ECS.OperationDenied.Identity"
    # The system that is there cannot be made anew of a disc.
    refused = customer.refused("POST", f"{INSTANCES}/{ecs_id}/change-os", {})
    assert (refused.code, refused.message[:8]) == ("ECS.GetImage.Fail", "imageId:")

    # Installed: it starts from its disk, and nobody needs the disc any more.
    booting = customer.call("PUT", f"{INSTANCES}/{ecs_id}/set-boot-order", {"bootMode": 0})
    assert finish(customer, booting)["state"] == "Succeeded"
    assert finish(customer, put(customer, ecs_id, "detach", iso))["state"] == "Succeeded"
    (spec,) = agent.specs.values()
    assert ([disk.boot_index for disk in spec.disks], in_drives(agent)) == ([1, 0], {})


def test_what_was_installed_outlives_its_disc(
    operator: Api, customer: Api, cloud: Cloud, agent: ScriptedAgent, runtime: Runtime
) -> None:
    iso = an_iso(runtime)
    ecs_id = cloud.create(customer, image={"imageUid": iso.id})
    assert operator.refused("DELETE", f"{IMAGES}/{iso.id}").code == "ECS.OperationFailed.ImageUsed"
    taking = customer.call("POST", "/api/ecs/v1/snapshot", {"ecsId": ecs_id, "snapshotName": "installed"})
    assert finish(customer, taking)["state"] == "Succeeded"
    assert finish(customer, put(customer, ecs_id, "detach", iso))["state"] == "Succeeded"
    operator.ok("DELETE", f"{IMAGES}/{iso.id}")
    [snapshot] = customer.ok("GET", f"/api/ecs/v1/snapshot?ecsid={ecs_id}")["ecsSnapshots"]
    copy = cloud.create(customer, image=None, volumes=[an_os_disk(osSnapshotId=snapshot["id"])])
    source = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    cloning = clone(customer, cloud, source)
    assert finish(customer, cloning)["state"] == "Succeeded"
    assert [listed(customer, other) for other in (copy, cloning.data["ecsId"])] == [[], []]
    assert {volume.image_id for volume in cloud.rows(Volume)} == {None}


def test_a_disc_that_could_not_be_started_from_is_in_no_drive(
    operator: Api, customer: Api, cloud: Cloud, agent: ScriptedAgent, runtime: Runtime
) -> None:
    iso = an_iso(runtime)
    agent.refusals["ensure_defined"] = Refusal(grpc.StatusCode.INTERNAL, "HypervisorFailed", "no")
    answer = customer.call("POST", INSTANCES, cloud.order(image={"imageUid": iso.id}))
    assert finish(customer, answer)["state"] == "Failed"
    ecs_id = answer.data["ecsId"]
    assert (listed(customer, ecs_id), cloud.holds_nothing()) == ([], True)
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["isMountedISO"] is False
    operator.ok("DELETE", f"{IMAGES}/{iso.id}")
