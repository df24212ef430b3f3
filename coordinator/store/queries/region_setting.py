"""Settings of the region."""

from typing import Any

from sqlmodel import Session

from coordinator.store.tables import RegionSetting


def read_setting(session: Session, name: str, default: Any) -> Any:
    """What operators set; `default` when nobody did."""
    row = session.get(RegionSetting, name)
    return default if row is None else row.value


def write_setting(session: Session, name: str, value: Any) -> None:
    """This holds from now on."""
    session.merge(RegionSetting(name=name, value=value))
