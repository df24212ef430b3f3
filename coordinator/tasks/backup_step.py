"""What tasks that work on backups share: the rows that `args` name, and the states that volumes keep for them."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence

from sqlmodel import Session, col, select

from coordinator.agents.client import AgentCallError
from coordinator.domain.backup import BackupStatus
from coordinator.store.queries import backup as queries
from coordinator.store.queries.snapshot import node_of
from coordinator.store.tables import Volume, VolumeBackup
from coordinator.tasks.instance_step import Args
from coordinator.tasks.model import StepContext


async def read_rows(context: StepContext, read: Callable[[Session], Sequence[VolumeBackup]]) -> Sequence[VolumeBackup]:
    """What `read` finds."""

    def run() -> Sequence[VolumeBackup]:
        with context.runtime.database.read() as session:
            return read(session)

    return await asyncio.to_thread(run)


def rows_of(session: Session, args: Args) -> Sequence[VolumeBackup]:
    """The backups that the task is about."""
    return queries.list_by_ids(session, args["backupIds"])


async def remove_states(context: StepContext, rows: Iterable[VolumeBackup]) -> None:
    """No volume keeps these states, wherever it is now; guests that run with them go on."""
    for row in rows:
        if node_id := await asyncio.to_thread(_find_node, context, row.volume_uuid):
            await context.runtime.agents.of(node_id).ensure_snapshot_removed(row.point_id, [row.volume_uuid])


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


def _find_node(context: StepContext, volume_uuid: str) -> str | None:
    """None: the volume is gone, with all that it kept."""
    with context.runtime.database.read() as session:
        volume = session.exec(select(Volume).where(col(Volume.uuid) == volume_uuid)).first()
        return node_of(session, volume) if volume else None
