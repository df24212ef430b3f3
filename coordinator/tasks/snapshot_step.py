"""What tasks that work on snapshots share: the rows that `args` name, and where their volumes are now."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlmodel import Session

from coordinator.domain.snapshot import Consistency, SnapshotStatus
from coordinator.errors import ResourceNotFound
from coordinator.store.queries import snapshot as queries
from coordinator.store.tables.snapshot import Snapshot
from coordinator.tasks.instance_step import Args, load_instance
from coordinator.tasks.model import StepContext
from protos.agent.v1 import snapshot_pb2

CONSISTENCIES: Mapping[int, Consistency] = {
    snapshot_pb2.SNAPSHOT_CONSISTENCY_CRASH: Consistency.CRASH,
    snapshot_pb2.SNAPSHOT_CONSISTENCY_FILE_SYSTEM: Consistency.FILE_SYSTEM,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Volumes that a snapshot is of, and the node where their data is to be changed."""

    node_id: str
    volume_uuids: tuple[str, ...]


def load_snapshot(session: Session, args: Args) -> Snapshot:
    """The row of the snapshot that `args` name."""
    found = queries.lock_snapshot(session, args["snapshotId"])
    if found is None:
        raise ResourceNotFound("snapshot", args["snapshotId"])
    return found


async def places_of(context: StepContext) -> Sequence[Place]:
    """Where the data of the task's snapshot is now; nowhere when the snapshot is gone."""

    def read() -> Sequence[Place]:
        with context.runtime.database.read() as session:
            found = queries.find_by_id(session, context.args["snapshotId"])
            return list_places(session, found) if found else ()

    return await asyncio.to_thread(read)


def list_places(session: Session, snapshot: Snapshot) -> Sequence[Place]:
    """The same of any snapshot."""
    uuids: dict[str, list[str]] = defaultdict(list)
    for item in queries.list_parts(session, snapshot):
        if node_id := queries.node_of(session, item.volume):
            uuids[node_id].append(item.volume.uuid)
    return tuple(Place(node_id, tuple(found)) for node_id, found in sorted(uuids.items()))


async def remove_snapshot(context: StepContext, snapshot_id: str, places: Sequence[Place]) -> None:
    """No volume there has the snapshot."""
    for place in places:
        agent = context.runtime.agents.of(place.node_id)
        await agent.ensure_snapshot_removed(snapshot_id, place.volume_uuids)


def show_snapshot(session: Session, args: Args, status: SnapshotStatus, error_message: str = "") -> None:
    """The snapshot has this status, if it is still there."""
    found = queries.lock_snapshot(session, args["snapshotId"])
    if found is not None:
        found.status, found.error_message = status, error_message
        session.add(found)


def has_instance(session: Session, args: Args) -> bool:
    """Whether the instance is still there."""
    try:
        load_instance(session, args)
    except ResourceNotFound:
        return False
    return True
