"""Fetches an image from the URL that it was registered with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from sqlmodel import Session

from coordinator.errors import RequestTooLarge, ResourceNotFound
from coordinator.store.image_file import ImageFacts, ImageLimits, ImageWriter
from coordinator.store.tables import Image
from coordinator.tasks.image_source import open_url, unreachable
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind

if TYPE_CHECKING:
    import httpx

_CHUNK_BYTES: Final = 1024 * 1024
_TIMEOUT_SECONDS: Final = 6 * 3600.0


async def _fetch(context: StepContext) -> StepResult:
    """Idempotent: whatever an earlier attempt left behind is replaced."""
    settings = context.runtime.settings
    image_id = context.args["imageId"]
    limits = ImageLimits(settings.max_image_bytes, settings.max_image_virtual_bytes)
    writer = await asyncio.to_thread(ImageWriter, settings.images_dir, image_id, limits)
    try:
        private_allowed = settings.allow_private_image_urls
        async with open_url(context.args["url"], private_allowed=private_allowed) as response:
            await _copy(response, writer, context)
        facts = await asyncio.to_thread(writer.check, context.args["format"], context.args["sha256"])
        await asyncio.to_thread(writer.seal)
        await asyncio.to_thread(writer.publish)
    finally:
        await asyncio.to_thread(writer.discard)

    def activate(session: Session) -> None:
        image = session.get(Image, image_id)
        if image is not None and image.deleted_at is None:
            activate_image(image, facts)
            session.add(image)

    return StepResult(result={"sha256": facts.sha256}, apply=activate)


async def _copy(response: httpx.Response, writer: ImageWriter, context: StepContext) -> None:
    import httpx

    total = int(response.headers.get("content-length", 0))
    if total > context.runtime.settings.max_image_bytes:
        raise RequestTooLarge("the image is too large", "镜像过大")
    try:
        async for chunk in response.aiter_raw(_CHUNK_BYTES):
            await asyncio.to_thread(writer.write, chunk)
            percent = 100 * writer.size_bytes // total if total else 0
            await context.report_progress(min(percent, 100), f"{writer.size_bytes} of {total or '?'} bytes")
    except httpx.TransportError as error:
        raise unreachable(response.url.host, error) from error


def activate_image(image: Image, facts: ImageFacts) -> None:
    """The image can be used from now on."""
    image.status = "Active"
    image.error_message = ""
    image.format = facts.format
    image.size_bytes = facts.size_bytes
    image.virtual_size_bytes = facts.virtual_size_bytes
    image.sha256 = facts.sha256


def _check(session: Session, args: Mapping[str, Any]) -> None:
    if session.get(Image, args["imageId"]) is None:
        raise ResourceNotFound("image", args["imageId"])


def _on_success(session: Session, args: Mapping[str, Any]) -> None:
    """The step's own transaction has activated the image."""


def _on_failure(session: Session, args: Mapping[str, Any], failure: Failure) -> None:
    image = session.get(Image, args["imageId"])
    if image is not None and image.status != "Active":
        image.status, image.error_message = "Error", failure.message[:1023]
        session.add(image)


FETCH_IMAGE = TaskKind(
    name="fetch_image",
    steps=(Step("fetch", _fetch, timeout_seconds=_TIMEOUT_SECONDS),),
    check=_check,
    on_success=_on_success,
    on_failure=_on_failure,
)
