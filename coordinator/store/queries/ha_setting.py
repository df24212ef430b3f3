"""High availability's settings of the region."""

from typing import Final

from sqlmodel import Session

from coordinator.domain.fence import DEFAULT_TOLERANCE
from coordinator.store.queries.region_setting import read_setting, write_setting

_TOLERANCE: Final = "haToleranceSeconds"


def read_tolerance(session: Session) -> int:
    """How long a node may be silent, in seconds."""
    return int(read_setting(session, _TOLERANCE, DEFAULT_TOLERANCE))


def write_tolerance(session: Session, seconds: int) -> None:
    """It is this one from now on."""
    write_setting(session, _TOLERANCE, seconds)
