"""Calls to agents about copies of volumes, as files on their nodes."""

from collections.abc import AsyncGenerator
from typing import Final

import grpc

from coordinator.agents.call import AgentCaller, OnProgress
from coordinator.agents.error import AgentCallError
from protos.agent.v1 import storage_pb2, storage_pb2_grpc

EXPORT_SECONDS: Final = 24 * 3600.0
_REMOVE_SECONDS: Final = 60.0


class ExportCalls(AgentCaller):
    """Copies of one node's volumes. Every method raises AgentCallError and may be repeated at will."""

    async def ensure_volume_exported(
        self,
        uuid: str,
        export_id: str,
        on_progress: OnProgress[storage_pb2.VolumeExportProgress] | None = None,
        *,
        domain_uuid: str = "",
        snapshot_id: str = "",
        quiesces: bool = False,
        parent_snapshot_id: str = "",
        parent_name: str = "",
    ) -> storage_pb2.VolumeExportProgress:
        """A copy of the volume's snapshot, or of what it holds now, lies ready; answers its size and SHA-256.

        In the latter case nobody but the named domain may have the volume open. With a parent, an earlier snapshot, the
        copy has what has changed since, and calls the file with the parent's state by that name.
        """
        stub = storage_pb2_grpc.VolumeExportServiceStub(await self._channel())
        request = storage_pb2.EnsureVolumeExportedRequest(
            uuid=uuid,
            export_id=export_id,
            domain_uuid=domain_uuid,
            snapshot_id=snapshot_id,
            quiesce=quiesces,
            parent_snapshot_id=parent_snapshot_id,
            parent_name=parent_name,
        )
        last = await self._follow(stub.EnsureExported, request, EXPORT_SECONDS, on_progress)
        if not last.sha256:
            raise AgentCallError("AgentCallFailed", "the agent ended the copying early", transient=True)
        return last

    async def read_volume_export(
        self, export_id: str, on_chunk: OnProgress[storage_pb2.VolumeExportChunk], offset_bytes: int = 0
    ) -> None:
        """Each piece of the copy, in order."""
        stub = storage_pb2_grpc.VolumeExportServiceStub(await self._channel())
        request = storage_pb2.ReadVolumeExportRequest(export_id=export_id, offset_bytes=offset_bytes)
        await self._follow_any(stub.Read, request, EXPORT_SECONDS, on_chunk)

    async def iterate_volume_export(self, export_id: str, offset_bytes: int) -> AsyncGenerator[bytes]:
        """The same, as fast as the caller asks for more; to close the generator ends the call."""
        stub = storage_pb2_grpc.VolumeExportServiceStub(await self._channel())
        request = storage_pb2.ReadVolumeExportRequest(export_id=export_id, offset_bytes=offset_bytes)
        stream = stub.Read(request, timeout=EXPORT_SECONDS)
        try:
            async for chunk in stream:
                yield chunk.data
        except grpc.aio.AioRpcError as error:
            raise self._decoded(error) from error
        finally:
            stream.cancel()

    async def ensure_volume_export_removed(self, export_id: str) -> None:
        """There is no such copy on the node."""
        stub = storage_pb2_grpc.VolumeExportServiceStub(await self._channel())
        request = storage_pb2.EnsureVolumeExportRemovedRequest(export_id=export_id)
        await self._ensure(stub.EnsureRemoved, request, _REMOVE_SECONDS)
