"""SnapshotService: snapshots of volumes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

import grpc

from agent.configure.check import check_uuid
from agent.errors import RequestInvalid
from agent.snapshot import SnapshotOrder, Snapshots
from agent.storage.snapshot import Consistency, VolumeSnapshot, check_snapshot_id
from agent.storage.snapshots import VolumeSnapshots
from protos.agent.v1 import snapshot_pb2 as messages
from protos.agent.v1 import snapshot_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_CONSISTENCIES: Final[dict[Consistency, messages.SnapshotConsistency]] = {
    "crash": messages.SNAPSHOT_CONSISTENCY_CRASH,
    "file-system": messages.SNAPSHOT_CONSISTENCY_FILE_SYSTEM,
}


class SnapshotServicer(snapshot_pb2_grpc.SnapshotServiceServicer):
    """Snapshots of the node's volumes."""

    def __init__(self, snapshots: Snapshots, stores: VolumeSnapshots) -> None:
        self._snapshots = snapshots
        self._stores = stores

    async def EnsureTaken(
        self, request: messages.EnsureSnapshotTakenRequest, context: Context
    ) -> messages.TakenSnapshot:
        """All the volumes have the snapshot."""
        check_snapshot_id(request.snapshot_id)
        if request.domain_uuid:
            check_uuid(request.domain_uuid, "domain_uuid")
        uuids = _parse_volumes(request.volume_uuids)
        order = SnapshotOrder(request.snapshot_id, request.domain_uuid, uuids, request.quiesce)
        taken = await self._snapshots.take(order)
        answer = messages.TakenSnapshot(
            consistency=_CONSISTENCIES[taken.consistency],
            reason=taken.reason,
            volumes=map(encode_snapshot, taken.volumes),
        )
        if taken.paused_seconds is not None:
            answer.paused.FromTimedelta(timedelta(seconds=taken.paused_seconds))
        return answer

    async def EnsureRemoved(
        self, request: messages.EnsureSnapshotRemovedRequest, context: Context
    ) -> messages.EnsureSnapshotRemovedResponse:
        """None of the volumes has the snapshot."""
        check_snapshot_id(request.snapshot_id)
        await self._snapshots.remove(request.snapshot_id, _parse_volumes(request.volume_uuids))
        return messages.EnsureSnapshotRemovedResponse()

    async def EnsureRolledBack(
        self, request: messages.EnsureRolledBackRequest, context: Context
    ) -> messages.EnsureRolledBackResponse:
        """The volumes hold what they held then."""
        check_snapshot_id(request.snapshot_id)
        await self._snapshots.roll_back(request.snapshot_id, _parse_volumes(request.volume_uuids))
        return messages.EnsureRolledBackResponse()

    async def List(self, request: messages.ListSnapshotsRequest, context: Context) -> messages.ListSnapshotsResponse:
        """The snapshots of a volume."""
        check_uuid(request.volume_uuid, "volume_uuid")
        found = await (await self._stores.of(request.volume_uuid)).list(request.volume_uuid)
        return messages.ListSnapshotsResponse(snapshots=map(encode_snapshot, found))


def encode_snapshot(snapshot: VolumeSnapshot) -> messages.VolumeSnapshot:
    """A snapshot of one volume on the wire."""
    return messages.VolumeSnapshot(
        snapshot_id=snapshot.snapshot_id,
        volume_uuid=snapshot.volume_uuid,
        size_bytes=snapshot.size_bytes,
        taken_at_seconds=snapshot.taken_at_seconds,
        consistency=_CONSISTENCIES[snapshot.consistency],
        allocated_bytes=snapshot.allocated_bytes,
    )


def encode_consistency(consistency: Consistency | None) -> messages.SnapshotConsistency:
    """What something is like on the wire; UNSPECIFIED while nobody knows."""
    return _CONSISTENCIES[consistency] if consistency else messages.SNAPSHOT_CONSISTENCY_UNSPECIFIED


def _parse_volumes(uuids: Iterable[str]) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(uuids))
    if not chosen:
        raise RequestInvalid("volume_uuids: at least one")
    for uuid in chosen:
        check_uuid(uuid, "volume_uuids")
    return chosen
