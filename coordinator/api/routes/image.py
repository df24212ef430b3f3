"""Images."""

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings
from coordinator.api.idempotency import IdempotentRoute
from coordinator.api.operation_header import OperationHeader
from coordinator.api.paging import PageByNumber
from coordinator.api.request_context import current_request
from coordinator.api.schemas.image import ImageBody, ImageListBody, RegisterImageRequest
from coordinator.domain.listing import ListQuery
from coordinator.services import image as service
from coordinator.store.image_file import ImageWriter

# Bytes are handed to the disk in pieces of this size.
_BUFFER_BYTES = 1024 * 1024

router = APIRouter(prefix="/api/image/v1/images", tags=["images"], route_class=IdempotentRoute)
# An upload's body is not read ahead: it has a router of its own, without idempotency keys.
file_router = APIRouter(prefix="/api/image/v1/images", tags=["images"])

_BINARY = {"type": "string", "format": "binary"}


@router.post("", operation_id="registerImage")
def register_image(
    body: RegisterImageRequest, caller: TenantUser, runtime: RuntimeDep, operation: OperationHeader
) -> Envelope[ImageBody]:
    """Registers an image; its file is uploaded afterwards, or fetched from the URL if one is given."""
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


@router.delete("/{image_id}", operation_id="deleteImage")
def delete_image(image_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[None]:
    """Deletes an image that no instance uses."""
    service.delete_image(runtime, caller, image_id)
    return success(None)


@file_router.put(
    "/{image_id}/file",
    operation_id="uploadImageFile",
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": _BINARY}}}},
)
async def upload_image_file(
    image_id: str, request: Request, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[ImageBody]:
    """Uploads an image's file; the image is active once format and digest were found right."""
    current_request().body_limit_bytes = runtime.settings.max_image_bytes
    writer = await run_in_threadpool(service.begin_upload, runtime, caller, image_id)
    try:
        await _receive(request, writer)
        image = await run_in_threadpool(service.finish_upload, runtime, caller, image_id, writer)
    finally:
        await run_in_threadpool(writer.discard)
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


async def _receive(request: Request, writer: ImageWriter) -> None:
    buffer = bytearray()
    async for chunk in request.stream():
        buffer += chunk
        if len(buffer) >= _BUFFER_BYTES:
            await run_in_threadpool(writer.write, bytes(buffer))
            buffer.clear()
    await run_in_threadpool(writer.write, bytes(buffer))
