"""What is forgotten after a time: events, the audit log, moves, backups, and uploads that were given up."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from sqlmodel import Session

from coordinator.domain.backup import FILE_LIFE
from coordinator.runtime import Runtime
from coordinator.services.image_upload import forget_expired_uploads
from coordinator.store.queries.audit import delete_records
from coordinator.store.queries.backup import delete_backups
from coordinator.store.queries.event import delete_events
from coordinator.store.queries.migration import delete_migrations

# A batch at a time, so that others can write in between.
_BATCH: Final = 1000


def forget_expired(runtime: Runtime) -> None:
    """Deletes what is older than the configuration says."""
    now = runtime.now()
    _forget(runtime, delete_events, now - runtime.settings.event_retention)
    _forget(runtime, delete_records, now - runtime.settings.audit_retention)
    _forget(runtime, delete_migrations, now - runtime.settings.task_retention)
    _forget(runtime, delete_backups, now - max(runtime.settings.task_retention, 2 * FILE_LIFE))
    forget_expired_uploads(runtime)


def _forget(runtime: Runtime, delete: Callable[[Session, datetime, int], int], before: datetime) -> None:
    while True:
        with runtime.database.write() as session:
            if delete(session, before, _BATCH) < _BATCH:
                return
