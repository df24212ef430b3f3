"""ImageService and VolumeService: the image cache, and volumes made from it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import grpc

from agent.attachment import DiskAttachments
from agent.configure.check import check_uuid
from agent.errors import RequestInvalid
from agent.rpc.field import parse_id, parse_positive, parse_sha256
from agent.storage.base import Backend, Volume, VolumeSpec
from agent.storage.choice import StorageChoice
from agent.storage.copying import VolumeCopies
from agent.storage.image_cache import ImageCache
from agent.storage.image_format import ImageFormat
from agent.storage.image_transfer import ImageRef
from agent.storage.snapshot import check_snapshot_id
from protos.agent.v1 import storage_pb2 as messages
from protos.agent.v1 import storage_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_FORMATS: Final[dict[messages.ImageFormat, ImageFormat]] = {
    messages.IMAGE_FORMAT_RAW: "raw",
    messages.IMAGE_FORMAT_QCOW2: "qcow2",
    messages.IMAGE_FORMAT_ISO: "iso",
}
_BACKENDS: Final[dict[Backend, messages.VolumeBackend]] = {
    "file": messages.VOLUME_BACKEND_FILE,
    "lvm": messages.VOLUME_BACKEND_LVM,
    "lvm-thin": messages.VOLUME_BACKEND_LVM_THIN,
    "ceph": messages.VOLUME_BACKEND_CEPH,
}
_FORMAT_NUMBERS: Final = {name: number for number, name in _FORMATS.items()}


class ImageServicer(storage_pb2_grpc.ImageServiceServicer):
    """The image cache."""

    def __init__(self, images: ImageCache) -> None:
        self._images = images

    async def EnsureCached(
        self, request: messages.EnsureImageCachedRequest, context: Context
    ) -> AsyncIterator[messages.ImageProgress]:
        """The image is in the cache."""
        ref = decode_image(request.image)
        async with aclosing(self._images.ensure_cached(ref)) as steps:
            async for progress in steps:
                yield messages.ImageProgress(done_bytes=progress.done_bytes, total_bytes=progress.total_bytes)
        yield messages.ImageProgress(done_bytes=ref.size_bytes, total_bytes=ref.size_bytes, cached=True)

    async def EnsureEvicted(
        self, request: messages.EnsureImageEvictedRequest, context: Context
    ) -> messages.EnsureImageEvictedResponse:
        """The image is not in the cache."""
        await self._images.ensure_evicted(parse_id(request.image_id, "image_id"))
        return messages.EnsureImageEvictedResponse()

    async def List(self, request: messages.ListImagesRequest, context: Context) -> messages.ListImagesResponse:
        """All images in the cache."""
        images = await self._images.list_images()
        return messages.ListImagesResponse(images=[encode_image(image.ref) for image in images])


class VolumeServicer(storage_pb2_grpc.VolumeServiceServicer):
    """The volumes of the node."""

    def __init__(self, volumes: StorageChoice, attachments: DiskAttachments, copies: VolumeCopies) -> None:
        self._volumes = volumes
        self._attachments = attachments
        self._copies = copies

    async def EnsureVolume(self, request: messages.EnsureVolumeRequest, context: Context) -> messages.Volume:
        """The volume exists."""
        check_uuid(request.uuid, "uuid")
        spec = VolumeSpec(
            uuid=request.uuid,
            size_bytes=parse_positive(request.size_bytes, "size_bytes"),
            volume_type=request.volume_type,
            image_id=parse_id(request.image.image_id, "image.image_id") if request.HasField("image") else None,
            shared=request.shared,
            encrypted=request.encrypted,
        )
        if spec.shared and spec.image_id:
            raise RequestInvalid("image: a shared volume is empty at first")
        if spec.shared and spec.encrypted:
            raise RequestInvalid("encrypted: no volume that is shared")
        return encode_volume(await self._volumes.ensure_volume(spec))

    async def EnsureCopied(
        self, request: messages.EnsureVolumeCopiedRequest, context: Context
    ) -> AsyncIterator[messages.VolumeCopyProgress]:
        """The volume exists, as a copy."""
        check_uuid(request.uuid, "uuid")
        check_uuid(request.origin.volume_uuid, "origin.volume_uuid")
        if request.origin.snapshot_id:
            check_snapshot_id(request.origin.snapshot_id)
        size_bytes = parse_positive(request.size_bytes, "size_bytes")
        spec = VolumeSpec(uuid=request.uuid, size_bytes=size_bytes, volume_type=request.volume_type)
        copying = self._copies.ensure(spec, request.origin.volume_uuid, request.origin.snapshot_id)
        async with aclosing(copying) as steps:
            async for step in steps:
                if isinstance(step, Volume):
                    yield messages.VolumeCopyProgress(percent=100, volume=encode_volume(step))
                else:
                    yield messages.VolumeCopyProgress(percent=step)

    async def EnsureRemoved(
        self, request: messages.EnsureVolumeRemovedRequest, context: Context
    ) -> messages.EnsureVolumeRemovedResponse:
        """The volume's data is gone."""
        check_uuid(request.uuid, "uuid")
        await self._volumes.ensure_removed(request.uuid)
        return messages.EnsureVolumeRemovedResponse()

    async def EnsureGrown(self, request: messages.EnsureVolumeGrownRequest, context: Context) -> messages.Volume:
        """The volume has at least this size, and its guest sees it."""
        check_uuid(request.uuid, "uuid")
        if request.domain_uuid:
            check_uuid(request.domain_uuid, "domain_uuid")
        size_bytes = parse_positive(request.size_bytes, "size_bytes")
        return encode_volume(await self._attachments.grow(request.uuid, size_bytes, request.domain_uuid))

    async def List(self, request: messages.ListVolumesRequest, context: Context) -> messages.ListVolumesResponse:
        """All volumes."""
        return messages.ListVolumesResponse(volumes=map(encode_volume, await self._volumes.list_volumes()))

    async def Locate(self, request: messages.LocateVolumesRequest, context: Context) -> messages.LocateVolumesResponse:
        """Where volumes are."""
        for uuid in request.uuids:
            check_uuid(uuid, "uuids")
        return messages.LocateVolumesResponse(storage_ids=await self._volumes.locate(request.uuids))


def decode_image(image: messages.ImageRef) -> ImageRef:
    """An image as the coordinator names it. Raises RequestInvalid."""
    if image.format not in _FORMATS:
        raise RequestInvalid(f"image.format: {image.format} is not known")
    return ImageRef(
        image_id=parse_id(image.image_id, "image.image_id"),
        sha256=parse_sha256(image.sha256, "image.sha256"),
        format=_FORMATS[image.format],
        size_bytes=parse_positive(image.size_bytes, "image.size_bytes"),
    )


def encode_image(ref: ImageRef) -> messages.ImageRef:
    """The same on the wire."""
    return messages.ImageRef(
        image_id=ref.image_id,
        sha256=ref.sha256,
        format=_FORMAT_NUMBERS[ref.format],
        size_bytes=ref.size_bytes,
    )


def encode_volume(volume: Volume) -> messages.Volume:
    """A volume on the wire."""
    return messages.Volume(
        uuid=volume.uuid,
        size_bytes=volume.size_bytes,
        allocated_bytes=volume.allocated_bytes,
        image_id=volume.image_id or "",
        volume_type=volume.volume_type,
        shared=volume.shared,
        encrypted=volume.encrypted,
        backend=_BACKENDS[volume.backend],
    )
