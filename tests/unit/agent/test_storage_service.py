"""Images and volumes over real gRPC, in real files, from a coordinator over mutual TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import grpc
import pytest

from agent.attachment import DiskAttachments
from agent.domain_lock import DomainLocks
from agent.hypervisor.disk_change import DiskPlugs
from agent.rpc.interceptor import ErrorInterceptor
from agent.rpc.storage import ImageServicer, VolumeServicer
from agent.storage.choice import StorageChoice
from agent.storage.copying import VolumeCopies
from agent.storage.directory import DirectoryBackend
from agent.storage.image_cache import ImageCache
from agent.storage.snapshots import VolumeSnapshots
from coordinator.pki import Authority
from protos.agent.v1 import storage_pb2, storage_pb2_grpc
from tests.unit.agent.coordinator_server import Coordinator, an_identity, connected, serving
from tests.unit.agent.domain_server import failure
from tests.unit.agent.storage_builder import MIB, a_qcow2, a_ref, holding, nobody

UUID = "0f1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d12"


class Server:
    """The two services."""

    def __init__(self, coordinator: Coordinator, images: Any, volumes: Any, cache: ImageCache) -> None:
        self.coordinator = coordinator
        self.images = images
        self.volumes = volumes
        self.cache = cache

    async def cache_image(self, image: storage_pb2.ImageRef) -> list[storage_pb2.ImageProgress]:
        call = self.images.EnsureCached(storage_pb2.EnsureImageCachedRequest(image=image))
        return [progress async for progress in call]

    async def list_images(self) -> list[storage_pb2.ImageRef]:
        return list((await self.images.List(storage_pb2.ListImagesRequest())).images)

    async def list_volumes(self) -> list[storage_pb2.Volume]:
        return list((await self.volumes.List(storage_pb2.ListVolumesRequest())).volumes)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    coordinator = Coordinator(Authority.open(tmp_path / "authority"))
    identity = an_identity(tmp_path / "state", coordinator.authority)
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(coordinator))
        client = await stack.enter_async_context(connected(port, identity.credentials()))
        volumes: DirectoryBackend

        async def find_users(image_id: str) -> list[str]:
            return await volumes.volumes_backed_by(image_id)

        cache = ImageCache(tmp_path / "images", read_image=client.read_image, find_users=find_users, reserved_bytes=0)
        volumes = DirectoryBackend(
            tmp_path / "volumes", owner="node-1", find_image=cache.find, find_users=nobody, reserved_bytes=0
        )
        cache.prepare()
        volumes.prepare()
        choice = StorageChoice(volumes, {})
        # Nobody names a guest here.
        attachments = DiskAttachments(cast("DiskPlugs", None), volumes, cache, cast("Any", None), DomainLocks())
        server = grpc.aio.server(interceptors=[ErrorInterceptor()])
        storage_pb2_grpc.add_ImageServiceServicer_to_server(ImageServicer(cache), server)
        storage_pb2_grpc.add_VolumeServiceServicer_to_server(
            VolumeServicer(choice, attachments, VolumeCopies(volumes, choice, VolumeSnapshots(choice))), server
        )
        address = f"unix:{tmp_path}/agent.sock"
        server.add_insecure_port(address)
        await server.start()
        stack.push_async_callback(server.stop, None)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        yield Server(
            coordinator,
            storage_pb2_grpc.ImageServiceStub(channel),
            storage_pb2_grpc.VolumeServiceStub(channel),
            cache,
        )


def an_image(content: bytes, **changes: Any) -> storage_pb2.ImageRef:
    """An image with this content, as the coordinator sends it."""
    ref = a_ref(content)
    values: dict[str, Any] = {
        "image_id": ref.image_id,
        "sha256": ref.sha256,
        "format": storage_pb2.IMAGE_FORMAT_RAW,
        "size_bytes": ref.size_bytes,
    }
    return storage_pb2.ImageRef(**{**values, **changes})


def a_volume(**changes: Any) -> storage_pb2.EnsureVolumeRequest:
    return storage_pb2.EnsureVolumeRequest(**{"uuid": UUID, "size_bytes": MIB, "volume_type": "ssd", **changes})


@pytest.mark.parametrize("image_format", [storage_pb2.IMAGE_FORMAT_RAW, storage_pb2.IMAGE_FORMAT_QCOW2])
async def test_an_image_comes_from_the_coordinator(
    server: Server, tmp_path: Path, image_format: storage_pb2.ImageFormat
) -> None:
    is_raw = image_format == storage_pb2.IMAGE_FORMAT_RAW
    content = b"a raw disk".ljust(512, b".") if is_raw else a_qcow2(tmp_path / "source")[: 256 * 1024]
    image = an_image(content, format=image_format)
    server.coordinator.images["img-1"] = content
    told = await server.cache_image(image)
    assert told[-1] == storage_pb2.ImageProgress(done_bytes=len(content), total_bytes=len(content), cached=True)
    assert [progress.cached for progress in told[:-1]] == [False] * (len(told) - 1)
    assert {progress.total_bytes for progress in told} == {len(content)}
    assert await server.list_images() == [image]
    found = await server.cache.find("img-1")
    assert found is not None
    assert found.path.read_bytes() == content
    for _ in range(2):
        await server.images.EnsureEvicted(storage_pb2.EnsureImageEvictedRequest(image_id="img-1"))
    assert await server.list_images() == []


async def test_an_image_that_the_coordinator_does_not_have_is_told(server: Server) -> None:
    call = storage_pb2.EnsureImageCachedRequest(image=an_image(b"never seen"))
    assert await failure(lambda: server.images.EnsureCached(call)) == ("NOT_FOUND", "ImageNotFound")


async def test_an_image_with_other_bytes_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.coordinator.images["img-1"] = b"x" * 512
    call = storage_pb2.EnsureImageCachedRequest(image=an_image(b"y" * 512))
    assert await failure(lambda: server.images.EnsureCached(call)) == ("DATA_LOSS", "ImageCorrupt")
    assert list((tmp_path / "images").iterdir()) == []


async def test_who_cancels_ends_the_transfer_and_keeps_what_came(server: Server, tmp_path: Path) -> None:
    content = bytes(1024**2)
    server.coordinator.images["img-1"], server.coordinator.chunk_bytes = content, 1024
    call = server.images.EnsureCached(storage_pb2.EnsureImageCachedRequest(image=an_image(content)))
    while (await call.read()).done_bytes == 0:
        pass
    call.cancel()
    async with asyncio.timeout(60):
        while server.cache._transfers:
            await asyncio.sleep(0.005)
    (part,) = (tmp_path / "images").iterdir()
    assert 0 < part.stat().st_size < len(content)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"image_id": "../img"}, "image.image_id"),
        ({"image_id": ""}, "image.image_id"),
        ({"sha256": "A" * 64}, "image.sha256"),
        ({"sha256": "a" * 63}, "image.sha256"),
        ({"size_bytes": 0}, "image.size_bytes"),
        ({"format": storage_pb2.IMAGE_FORMAT_UNSPECIFIED}, "image.format"),
        ({"format": 77}, "image.format"),
    ],
)
async def test_a_field_of_an_image_that_is_wrong_is_named(server: Server, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await server.cache_image(an_image(b"content", **changes))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(caught.value.details()).startswith(f"{named}:")


async def test_an_image_to_evict_has_an_id(server: Server) -> None:
    call = storage_pb2.EnsureImageEvictedRequest(image_id="*")
    assert await failure(lambda: server.images.EnsureEvicted(call)) == ("INVALID_ARGUMENT", "RequestInvalid")


async def test_an_empty_volume_is_made_listed_and_removed(server: Server, tmp_path: Path) -> None:
    volume = await server.volumes.EnsureVolume(a_volume())
    assert (volume.uuid, volume.size_bytes, volume.volume_type, volume.image_id) == (UUID, MIB, "ssd", "")
    assert volume.allocated_bytes > 0
    assert await server.list_volumes() == [volume]
    absent, place = str(uuid4()), (tmp_path / "volumes/.storage-id").read_text().strip()
    located = await server.volumes.Locate(storage_pb2.LocateVolumesRequest(uuids=[volume.uuid, absent]))
    assert dict(located.storage_ids) == {volume.uuid: place}
    for _ in range(2):
        await server.volumes.EnsureRemoved(storage_pb2.EnsureVolumeRemovedRequest(uuid=UUID))
    assert await server.list_volumes() == []


async def test_a_volume_keeps_the_image_that_backs_it(server: Server) -> None:
    content = b"a raw disk".ljust(512, b".")
    server.coordinator.images["img-1"] = content
    await server.cache_image(an_image(content))
    volume = await server.volumes.EnsureVolume(a_volume(image=an_image(content)))
    assert volume.image_id == "img-1"
    evict = storage_pb2.EnsureImageEvictedRequest(image_id="img-1")
    assert await failure(lambda: server.images.EnsureEvicted(evict)) == ("FAILED_PRECONDITION", "ImageInUse")


async def test_a_volume_of_an_image_that_is_not_here_is_refused(server: Server) -> None:
    request = a_volume(image=an_image(b"never seen"))
    assert await failure(lambda: server.volumes.EnsureVolume(request)) == ("NOT_FOUND", "ImageNotFound")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"uuid": "../volume"}, "uuid"),
        ({"uuid": ""}, "uuid"),
        ({"size_bytes": 0}, "size_bytes"),
        ({"image": storage_pb2.ImageRef()}, "image.image_id"),
    ],
)
async def test_a_field_of_a_volume_that_is_wrong_is_named(server: Server, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await server.volumes.EnsureVolume(a_volume(**changes))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(caught.value.details()).startswith(f"{named}:")


async def test_a_volume_to_remove_has_a_uuid(server: Server) -> None:
    call = storage_pb2.EnsureVolumeRemovedRequest(uuid="x")
    assert await failure(lambda: server.volumes.EnsureRemoved(call)) == ("INVALID_ARGUMENT", "RequestInvalid")


async def test_a_volume_grows_and_never_shrinks(server: Server) -> None:
    await server.volumes.EnsureVolume(a_volume())
    for _ in range(2):
        request = storage_pb2.EnsureVolumeGrownRequest(uuid=UUID, size_bytes=3 * MIB - 1)
        assert (await server.volumes.EnsureGrown(request)).size_bytes == 3 * MIB
    assert [volume.size_bytes for volume in await server.list_volumes()] == [3 * MIB]
    smaller = storage_pb2.EnsureVolumeGrownRequest(uuid=UUID, size_bytes=2 * MIB)
    assert await failure(lambda: server.volumes.EnsureGrown(smaller)) == ("INVALID_ARGUMENT", "RequestInvalid")
    huge = storage_pb2.EnsureVolumeGrownRequest(uuid=UUID, size_bytes=2**60)
    assert await failure(lambda: server.volumes.EnsureGrown(huge)) == ("RESOURCE_EXHAUSTED", "StorageExhausted")
    absent = storage_pb2.EnsureVolumeGrownRequest(uuid=str(uuid4()), size_bytes=MIB)
    assert await failure(lambda: server.volumes.EnsureGrown(absent)) == ("NOT_FOUND", "VolumeNotFound")


@pytest.mark.parametrize("field", ["uuid", "size_bytes", "domain_uuid"])
async def test_what_cannot_be_grown_is_named(server: Server, field: str) -> None:
    bad: dict[str, Any] = {"uuid": "x", "size_bytes": 0, "domain_uuid": "x"}
    request = storage_pb2.EnsureVolumeGrownRequest(**{"uuid": UUID, "size_bytes": MIB, field: bad[field]})
    with pytest.raises(grpc.aio.AioRpcError, match=field):
        await server.volumes.EnsureGrown(request)


async def test_a_volume_that_somebody_else_has_open_does_not_grow(server: Server, tmp_path: Path) -> None:
    await server.volumes.EnsureVolume(a_volume())
    async with holding(tmp_path / "volumes" / f"{UUID}.qcow2"):
        request = storage_pb2.EnsureVolumeGrownRequest(uuid=UUID, size_bytes=2 * MIB)
        assert await failure(lambda: server.volumes.EnsureGrown(request)) == ("FAILED_PRECONDITION", "VolumeInUse")
