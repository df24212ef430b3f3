"""Registering images."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.unit.nwctl.builders import INSTANCE_ID, OPERATION_ID, TENANT_ID, a_failed_operation, an_operation
from tests.unit.nwctl.conftest import Nwctl, data_of
from tests.unit.nwctl.standin import Reply, StandIn

IMAGES = "/api/image/v1/images"
IMAGE_ID = "img-aaaabbbbccccdd"
ACTIVE = {"imageId": IMAGE_ID, "name": "debian", "status": "Active"}


@pytest.fixture
def registry(coordinator: StandIn) -> StandIn:
    """A coordinator that takes images."""
    coordinator.on("POST", IMAGES, {"imageId": IMAGE_ID, "status": "Queued"})
    coordinator.on("HEAD", f"{IMAGES}/{IMAGE_ID}/file", Reply(headers={"upload-offset": "0"}))
    coordinator.on("PATCH", f"{IMAGES}/{IMAGE_ID}/file")
    coordinator.on("GET", f"{IMAGES}/{IMAGE_ID}", ACTIVE)
    return coordinator


def a_file(folder: Path, name: str, content: bytes) -> Path:
    """A file of that content."""
    path = folder / name
    path.write_bytes(content)
    return path


def test_a_file_is_described_and_then_sent_byte_for_byte(registry: StandIn, nwctl: Nwctl, tmp_path: Path) -> None:
    content = b"QFI\xfb" + bytes(range(256)) * 9000
    file = a_file(tmp_path, "debian.img", content)
    options = (
        "--arch",
        "arm",
        "--os-type",
        "linux",
        "--platform",
        "Debian",
        "--visibility",
        "public",
        "--tenant",
        TENANT_ID,
    )

    assert data_of(nwctl("image", "register", str(file), *options, "--json")) == ACTIVE

    [described] = registry.asked("POST", IMAGES)
    assert described.body == {
        "name": "debian.img",
        "format": "qcow2",
        "cpuArch": "arm",
        "osType": "linux",
        "platform": "Debian",
        "visibility": "public",
        "tenantId": TENANT_ID,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    [sent] = registry.asked("PATCH", f"{IMAGES}/{IMAGE_ID}/file")
    assert sent.headers["content-type"] == "application/offset+octet-stream"
    assert (sent.headers["upload-offset"], sent.headers["upload-length"]) == ("0", str(len(content)))
    assert sent.content == content


def test_an_upload_goes_on_after_a_broken_connection(
    registry: StandIn, nwctl: Nwctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nwctl.client.PIECE_BYTES", 4)
    path = f"{IMAGES}/{IMAGE_ID}/file"
    offsets = [Reply(headers={"upload-offset": offset}) for offset in ("0", "4", "6")]
    registry.on("HEAD", path, *offsets)
    # Of the second piece the coordinator keeps two bytes before the connection breaks.
    registry.on("PATCH", path, Reply(), Reply(status=0), Reply())

    assert nwctl("image", "upload", IMAGE_ID, str(a_file(tmp_path, "x.raw", b"0123456789"))).exit_code == 0

    sent = [(request.headers["upload-offset"], request.content) for request in registry.asked("PATCH", path)]
    assert sent == [("0", b"0123"), ("4", b"4567"), ("6", b"6789")]


def test_what_is_said_of_an_image_is_changed(registry: StandIn, nwctl: Nwctl) -> None:
    registry.on("PUT", f"{IMAGES}/{IMAGE_ID}", ACTIVE)
    assert nwctl("image", "update", IMAGE_ID, "--name", "trixie", "--visibility", "public").exit_code == 0
    [request] = registry.asked("PUT", f"{IMAGES}/{IMAGE_ID}")
    assert request.body == {"name": "trixie", "visibility": "public"}


def test_nothing_is_drawn_where_nobody_watches(registry: StandIn, nwctl: Nwctl, tmp_path: Path) -> None:
    assert nwctl("image", "register", str(a_file(tmp_path, "x.raw", b"x"))).stderr == ""


@pytest.mark.parametrize(
    ("content", "image_format"),
    [(b"QFI\xfb\x00", "qcow2"), (bytes(32769) + b"CD001", "iso"), (bytes(512), "raw"), (b"", "raw")],
)
def test_the_format_is_what_the_file_itself_says(
    registry: StandIn, nwctl: Nwctl, tmp_path: Path, content: bytes, image_format: str
) -> None:
    nwctl("image", "register", str(a_file(tmp_path, "misleading.vmdk", content)))

    assert registry.requests[0].body["format"] == image_format


@pytest.mark.parametrize(
    ("url", "name", "image_format"),
    [
        ("https://images.invalid/a/debian.raw?x=1", "debian.raw", "raw"),
        ("https://images.invalid/a/debian.iso", "debian.iso", "iso"),
        ("https://images.invalid/a/debian.img", "debian.img", "qcow2"),
    ],
)
def test_a_url_is_left_for_the_coordinator_to_fetch(
    registry: StandIn, nwctl: Nwctl, url: str, name: str, image_format: str
) -> None:
    assert nwctl("image", "register", "--url", url, "--sha256", "ab" * 32).exit_code == 0

    body: dict[str, Any] = registry.requests[0].body
    assert (body["url"], body["name"], body["format"], body["sha256"]) == (url, name, image_format, "ab" * 32)
    assert not registry.asked("PATCH", f"{IMAGES}/{IMAGE_ID}/file")


def test_waiting_ends_with_the_image_as_it_came_in(registry: StandIn, nwctl: Nwctl) -> None:
    queued = Reply({"imageId": IMAGE_ID, "status": "Queued"}, headers={"x-operation-id": OPERATION_ID})
    registry.on("POST", IMAGES, queued)
    registry.on("GET", f"/api/ecs/v1/operations/{OPERATION_ID}", an_operation(), a_failed_operation())

    assert data_of(nwctl("image", "register", "--url", "https://i.invalid/x", "--wait", "--json")) == ACTIVE
    assert nwctl("image", "register", "--url", "https://i.invalid/x", "--wait").exit_code == 6


def test_a_file_that_the_coordinator_refuses_is_an_error(registry: StandIn, nwctl: Nwctl, tmp_path: Path) -> None:
    refusal = Reply(status=400, code="ECS.InvalidParameter", message="sha256: the file has another digest")
    registry.on("PATCH", f"{IMAGES}/{IMAGE_ID}/file", refusal)

    result = nwctl("image", "register", str(a_file(tmp_path, "x.raw", b"x")))

    assert (result.exit_code, "another digest" in result.stderr) == (1, True)


def test_an_image_comes_from_one_place(registry: StandIn, nwctl: Nwctl, tmp_path: Path) -> None:
    file = str(a_file(tmp_path, "x.raw", b"x"))

    assert nwctl("image", "register").exit_code == 2
    assert nwctl("image", "register", file, "--url", "https://i.invalid/x").exit_code == 2
    assert nwctl("image", "register", str(tmp_path / "absent")).exit_code == 2
    assert not registry.requests


def test_an_image_is_made_of_an_instance_or_a_snapshot(registry: StandIn, nwctl: Nwctl) -> None:
    snapshot_id = "ecs.snapshot-" + "a" * 16
    assert nwctl("image", "register", "--instance", INSTANCE_ID, "--name", "golden").exit_code == 0
    assert nwctl("image", "register", "--instance", INSTANCE_ID, "--no-quiesce").exit_code == 0
    assert nwctl("image", "register", "--snapshot", snapshot_id).exit_code == 0
    assert nwctl("image", "register", "--snapshot", snapshot_id, "--instance", INSTANCE_ID).exit_code == 2
    given = {"cpuArch": "x86", "osType": "linux"}
    assert [request.body for request in registry.asked("POST", IMAGES)] == [
        {"name": "golden", "ecsId": INSTANCE_ID, **given},
        {"name": f"{INSTANCE_ID}-image", "ecsId": INSTANCE_ID, "quiesce": False, **given},
        {"name": f"{snapshot_id}-image", "snapshotId": snapshot_id, **given},
    ]
