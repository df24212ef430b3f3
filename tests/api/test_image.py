"""Images: registering, uploading, downloading, who sees them."""

import hashlib
import os
import struct
import subprocess
import threading
from typing import Any
from uuid import uuid4

import grpc
import pytest
from fastapi.testclient import TestClient

from coordinator.config import Settings
from coordinator.runtime import Runtime
from coordinator.services.image_eviction import evict_deleted_images
from coordinator.services.retention import forget_expired
from coordinator.store.tables import Image, Tenant, Volume
from tests.api.client import Answer, Api
from tests.api.cloud import INSTANCES, Cloud, finish
from tests.builders import a_flavor, a_flavor_type, add, an_image, an_instance
from tests.database import BOTH_DATABASES, SQLITE_ONLY
from tests.scripted_agent import Refusal, ScriptedAgent

IMAGES = "/api/image/v1/images"
RAW = b"\x55" * 1_500_000
GIB = 1024**3


def a_qcow2(
    *,
    version: int = 3,
    backing: int = 0,
    crypt: int = 0,
    features: int = 0,
    size: int = 5 * GIB,
    cluster_bits: int = 16,
    l1: tuple[int, int] = (4096, 4096),
    references: tuple[int, int] = (8192, 1),
) -> bytes:
    """A header; tables are told by their size and offset, or the other way round, as there."""
    header = struct.pack(
        ">4sIQIIQIIQQIIQ", b"QFI\xfb", version, backing, 0, cluster_bits, size, crypt, *l1, *references, 0, 0
    )
    return header + struct.pack(">Q", features) + bytes(65536)


def an_iso() -> bytes:
    return bytes(32769) + b"CD001" + bytes(4096)


def register(api: Api, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = api.ok("POST", IMAGES, {"name": "debian", "format": "raw", **fields})
    return made


def upload(api: Api, image: dict[str, Any], content: bytes) -> Answer:
    return api.call("PUT", f"{IMAGES}/{image['imageId']}/file", content=content)


def files(runtime: Runtime) -> list[str]:
    directory = runtime.settings.images_dir
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def test_an_image_is_queued_until_its_file_arrives(customer: Api, runtime: Runtime, tenant: Tenant) -> None:
    made = register(customer, cpuArch="arm", platform="Debian", osVersion="13")
    assert made["imageId"].startswith("img-")
    assert (made["status"], made["visibility"], made["tenantId"]) == ("Queued", "private", tenant.id)
    answer = upload(customer, made, RAW)
    assert answer.data == {
        **made,
        "status": "Active",
        "sizeBytes": len(RAW),
        "virtualSizeBytes": len(RAW),
        "sha256": hashlib.sha256(RAW).hexdigest(),
        "updatedAt": answer.data["updatedAt"],
    }
    assert files(runtime) == [made["imageId"]]
    assert (runtime.settings.images_dir / made["imageId"]).read_bytes() == RAW


def test_the_file_can_be_downloaded_again(customer: Api, client: TestClient) -> None:
    made = register(customer)
    path = f"{IMAGES}/{made['imageId']}/file"
    assert customer.refused("GET", path).code == "ECS.GetImage.Fail"
    upload(customer, made, RAW)
    download = client.get(path, headers={"authorization": f"Bearer {customer.token}", "x-regionid": "region0"})
    assert download.content == RAW
    assert made["imageId"] in download.headers["content-disposition"]


def test_the_disk_of_a_qcow2_file_has_its_own_size(customer: Api) -> None:
    for version in (2, 3):
        answer = upload(customer, register(customer, format="qcow2"), a_qcow2(version=version))
        assert answer.data["virtualSizeBytes"] == 5 * GIB
    assert upload(customer, register(customer, format="iso"), an_iso()).code == "Success"


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("image_format", "content", "named"),
    [
        ("raw", b"", "file"),
        ("raw", a_qcow2(), "format"),
        ("iso", a_qcow2(), "format"),
        ("iso", RAW, "format"),
        ("qcow2", RAW, "format"),
        ("qcow2", b"QFI\xfb\0\0\0\x03", "file"),
        ("qcow2", a_qcow2(version=4), "file"),
        ("qcow2", a_qcow2(backing=1024), "file"),
        ("qcow2", a_qcow2(crypt=1), "file"),
        ("qcow2", a_qcow2(features=4), "file"),
        ("qcow2", a_qcow2(features=2), "file"),
        ("qcow2", a_qcow2(features=1 << 9), "file"),
        ("qcow2", a_qcow2(size=2**63), "file"),
        ("qcow2", a_qcow2(size=17 * 1024 * GIB, cluster_bits=21), "file"),
        ("qcow2", a_qcow2(cluster_bits=30), "file"),
        ("qcow2", a_qcow2(l1=(8, 4096)), "file"),
        ("qcow2", a_qcow2(l1=(4096, 1 << 40)), "file"),
        ("qcow2", a_qcow2(references=(8192, 1 << 20)), "file"),
        ("", b"KDMV" + RAW, "format"),
        ("raw", b"\x1f\x8b\x08" + RAW, "format"),
    ],
)
def test_a_file_that_is_not_what_was_announced(
    customer: Api, runtime: Runtime, image_format: str, content: bytes, named: str
) -> None:
    made = register(customer, format=image_format)
    answer = upload(customer, made, content)
    assert (answer.status, answer.code) == (400, "ECS.GetImage.Fail")
    assert answer.message.startswith(f"{named}: ")
    shown = customer.ok("GET", f"{IMAGES}/{made['imageId']}")
    assert (shown["status"], shown["errorMessage"]) == ("Error", answer.message)
    assert files(runtime) == []


@pytest.mark.parametrize(("content", "found"), [(RAW, "raw"), (a_qcow2(), "qcow2"), (an_iso(), "iso")])
def test_the_format_is_told_by_the_file(customer: Api, content: bytes, found: str) -> None:
    made = register(customer, format="")
    assert made["format"] == ""
    assert upload(customer, made, content).data["format"] == found


def send_part(api: Api, image: dict[str, Any], offset: int, content: bytes, length: int | None = None) -> Answer:
    headers = {"upload-offset": str(offset), "content-type": "application/offset+octet-stream"}
    if length is not None:
        headers["upload-length"] = str(length)
    return api.call("PATCH", f"{IMAGES}/{image['imageId']}/file", content=content, headers=headers)


def ask_offset(api: Api, image: dict[str, Any]) -> tuple[str, str | None]:
    headers = {"authorization": f"Bearer {api.token}", "x-regionid": "region0"}
    answer = api.client.head(f"{IMAGES}/{image['imageId']}/file", headers=headers)
    assert (answer.status_code, answer.headers["tus-resumable"]) == (200, "1.0.0")
    return answer.headers["upload-offset"], answer.headers.get("upload-length")


def test_an_upload_goes_on_where_it_broke_off(customer: Api, stranger: Api, runtime: Runtime) -> None:
    made = register(customer, sha256=hashlib.sha256(RAW).hexdigest())
    assert ask_offset(customer, made) == ("0", None)
    unannounced = send_part(customer, made, 0, RAW[:10])
    assert (unannounced.status, unannounced.message[:14]) == (400, "Upload-Length:")
    first = send_part(customer, made, 0, RAW[:600_000], len(RAW))
    assert (first.data["status"], first.headers["upload-offset"]) == ("Queued", "600000")
    # Another process: nothing of the upload is in memory.
    assert ask_offset(customer, made) == ("600000", str(len(RAW)))
    for offset in (0, 599_999, 700_000):
        assert send_part(customer, made, offset, b"x").code == "ECS.OperationFailed.UploadOffset"
    for offset in (0, 600_000):
        assert send_part(customer, made, offset, b"x", 1_000).message.startswith("Upload-Length:")
    assert send_part(stranger, made, 600_000, b"x").code == "ECS.DBGet.NoData"
    assert send_part(customer, made, 600_000, RAW[600_000:] + b"!").status == 413
    assert ask_offset(customer, made)[0] == "600000"
    last = send_part(customer, made, 600_000, RAW[600_000:])
    assert (last.data["status"], last.data["sha256"]) == ("Active", hashlib.sha256(RAW).hexdigest())
    assert files(runtime) == [made["imageId"]]
    assert (runtime.settings.images_dir / made["imageId"]).read_bytes() == RAW
    assert ask_offset(customer, made) == (str(len(RAW)), str(len(RAW)))
    assert send_part(customer, made, len(RAW), b"").code == "ECS.OperationDenied.Repeat"


def test_an_upload_whose_end_nobody_was_told_of_ends_by_an_empty_piece(customer: Api, runtime: Runtime) -> None:
    made = register(customer)
    send_part(customer, made, 0, RAW[:-1], len(RAW))
    # The process has died after it took the last byte.
    with (runtime.settings.images_dir / f".{made['imageId']}.upload").open("ab") as part:
        part.write(RAW[-1:])
    assert send_part(customer, made, len(RAW), b"").data["status"] == "Active"


def test_pieces_that_are_not_what_was_announced_are_sent_anew(customer: Api, runtime: Runtime) -> None:
    made = register(customer, format="iso")
    answer = send_part(customer, made, 0, RAW, len(RAW))
    assert (answer.code, customer.ok("GET", f"{IMAGES}/{made['imageId']}")["status"]) == ("ECS.GetImage.Fail", "Error")
    assert files(runtime) == []
    assert send_part(customer, made, 0, an_iso(), len(an_iso())).data["status"] == "Active"


def test_an_upload_that_nobody_goes_on_with_is_forgotten(customer: Api, runtime: Runtime) -> None:
    old, young = register(customer, name="old"), register(customer, name="young")
    for image in (old, young):
        send_part(customer, image, 0, RAW, len(RAW) + 1)
    long_ago = runtime.now().timestamp() - runtime.settings.upload_expiry.total_seconds() - 1
    os.utime(runtime.settings.images_dir / f".{old['imageId']}.upload", (long_ago, long_ago))
    forget_expired(runtime)
    assert files(runtime) == [f".{young['imageId']}.upload"]
    assert customer.ok("GET", f"{IMAGES}/{old['imageId']}")["status"] == "Error"
    assert upload(customer, old, RAW).data["status"] == "Active"
    customer.ok("DELETE", f"{IMAGES}/{young['imageId']}")
    assert files(runtime) == [old["imageId"]]


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"content-type": "application/offset+octet-stream"}, "upload-offset"),
        ({"content-type": "application/offset+octet-stream", "upload-offset": "-1"}, "upload-offset"),
        ({"content-type": "application/octet-stream", "upload-offset": "0"}, "Content-Type"),
        (
            {"content-type": "application/offset+octet-stream", "upload-offset": "0", "upload-length": str(2**50)},
            "Upload-Length",
        ),
    ],
)
def test_bad_headers_of_a_piece_are_named(customer: Api, headers: dict[str, str], named: str) -> None:
    path = f"{IMAGES}/{register(customer)['imageId']}/file"
    answer = customer.refused("PATCH", path, content=b"x", headers=headers)
    assert answer.message.startswith(f"{named}: ")


def test_what_is_said_of_an_image_can_be_changed(operator: Api, customer: Api, stranger: Api) -> None:
    made = register(customer)
    path = f"{IMAGES}/{made['imageId']}"
    changed = customer.ok("PUT", path, {"name": "trixie", "osVersion": "13", "platform": "Debian", "sha256": "0"})
    assert changed == {
        **made,
        "name": "trixie",
        "osVersion": "13",
        "platform": "Debian",
        "updatedAt": changed["updatedAt"],
    }
    assert customer.refused("PUT", path, {"visibility": "public"}).code == "ECS.OperationDenied.Identity"
    assert stranger.refused("PUT", path, {"name": "mine"}).code == "ECS.DBGet.NoData"
    for body, named in (({"name": ""}, "name"), ({"osType": "bsd"}, "osType"), ({"visibility": "all"}, "visibility")):
        assert operator.refused("PUT", path, body).message.startswith(f"{named}: ")
    assert operator.ok("PUT", path, {"visibility": "public"})["visibility"] == "public"
    assert stranger.ok("GET", path)["name"] == "trixie"
    assert stranger.refused("PUT", path, {"name": "mine"}).code == "ECS.OperationDenied.Identity"
    public = register(operator)
    refused = operator.refused("PUT", f"{IMAGES}/{public['imageId']}", {"visibility": "private"})
    assert refused.message.startswith("visibility: ")


def test_a_wrong_checksum_is_refused_and_the_right_file_still_accepted(customer: Api, runtime: Runtime) -> None:
    made = register(customer, sha256=hashlib.sha256(RAW).hexdigest().upper())
    answer = upload(customer, made, RAW + b"!")
    assert (answer.code, answer.message[:8]) == ("ECS.GetImage.Fail", "sha256: ")
    assert files(runtime) == []
    assert upload(customer, made, RAW).data["status"] == "Active"


def test_a_file_that_is_too_large_leaves_nothing(customer: Api, runtime: Runtime) -> None:
    runtime.settings = Settings(**{**runtime.settings.model_dump(), "max_image_bytes": len(RAW) - 1})
    made = register(customer)
    assert upload(customer, made, RAW).status == 413
    assert files(runtime) == []
    assert customer.ok("GET", f"{IMAGES}/{made['imageId']}")["status"] == "Queued"


@SQLITE_ONLY
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_disk_that_is_full_is_told_and_left_as_it_was(customer: Api, runtime: Runtime) -> None:
    directory = runtime.settings.images_dir
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={len(RAW) // 2}", "tmpfs", directory], check=True)
    try:
        whole, pieces = register(customer), register(customer)
        full = upload(customer, whole, RAW)
        assert (full.status, full.code) == (507, "ECS.OperationFailed.ImageStorage")
        assert files(runtime) == []
        full = send_part(customer, pieces, 0, RAW[:900_000], len(RAW))
        assert (full.status, full.code) == (507, "ECS.OperationFailed.ImageStorage")
        subprocess.run(["mount", "-o", f"remount,size={2 * len(RAW)}", directory], check=True)
        offset = int(ask_offset(customer, pieces)[0])
        assert 0 < offset < 900_000
        assert send_part(customer, pieces, offset, RAW[offset:]).data["status"] == "Active"
        assert (directory / pieces["imageId"]).read_bytes() == RAW
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def test_an_active_image_takes_no_other_file(customer: Api, runtime: Runtime) -> None:
    made = register(customer)
    upload(customer, made, RAW)
    assert upload(customer, made, b"other").code == "ECS.OperationDenied.Repeat"
    assert (runtime.settings.images_dir / made["imageId"]).read_bytes() == RAW


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": ""}, "name"),
        ({"format": "vmdk"}, "format"),
        ({"cpuArch": "mips"}, "cpuArch"),
        ({"visibility": "secret"}, "visibility"),
        ({"sha256": "12"}, "sha256"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "http://"}, "url"),
        ({"url": "http://user:password@example.com/x"}, "url"),
        ({"url": "http://exa mple"}, "url"),
        ({"url": "https://example.com/" + "x" * 1024}, "url"),
    ],
)
def test_bad_metadata_is_named(customer: Api, fields: dict[str, Any], named: str) -> None:
    answer = customer.refused("POST", IMAGES, {"name": "n", "format": "raw", **fields})
    assert answer.code == "ECS.InvalidParameter"
    assert answer.message.startswith(f"{named}: ")


def test_who_sees_which_image(operator: Api, customer: Api, stranger: Api, tenant: Tenant) -> None:
    private = register(customer, name="private")
    public = register(operator, name="public")
    given = register(operator, name="given", tenantId=tenant.id)
    assert (public["visibility"], given["visibility"]) == ("public", "private")

    def seen(api: Api) -> set[str]:
        return {image["name"] for image in api.ok("GET", IMAGES)["list"]}

    assert seen(operator) == {"private", "public", "given"}
    assert seen(customer) == {"private", "public", "given"}
    assert seen(stranger) == {"public"}
    path = f"{IMAGES}/{private['imageId']}"
    for method, at in (("GET", path), ("DELETE", path), ("GET", f"{path}/file"), ("PUT", f"{path}/file")):
        assert stranger.refused(method, at).code == "ECS.DBGet.NoData"


def test_tenants_own_no_public_images(operator: Api, customer: Api, stranger: Api, tenant: Tenant) -> None:
    denied = "ECS.OperationDenied.Identity"
    order = {"name": "n", "format": "raw"}
    assert customer.refused("POST", IMAGES, {**order, "visibility": "public"}).code == denied
    assert stranger.refused("POST", IMAGES, {**order, "tenantId": tenant.id}).code == denied
    public = register(operator)
    assert customer.refused("DELETE", f"{IMAGES}/{public['imageId']}").code == denied
    assert upload(customer, public, RAW).code == denied


def test_an_image_in_use_is_not_deleted(operator: Api, runtime: Runtime, tenant: Tenant) -> None:
    made = register(operator)
    upload(operator, made, RAW)
    kind = a_flavor_type()
    flavor = a_flavor(kind)
    instance = an_instance(tenant, flavor, image_id=made["imageId"])
    with runtime.database.write() as session:
        add(session, kind, flavor, instance)
    path = f"{IMAGES}/{made['imageId']}"
    assert operator.refused("DELETE", path).code == "ECS.OperationFailed.ImageUsed"
    disk = Volume(
        uuid=str(uuid4()),
        name="kept",
        tenant_id=tenant.id,
        size_gib=1,
        volume_type="hdd",
        status="available",
        image_id=made["imageId"],
    )
    with runtime.database.write() as session:
        instance.deleted_at = runtime.now()
        session.add_all([instance, disk])
    assert "1 volumes" in operator.refused("DELETE", path).message
    with runtime.database.write() as session:
        session.delete(disk)
    operator.ok("DELETE", path)
    assert files(runtime) == []
    for method, at in (("GET", path), ("DELETE", path), ("GET", f"{path}/file")):
        assert operator.refused(method, at).code == "ECS.DBGet.NoData"


def test_an_image_from_a_url_names_its_operation(customer: Api, stranger: Api, runtime: Runtime) -> None:
    answer = customer.call("POST", IMAGES, {"name": "n", "format": "raw", "url": "https://example.com/x.img"})
    assert (answer.data["status"], answer.data["sourceUrl"]) == ("Importing", "https://example.com/x.img")
    path = f"/api/ecs/v1/operations/{answer.headers['x-operation-id']}"
    operation = customer.ok("GET", path)
    assert (operation["kind"], operation["resourceId"]) == ("fetch_image", answer.data["imageId"])
    assert stranger.refused("GET", path).code == "ECS.DBGet.NoData"
    assert upload(customer, answer.data, RAW).code == "ECS.OperationDenied.Repeat"
    customer.ok("DELETE", f"{IMAGES}/{answer.data['imageId']}")
    assert customer.ok("GET", path)["state"] == "Canceling"


@BOTH_DATABASES
def test_images_are_filtered(operator: Api, runtime: Runtime) -> None:
    rows: list[Image] = [an_image(name="a"), an_image(name="b", status="Queued"), an_image(name="c", cpu_arch="arm")]
    with runtime.database.write() as session:
        add(session, *rows)
    found = operator.ok("GET", f"{IMAGES}?filter=status:eq:ACTIVE|cpuArch:eq:x86")
    assert ([image["name"] for image in found["list"]], found["totalCount"]) == (["a"], 1)


def test_deleted_images_leave_the_nodes(operator: Api, runtime: Runtime, agent: ScriptedAgent) -> None:
    kept, gone = an_image(name="kept"), an_image(name="gone")
    with runtime.database.write() as session:
        add(session, kept, gone)
    agent.images = {kept.id, gone.id, "img-of-nobody"}
    operator.ok("DELETE", f"{IMAGES}/{gone.id}")
    agent.refusals["ensure_image_evicted"] = Refusal(
        grpc.StatusCode.FAILED_PRECONDITION, "ImageInUse", "backs", times=1
    )
    evict_deleted_images(runtime)
    assert gone.id in agent.images
    evict_deleted_images(runtime)
    assert agent.images == {kept.id, "img-of-nobody"}
    agent.refusals["list_images"] = Refusal(grpc.StatusCode.UNAVAILABLE, "")
    evict_deleted_images(runtime)


def stop(api: Api, ecs_id: str) -> None:
    answer = api.call("PUT", f"{INSTANCES}/{ecs_id}/stop", {"gracePeriodSeconds": 0})
    assert finish(api, answer)["state"] == "Succeeded"


def test_an_image_is_made_of_an_instance_that_is_off(
    customer: Api, stranger: Api, cloud: Cloud, agent: ScriptedAgent, runtime: Runtime, tenant: Tenant
) -> None:
    agent.exported = a_qcow2()
    ecs_id = cloud.create(customer)
    order = {"name": "golden", "ecsId": ecs_id}
    answer = customer.call("PUT", f"{INSTANCES}/{ecs_id}/suspend")
    assert finish(customer, answer)["state"] == "Succeeded"
    assert customer.refused("POST", IMAGES, order).code == "ECS.InvalidParameter.Status.NotSupported"
    stop(customer, ecs_id)
    for fields, named in (
        ({"format": "raw"}, "ecsId"),
        ({"url": "https://example.com/x"}, "ecsId"),
        ({"sha256": "0" * 64}, "ecsId"),
        ({"ecsId": "x" * 33}, "ecsId"),
    ):
        assert customer.refused("POST", IMAGES, {**order, **fields}).message.startswith(f"{named}: ")
    public = customer.refused("POST", IMAGES, {**order, "visibility": "public"})
    assert public.code == "ECS.OperationDenied.Identity"
    assert stranger.refused("POST", IMAGES, order).code == "ECS.DBGet.NoData"

    answer = customer.call("POST", IMAGES, {"name": "golden", "ecsld": ecs_id})
    assert (answer.data["status"], answer.data["visibility"], answer.data["tenantId"]) == (
        "Importing",
        "private",
        tenant.id,
    )
    assert finish(customer, answer)["state"] == "Succeeded"
    image = customer.ok("GET", f"{IMAGES}/{answer.data['imageId']}")
    assert (image["status"], image["format"], image["virtualSizeBytes"]) == ("Active", "qcow2", 5 * GIB)
    assert (runtime.settings.images_dir / image["imageId"]).read_bytes() == agent.exported
    assert not agent.exports
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Stopped"


def test_an_image_that_could_not_be_made_of_an_instance_leaves_nothing(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, runtime: Runtime
) -> None:
    ecs_id = cloud.create(customer)
    stop(customer, ecs_id)
    # A node that is not to be trusted: its copy names another file.
    agent.exported = a_qcow2(backing=1024)
    answer = customer.call("POST", IMAGES, {"name": "golden", "ecsId": ecs_id})
    assert finish(customer, answer)["state"] == "Failed"
    image = customer.ok("GET", f"{IMAGES}/{answer.data['imageId']}")
    assert (image["status"], image["errorMessage"][:5]) == ("Error", "file:")
    assert (files(runtime), agent.exports) == ([], set())
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Stopped"
    customer.ok("DELETE", f"{IMAGES}/{image['imageId']}")


def test_an_image_of_a_guest_that_runs_says_when_it_was_not_frozen(
    customer: Api, cloud: Cloud, agent: ScriptedAgent
) -> None:
    agent.exported = a_qcow2()
    ecs_id, shown = cloud.create(customer), []
    for fields, agent.unfrozen_reason in (({}, ""), ({"quiesce": "false"}, "no guest agent")):
        answer = customer.call("POST", IMAGES, {"name": "golden", "ecsId": ecs_id, **fields})
        assert finish(customer, answer)["state"] == "Succeeded"
        image = customer.ok("GET", f"{IMAGES}/{answer.data['imageId']}")
        shown.append((agent.orders[-1].quiesce, image["consistency"], image["warning"]))
    assert shown == [(True, "fileSystem", ""), (False, "crash", "no guest agent")]


def test_an_image_is_made_of_a_snapshot_while_its_instance_is_changed(
    customer: Api, stranger: Api, cloud: Cloud, agent: ScriptedAgent, tenant: Tenant
) -> None:
    agent.exported = a_qcow2()
    ecs_id = cloud.create(customer)
    taking = customer.call("POST", "/api/ecs/v1/snapshot", {"ecsId": ecs_id, "snapshotName": "before"})
    assert finish(customer, taking)["state"] == "Succeeded"
    [snapshot] = customer.ok("GET", f"/api/ecs/v1/snapshot?ecsid={ecs_id}")["ecsSnapshots"]
    order = {"name": "golden", "snapshotId": snapshot["ecsSnapshotId"]}
    for fields, named in (
        ({"format": "iso"}, "snapshotId"),
        ({"url": "https://example.com/x"}, "snapshotId"),
        ({"ecsId": ecs_id}, "snapshotId"),
        ({"snapshotId": "x" * 33}, "snapshotId"),
        ({"quiesce": "perhaps"}, "quiesce"),
    ):
        assert customer.refused("POST", IMAGES, {**order, **fields}).message.startswith(f"{named}: ")
    for api, wanted in ((stranger, order), (customer, {**order, "snapshotId": "ecs.snapshot-0000000000000000"})):
        assert api.refused("POST", IMAGES, wanted).code == "ECS.DBGet.NoData"

    agent.gates["ensure_volume_exported"] = threading.Event()
    answer = customer.call("POST", IMAGES, {**order, "snapshotId": snapshot["id"], "platform": "Debian"})
    image_id = answer.data["imageId"]
    assert (answer.data["status"], answer.data["tenantId"]) == ("Importing", tenant.id)
    assert customer.refused("DELETE", f"{IMAGES}/{image_id}").code == "ECS.InvalidParameter.Status.NotSupported"
    # The instance is not busy.
    stop(customer, ecs_id)
    agent.gates.pop("ensure_volume_exported").set()
    assert finish(customer, answer)["state"] == "Succeeded"
    image = customer.ok("GET", f"{IMAGES}/{image_id}")
    assert (image["status"], image["consistency"], image["platform"]) == ("Active", "fileSystem", "Debian")
    assert agent.orders[-1].snapshot_id == snapshot["ecsSnapshotId"]
    assert not agent.exports

    agent.refusals["ensure_volume_exported"] = Refusal(grpc.StatusCode.NOT_FOUND, "SnapshotNotFound", "is gone")
    answer = customer.call("POST", IMAGES, order)
    assert finish(customer, answer)["state"] == "Failed"
    failed = customer.ok("GET", f"{IMAGES}/{answer.data['imageId']}")
    assert (failed["status"], "is gone" in failed["errorMessage"]) == ("Error", True)
    assert finish(customer, customer.call("DELETE", f"/api/ecs/v1/snapshot/{snapshot['id']}"))["state"] == "Succeeded"
