"""What tasks that work on backups share: the rows that `args` name, and the states that volumes keep for them."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from sqlmodel import Session

from coordinator.agents.client import AgentCallError, NodeAway
from coordinator.domain.backup import BackupStatus
from coordinator.store.queries import backup as queries
from coordinator.store.queries.snapshot import node_of
from coordinator.store.queries.volume import find_by_uuid
from coordinator.store.tables import Instance, VolumeBackup
from coordinator.tasks.instance_step import Args
from coordinator.tasks.model import StepContext
from coordinator.tasks.volume_step import is_given_up


async def read_rows(context: StepContext, read: Callable[[Session], Sequence[VolumeBackup]]) -> Sequence[VolumeBackup]:
    """What `read` finds."""

    def run() -> Sequence[VolumeBackup]:
        with context.runtime.database.read() as session:
            return read(session)

    return await asyncio.to_thread(run)


def rows_of(session: Session, args: Args) -> Sequence[VolumeBackup]:
    """The backups that the task is about."""
    return queries.list_by_ids(session, args["backupIds"])


async def remove_states(context: StepContext, instance: Instance | None, rows: Sequence[VolumeBackup]) -> bool:
    """No volume keeps these states, wherever it is now; guests that run with them go on.

    False: the instance is to be started elsewhere, and does not wait for its lost node.
    """
    try:
        for (node_id, point_id), uuids in (await asyncio.to_thread(_find_places, context, rows)).items():
            await context.runtime.agents.of(node_id).ensure_snapshot_removed(point_id, uuids)
    except NodeAway:
        if not await is_given_up(context, instance):
            raise
        return False
    return True


async def remove_files(context: StepContext, rows: Iterable[VolumeBackup]) -> None:
    """As far as the nodes are there: what nobody removes is gone after two days."""
    for row in rows:
        with contextlib.suppress(AgentCallError):
            await context.runtime.agents.of(row.node_id).ensure_volume_export_removed(row.backup_id)


def forget_states(session: Session, backup_ids: Iterable[str]) -> None:
    """The volumes do not keep them."""
    for row in queries.list_by_ids(session, list(backup_ids)):
        row.holds_state = False
        session.add(row)


def show_backups(session: Session, args: Args, status: BackupStatus, error_message: str = "") -> None:
    """The backups have this status."""
    for row in rows_of(session, args):
        row.status, row.error_message = status, error_message
        session.add(row)


def _find_places(context: StepContext, rows: Sequence[VolumeBackup]) -> dict[tuple[str, str], list[str]]:
    """UUIDs of the volumes by their nodes and states; one that is gone kept nothing."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    with context.runtime.database.read() as session:
        for row in rows:
            volume = find_by_uuid(session, row.volume_uuid)
            if volume is not None and (node_id := node_of(session, volume)):
                found[node_id, row.point_id].append(volume.uuid)
    return found
