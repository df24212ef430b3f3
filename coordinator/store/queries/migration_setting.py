"""What holds for all migrations of the region, as it is stored."""

from typing import Any, Final

from sqlmodel import Session

from coordinator.domain.migration import MigrationNetwork, MigrationSettings
from coordinator.store.queries.region_setting import read_setting, write_setting

_NAME: Final = "migration"


def read_migration_settings(session: Session) -> MigrationSettings:
    """What operators set, else the defaults."""
    stored: dict[str, Any] = read_setting(session, _NAME, {})
    defaults = MigrationSettings()
    return MigrationSettings(
        network=MigrationNetwork(stored.get("network", defaults.network)),
        migrate_limit=stored.get("migrateLimit", defaults.migrate_limit),
        is_cpu_type_free=stored.get("isCpuTypeFree", defaults.is_cpu_type_free),
    )


def write_migration_settings(session: Session, settings: MigrationSettings) -> None:
    """These hold from now on."""
    stored = {
        "network": settings.network,
        "migrateLimit": settings.migrate_limit,
        "isCpuTypeFree": settings.is_cpu_type_free,
    }
    write_setting(session, _NAME, stored)
