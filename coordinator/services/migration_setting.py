"""What holds for all migrations of the region: their network, how many at once, and between which processors."""

from dataclasses import replace
from typing import Any

import structlog

from coordinator.domain.caller import Caller
from coordinator.domain.migration import MigrationNetwork, MigrationSettings
from coordinator.runtime import Runtime
from coordinator.store.queries.migration import nudge_waiting
from coordinator.store.queries.migration_setting import read_migration_settings, write_migration_settings

log = structlog.get_logger(__name__)


def get_migration_settings(runtime: Runtime, caller: Caller) -> MigrationSettings:
    """What holds now."""
    with runtime.database.read() as session:
        return read_migration_settings(session)


def set_migration_network(runtime: Runtime, caller: Caller, network: MigrationNetwork) -> None:
    """Migrations that are asked for from now on take this network. Idempotent."""
    _change(runtime, caller, network=network)


def set_migrate_limit(runtime: Runtime, caller: Caller, limit: int) -> None:
    """So many live migrations at once; those under way go on, those that wait look again. Idempotent."""
    _change(runtime, caller, migrate_limit=limit)


def set_cpu_type_free(runtime: Runtime, caller: Caller, is_free: bool) -> None:
    """Whether guests may move to processors of another type than theirs. Idempotent."""
    _change(runtime, caller, is_cpu_type_free=is_free)


def _change(runtime: Runtime, caller: Caller, **changes: Any) -> None:
    with runtime.database.write() as session:
        write_migration_settings(session, replace(read_migration_settings(session), **changes))
        nudge_waiting(session)
    runtime.wake_tasks()
    log.info("migration.settings_changed", **{name: str(value) for name, value in changes.items()}, by=caller.token_id)
