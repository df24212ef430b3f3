"""VolumeExportService: copies of volumes for the coordinator."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import grpc

from agent.configure.check import check_uuid
from agent.errors import RequestInvalid
from agent.rpc.field import parse_id
from agent.rpc.snapshot import encode_consistency
from agent.storage.exporting import ExportOrder, Exports
from agent.storage.snapshot import check_snapshot_id
from protos.agent.v1 import storage_pb2 as messages
from protos.agent.v1 import storage_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_CHUNK_BYTES: Final = 1024 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class VolumeExportServicer(storage_pb2_grpc.VolumeExportServiceServicer):
    """Makes copies, and streams them."""

    def __init__(self, exports: Exports) -> None:
        self._exports = exports

    async def EnsureExported(
        self, request: messages.EnsureVolumeExportedRequest, context: Context
    ) -> AsyncIterator[messages.VolumeExportProgress]:
        """A copy lies ready."""
        check_uuid(request.uuid, "uuid")
        if request.domain_uuid:
            check_uuid(request.domain_uuid, "domain_uuid")
        if request.snapshot_id:
            check_snapshot_id(request.snapshot_id)
        _check_parent(request)
        export_id = parse_id(request.export_id, "export_id")
        parent = (request.parent_snapshot_id, request.parent_name)
        order = ExportOrder(request.uuid, export_id, request.domain_uuid, request.snapshot_id, request.quiesce, *parent)
        async with aclosing(self._exports.ensure(order)) as looks:
            async for look in looks:
                yield messages.VolumeExportProgress(
                    percent=look.percent,
                    size_bytes=look.size_bytes,
                    sha256=look.sha256,
                    consistency=encode_consistency(look.consistency),
                    reason=look.reason,
                    is_increment=look.is_increment,
                    whole_because=look.whole_because,
                )

    async def Read(
        self, request: messages.ReadVolumeExportRequest, context: Context
    ) -> AsyncIterator[messages.VolumeExportChunk]:
        """The copy's bytes."""
        export_id = parse_id(request.export_id, "export_id")
        with await asyncio.to_thread(self._exports.open, export_id, request.offset_bytes) as file:
            while data := await asyncio.to_thread(file.read, _CHUNK_BYTES):
                yield messages.VolumeExportChunk(data=data)

    async def EnsureRemoved(
        self, request: messages.EnsureVolumeExportRemovedRequest, context: Context
    ) -> messages.EnsureVolumeExportRemovedResponse:
        """There is no such copy."""
        await asyncio.to_thread(self._exports.ensure_removed, parse_id(request.export_id, "export_id"))
        return messages.EnsureVolumeExportRemovedResponse()


def _check_parent(request: messages.EnsureVolumeExportedRequest) -> None:
    """Raises RequestInvalid."""
    if not request.parent_snapshot_id and not request.parent_name:
        return
    check_snapshot_id(request.parent_snapshot_id)
    if not request.snapshot_id or request.parent_snapshot_id == request.snapshot_id:
        raise RequestInvalid("parent_snapshot_id: an earlier snapshot than the one that is copied")
    if not _NAME.fullmatch(request.parent_name):
        raise RequestInvalid("parent_name: letters, digits, '.', '_' and '-', at most 64")
