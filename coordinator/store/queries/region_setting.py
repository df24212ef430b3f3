"""Settings of the whole region."""

from typing import Any

from sqlmodel import Session

from coordinator.store.tables import RegionSetting


def read_setting(session: Session, name: str, default: Any) -> Any:
    """The setting's value, the default when nobody has set it."""
    row = session.get(RegionSetting, name)
    return default if row is None else row.value


def write_setting(session: Session, name: str, value: Any) -> None:
    """The setting has this value, which is JSON, from now on."""
    session.merge(RegionSetting(name=name, value=value))
    session.flush()
