"""Uploads of images in pieces: each piece says where it belongs, and what has come stays when it breaks off."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from coordinator.domain.caller import Caller
from coordinator.errors import ImageUnusable, ParameterInvalid
from coordinator.runtime import Runtime
from coordinator.services.image import find_own_image, get_image, image_limits, note_failure, require_fillable
from coordinator.store.image_upload import ImagePart, ImageUpload, remove_expired_uploads
from coordinator.store.tables import Image
from coordinator.tasks.kinds.fetch_image import activate_image


@dataclass(frozen=True, slots=True)
class UploadState:
    """How far an upload is; a length of 0 is not known yet."""

    offset_bytes: int
    length_bytes: int
    expires_at: datetime


def read_upload(runtime: Runtime, caller: Caller, image_id: str) -> UploadState:
    """Where the next piece belongs. Of an active image everything is there."""
    image = get_image(runtime, caller, image_id)
    offset = image.size_bytes if image.status == "Active" else _upload_of(runtime, image_id).read_size()
    return UploadState(offset, image.size_bytes, runtime.now() + runtime.settings.upload_expiry)


@contextmanager
def open_part(
    runtime: Runtime, caller: Caller, image_id: str, offset_bytes: int, length_bytes: int | None
) -> Iterator[ImagePart]:
    """Takes the bytes that follow `offset_bytes`; the length of the whole has to be known by then.

    UploadConflict when they belong elsewhere, ResourceExists when the image takes none.
    """
    with runtime.database.write() as session:
        image = find_own_image(session, caller, image_id, for_update=True)
        require_fillable(image)
        _announce(runtime, image, offset_bytes, length_bytes)
        session.add(image)
        announced_bytes = image.size_bytes
    with _upload_of(runtime, image_id).open(offset_bytes, announced_bytes) as part:
        yield part


def finish_part(runtime: Runtime, caller: Caller, image_id: str) -> Image:
    """The image, active when the last byte has come; ImageUnusable, also kept in it, when it may not be used.

    May be repeated: an upload whose last piece nobody was told of goes on from here.
    """
    upload, image = _upload_of(runtime, image_id), get_image(runtime, caller, image_id)
    if image.status == "Active" or upload.read_size() < image.size_bytes:
        return image
    try:
        facts = upload.check(image.format, image.sha256, image_limits(runtime))
    except ImageUnusable as error:
        note_failure(runtime, caller, image_id, error)
        raise
    except FileNotFoundError:  # another request has finished it meanwhile
        return get_image(runtime, caller, image_id)
    with runtime.database.write() as session:
        image = find_own_image(session, caller, image_id, for_update=True)
        require_fillable(image)
        activate_image(image, facts)
        session.add(image)
        session.flush()
        upload.publish()
    return image


def forget_expired_uploads(runtime: Runtime) -> None:
    """Leaves nothing of uploads that nobody goes on with; their images say so, and may be filled anew."""
    before = runtime.now() - runtime.settings.upload_expiry
    for image_id in remove_expired_uploads(runtime.settings.images_dir, before):
        with runtime.database.write() as session:
            image = session.get(Image, image_id, with_for_update=True)
            if image is not None and image.status == "Queued":
                image.status, image.error_message = "Error", "the upload was given up: nothing came for too long"
                session.add(image)


def _upload_of(runtime: Runtime, image_id: str) -> ImageUpload:
    """Of an image that was found: its id is part of a path."""
    return ImageUpload(runtime.settings.images_dir, image_id)


def _announce(runtime: Runtime, image: Image, offset_bytes: int, length_bytes: int | None) -> None:
    if length_bytes is not None and length_bytes != image.size_bytes:
        if image.size_bytes and offset_bytes:
            raise ParameterInvalid(
                "Upload-Length", f"was {image.size_bytes} before", f"与先前声明的{image.size_bytes}不一致"
            )
        image.size_bytes = length_bytes
    if not 0 < image.size_bytes <= runtime.settings.max_image_bytes:
        most = runtime.settings.max_image_bytes
        raise ParameterInvalid("Upload-Length", f"1 to {most}, with the first piece", f"首个分片须声明，取值1到{most}")
