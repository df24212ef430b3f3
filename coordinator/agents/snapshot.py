"""Calls to agents about snapshots, and copies of volumes."""

from collections.abc import Sequence
from typing import Final

from coordinator.agents.call import AgentCaller, OnProgress
from coordinator.agents.error import AgentCallError
from protos.agent.v1 import snapshot_pb2, snapshot_pb2_grpc, storage_pb2, storage_pb2_grpc

# Of a volume of many TiB the tables alone take their time.
SNAPSHOT_SECONDS: Final = 600.0
COPY_SECONDS: Final = 24 * 3600.0


class SnapshotCalls(AgentCaller):
    """Snapshots of one node's volumes. Every method raises AgentCallError and may be repeated at will."""

    async def ensure_snapshot_taken(
        self, snapshot_id: str, domain_uuid: str, volume_uuids: Sequence[str], *, quiesces: bool
    ) -> snapshot_pb2.TakenSnapshot:
        """All the volumes have the snapshot, taken at one moment; `domain_uuid` is empty when no guest has them."""
        stub = snapshot_pb2_grpc.SnapshotServiceStub(await self._channel())
        request = snapshot_pb2.EnsureSnapshotTakenRequest(
            snapshot_id=snapshot_id, domain_uuid=domain_uuid, volume_uuids=volume_uuids, quiesce=quiesces
        )
        return await self._ensure(stub.EnsureTaken, request, SNAPSHOT_SECONDS)

    async def ensure_snapshot_removed(self, snapshot_id: str, volume_uuids: Sequence[str]) -> None:
        """None of the volumes has the snapshot; guests that run with them go on."""
        stub = snapshot_pb2_grpc.SnapshotServiceStub(await self._channel())
        request = snapshot_pb2.EnsureSnapshotRemovedRequest(snapshot_id=snapshot_id, volume_uuids=volume_uuids)
        await self._ensure(stub.EnsureRemoved, request, SNAPSHOT_SECONDS)

    async def ensure_rolled_back(self, snapshot_id: str, volume_uuids: Sequence[str]) -> None:
        """The volumes, which nobody has open, hold what they held then."""
        stub = snapshot_pb2_grpc.SnapshotServiceStub(await self._channel())
        request = snapshot_pb2.EnsureRolledBackRequest(snapshot_id=snapshot_id, volume_uuids=volume_uuids)
        await self._ensure(stub.EnsureRolledBack, request, SNAPSHOT_SECONDS)

    async def ensure_volume_copied(
        self,
        uuid: str,
        size_bytes: int,
        volume_type: str,
        *,
        origin_uuid: str,
        snapshot_id: str = "",
        on_progress: OnProgress[storage_pb2.VolumeCopyProgress] | None = None,
    ) -> storage_pb2.Volume:
        """The volume exists: a copy of another one's snapshot or, without one, of what that holds while it is off."""
        stub = storage_pb2_grpc.VolumeServiceStub(await self._channel())
        request = storage_pb2.EnsureVolumeCopiedRequest(
            uuid=uuid,
            size_bytes=size_bytes,
            volume_type=volume_type,
            origin=storage_pb2.VolumeOrigin(volume_uuid=origin_uuid, snapshot_id=snapshot_id),
        )
        last = await self._follow(stub.EnsureCopied, request, COPY_SECONDS, on_progress)
        if not last.HasField("volume"):
            raise AgentCallError("AgentCallFailed", "the agent ended the copy early", transient=True)
        return last.volume
