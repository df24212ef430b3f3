"""Images."""

from collections.abc import Callable
from email.utils import format_datetime
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings
from coordinator.api.idempotency import IdempotentRoute
from coordinator.api.operation_header import OperationHeader
from coordinator.api.paging import PageByNumber
from coordinator.api.request_context import current_request
from coordinator.api.schemas.image import ImageBody, ImageListBody, RegisterImageRequest, UpdateImageRequest
from coordinator.domain.listing import ListQuery
from coordinator.errors import ParameterInvalid
from coordinator.services import image as service
from coordinator.services import image_capture, image_upload

# Bytes are handed to the disk in pieces of this size.
_BUFFER_BYTES = 1024 * 1024

router = APIRouter(prefix="/api/image/v1/images", tags=["images"], route_class=IdempotentRoute)
# An upload's body is not read ahead: it has a router of its own, without idempotency keys.
file_router = APIRouter(prefix="/api/image/v1/images", tags=["images"])

_BINARY = {"type": "string", "format": "binary"}
# Pieces of a file as in the protocol for resumable uploads, tus 1.0.
_PART = "application/offset+octet-stream"
_FULL = {"507": {"description": "There is no room for the file at the coordinator."}}
_MAXIMUM = 2**62


@router.post("", operation_id="registerImage")
def register_image(
    body: RegisterImageRequest, caller: TenantUser, runtime: RuntimeDep, operation: OperationHeader
) -> Envelope[ImageBody]:
    """Registers an image; its file is uploaded afterwards, fetched from a URL, or made of an instance or snapshot."""
    if body.ecs_id or body.snapshot_id:
        origin = image_capture.ImageOrigin(body.ecs_id, body.snapshot_id, quiesces=body.quiesce)
        image, operation_id = image_capture.capture_image(runtime, caller, body.to_row(), origin)
        operation.name(operation_id)
        return success(ImageBody.of(image))
    image, task = service.register_image(runtime, caller, body.to_row())
    if task:
        operation.name(task.id)
    return success(ImageBody.of(image))


@router.get("", operation_id="listImages")
def list_images(
    page: PageByNumber, conditions: Conditions, orderings: Orderings, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[ImageListBody]:
    """Lists public images and the caller's own, the newest first."""
    listing = service.list_images(runtime, caller, ListQuery(page, conditions, orderings))
    images = [ImageBody.of(image) for image in listing.items]
    return success(ImageListBody(items=images, total_count=listing.total))


@router.get("/{image_id}", operation_id="getImage")
def get_image(image_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[ImageBody]:
    """Shows one image."""
    return success(ImageBody.of(service.get_image(runtime, caller, image_id)))


@router.put("/{image_id}", operation_id="updateImage")
def update_image(
    image_id: str, body: UpdateImageRequest, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[ImageBody]:
    """Changes what is said of an image, and who may use it."""
    changes = body.model_dump(exclude_none=True)
    return success(ImageBody.of(service.update_image(runtime, caller, image_id, changes)))


@router.delete("/{image_id}", operation_id="deleteImage")
def delete_image(image_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[None]:
    """Deletes an image that no instance uses."""
    service.delete_image(runtime, caller, image_id)
    return success(None)


@file_router.put(
    "/{image_id}/file",
    operation_id="uploadImageFile",
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": _BINARY}}},
        "responses": _FULL,
    },
)
async def upload_image_file(
    image_id: str, request: Request, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[ImageBody]:
    """Uploads an image's file; the image is active once format and digest were found right."""
    current_request().body_limit_bytes = runtime.settings.max_image_bytes
    writer = await run_in_threadpool(service.begin_upload, runtime, caller, image_id)
    try:
        await _receive(request, writer.write)
        image = await run_in_threadpool(service.finish_upload, runtime, caller, image_id, writer)
    finally:
        await run_in_threadpool(writer.discard)
    return success(ImageBody.of(image))


@file_router.head("/{image_id}/file", operation_id="getImageUpload", response_class=Response)
def get_image_upload(image_id: str, caller: TenantUser, runtime: RuntimeDep) -> Response:
    """Tells how much of an image's file has come (headers Upload-Offset, Upload-Length, Upload-Expires)."""
    return Response(headers=_upload_headers(image_upload.read_upload(runtime, caller, image_id)))


@file_router.patch(
    "/{image_id}/file",
    operation_id="uploadImagePart",
    openapi_extra={
        "requestBody": {"required": True, "content": {_PART: {"schema": _BINARY}}},
        "responses": {
            "409": {"description": "It belongs elsewhere in the file, or another one is being uploaded."},
            **_FULL,
        },
    },
)
async def upload_image_part(
    image_id: str,
    request: Request,
    response: Response,
    caller: TenantUser,
    runtime: RuntimeDep,
    upload_offset: Annotated[int, Header(ge=0, le=_MAXIMUM, description="How much has come before.")],
    upload_length: Annotated[int | None, Header(ge=1, le=_MAXIMUM, description="Of the file; with the first.")] = None,
) -> Envelope[ImageBody]:
    """Uploads a piece of an image's file; after the last one the image is active, if it is what was announced."""
    if request.headers.get("content-type") != _PART:
        raise ParameterInvalid("Content-Type", f"must be {_PART}", f"须为{_PART}")
    current_request().body_limit_bytes = runtime.settings.max_image_bytes
    opened = image_upload.open_part(runtime, caller, image_id, upload_offset, upload_length)
    part = await run_in_threadpool(opened.__enter__)
    try:
        await _receive(request, part.write)
    finally:
        await run_in_threadpool(opened.__exit__, None, None, None)
    image = await run_in_threadpool(image_upload.finish_part, runtime, caller, image_id)
    response.headers.update(_upload_headers(image_upload.read_upload(runtime, caller, image_id)))
    return success(ImageBody.of(image))


@file_router.get(
    "/{image_id}/file",
    operation_id="downloadImageFile",
    response_class=FileResponse,
    responses={200: {"description": "The file.", "content": {"application/octet-stream": {"schema": _BINARY}}}},
)
def download_image_file(image_id: str, caller: TenantUser, runtime: RuntimeDep) -> FileResponse:
    """Downloads an image's file."""
    image, path = service.get_image_file(runtime, caller, image_id)
    return FileResponse(path, media_type="application/octet-stream", filename=f"{image.id}.{image.format}")


async def _receive(request: Request, write: Callable[[bytes], None]) -> None:
    """What has come is written also when the rest does not."""
    buffer = bytearray()
    try:
        async for chunk in request.stream():
            buffer += chunk
            if len(buffer) >= _BUFFER_BYTES:
                await run_in_threadpool(write, bytes(buffer))
                buffer.clear()
    finally:
        await run_in_threadpool(write, bytes(buffer))


def _upload_headers(state: image_upload.UploadState) -> dict[str, str]:
    length = {"Upload-Length": str(state.length_bytes)} if state.length_bytes else {"Upload-Defer-Length": "1"}
    return {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": str(state.offset_bytes),
        "Upload-Expires": format_datetime(state.expires_at, usegmt=True),
        "Cache-Control": "no-store",
        **length,
    }
