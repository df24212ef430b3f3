"""Images: registering, uploading, downloading, who sees them."""

import hashlib
import struct
from typing import Any

import pytest
from fastapi.testclient import TestClient

from coordinator.config import Settings
from coordinator.runtime import Runtime
from coordinator.store.tables import Image, Tenant
from tests.api.client import Answer, Api
from tests.builders import a_flavor, a_flavor_type, add, an_image, an_instance
from tests.database import SQLITE_ONLY

IMAGES = "/api/image/v1/images"
RAW = b"\x55" * 1_500_000
GIB = 1024**3


def a_qcow2(*, version: int = 3, backing: int = 0, crypt: int = 0, features: int = 0, size: int = 5 * GIB) -> bytes:
    header = struct.pack(">4sIQIIQI", b"QFI\xfb", version, backing, 0, 16, size, crypt)
    return header.ljust(72, b"\0") + struct.pack(">Q", features) + bytes(65536)


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


def test_an_image_is_not_made_from_an_instance_yet(customer: Api) -> None:
    answer = customer.refused("POST", IMAGES, {"name": "debian", "format": "raw", "ecsld": "ecs-k8d2n5s7a1f4g6"})
    assert answer.message == "ecsId: not available yet on this cluster"
    register(customer, ecsId="")


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
    with runtime.database.write() as session:
        instance.deleted_at = runtime.now()
        session.add(instance)
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


def test_images_are_filtered(operator: Api, runtime: Runtime) -> None:
    rows: list[Image] = [an_image(name="a"), an_image(name="b", status="Queued"), an_image(name="c", cpu_arch="arm")]
    with runtime.database.write() as session:
        add(session, *rows)
    found = operator.ok("GET", f"{IMAGES}?filter=status:eq:ACTIVE|cpuArch:eq:x86")
    assert ([image["name"] for image in found["list"]], found["totalCount"]) == (["a"], 1)
