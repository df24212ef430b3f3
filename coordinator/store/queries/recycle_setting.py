"""The recycle bin's settings of the region."""

from typing import Final

from sqlmodel import Session

from coordinator.domain.recycle import RecycleConfig
from coordinator.store.queries.region_setting import read_setting, write_setting

_NAME: Final = "recycleBin"


def read_recycle_config(session: Session) -> RecycleConfig:
    """What holds for whatever is deleted now."""
    kept = read_setting(session, _NAME, {})
    default = RecycleConfig()
    return RecycleConfig(bool(kept.get("enabled", default.enabled)), int(kept.get("freezeDays", default.freeze_days)))


def write_recycle_config(session: Session, config: RecycleConfig) -> None:
    """It is this one from now on."""
    write_setting(session, _NAME, {"enabled": config.enabled, "freezeDays": config.freeze_days})
