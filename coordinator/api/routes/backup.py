"""Backups of volumes."""

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Header, Response
from starlette.responses import StreamingResponse

from coordinator.api.byte_range import RangeUnsatisfiable, parse_range
from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings
from coordinator.api.idempotency import IdempotentRoute
from coordinator.api.operation_header import OperationHeader
from coordinator.api.paging import PageByNumber
from coordinator.api.schemas.backup import BackupBody, BackupListBody, CreateBackupRequest
from coordinator.domain.backup import name_file
from coordinator.domain.listing import ListQuery
from coordinator.services import backup as service
from coordinator.services.backup_file import find_file, read_file

router = APIRouter(prefix="/api/ecs/v1/backups", tags=["backups"], route_class=IdempotentRoute)

_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


@router.post("", operation_id="createBackups")
def create_backups(
    body: CreateBackupRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[BackupListBody]:
    """Backs up all volumes of an instance at one moment, or one of them, whether it runs or not."""
    rows, operation_id = service.create_backups(runtime, caller, body.to_order())
    header.name(operation_id)
    bodies = [BackupBody.of(row, runtime.now()) for row in rows]
    return success(BackupListBody(backups=bodies, total_count=len(bodies)))


@router.get("", operation_id="listBackups")
def list_backups(
    page: PageByNumber, conditions: Conditions, orderings: Orderings, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[BackupListBody]:
    """Lists the caller's backups, the newest first."""
    listing = service.list_backups(runtime, caller, ListQuery(page, conditions, orderings))
    bodies = [BackupBody.of(row, runtime.now()) for row in listing.items]
    return success(BackupListBody(backups=bodies, total_count=listing.total))


@router.get("/{backup_id}", operation_id="getBackup")
def get_backup(backup_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[BackupBody]:
    """Shows a backup: what has to be known to restore it."""
    return success(BackupBody.of(service.get_backup(runtime, caller, backup_id), runtime.now()))


@router.delete("/{backup_id}", operation_id="deleteBackup")
def delete_backup(backup_id: str, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader) -> Envelope[None]:
    """Deletes a backup; after that of the volume's newest one the next is a full one."""
    header.name(service.delete_backup(runtime, caller, backup_id))
    return success(None)


@router.get(
    "/{backup_id}/file",
    operation_id="downloadBackup",
    response_class=StreamingResponse,
    responses={
        200: {"description": "The file.", "content": _BINARY},
        206: {"description": "The part of it that was asked for.", "content": _BINARY},
        416: {"description": "It does not have that part."},
    },
)
async def download_backup(
    backup_id: str,
    caller: TenantUser,
    runtime: RuntimeDep,
    wanted: Annotated[str | None, Header(alias="Range", description="bytes=1048576- goes on from there.")] = None,
    if_range: Annotated[str | None, Header(description="The file's ETag: else it comes as a whole.")] = None,
) -> Response:
    """Downloads a backup's file from its node, as a whole or from a position on."""
    row = await find_file(runtime, caller, backup_id)
    tag = f'"{row.sha256}"'
    try:
        found = parse_range(wanted if if_range in (None, tag) else None, row.file_bytes)
    except RangeUnsatisfiable:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{row.file_bytes}"})
    first, last = found or (0, row.file_bytes - 1)
    headers = {"ETag": tag, "Accept-Ranges": "bytes", "Content-Length": str(last - first + 1)}
    headers["Content-Disposition"] = f'attachment; filename="{name_file(backup_id)}"'
    if found:
        headers["Content-Range"] = f"bytes {first}-{last}/{row.file_bytes}"
    content = await _begin(read_file(runtime, row, first, last))
    status_code = 206 if found else 200
    return StreamingResponse(content, status_code, headers, media_type="application/octet-stream")


async def _begin(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The same, once the first of it has come: what is refused is told before any header is sent."""
    first = await anext(chunks, b"")

    async def run() -> AsyncGenerator[bytes]:
        try:
            yield first
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()

    return run()
