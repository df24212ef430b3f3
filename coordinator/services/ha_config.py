"""How long a node may be silent before its highly available instances are started elsewhere."""

from typing import Final

import structlog
from sqlmodel import Session

from coordinator.config import Settings
from coordinator.domain.caller import Caller
from coordinator.domain.fence import DEFAULT_TOLERANCE, FenceKind
from coordinator.runtime import Runtime
from coordinator.store.queries.region_setting import read_setting, write_setting

_SETTING: Final = "haToleranceSeconds"

log = structlog.get_logger(__name__)


def get_tolerance(runtime: Runtime, caller: Caller) -> int:
    """The tolerance of the region in seconds."""
    with runtime.database.read() as session:
        return read_tolerance(session)


def set_tolerance(runtime: Runtime, caller: Caller, seconds: int) -> None:
    """The tolerance of the region. Nodes hear of it with their heartbeats; until then the longer one counts."""
    with runtime.database.write() as session:
        write_setting(session, _SETTING, seconds)
    log.info("ha.tolerance_changed", toleranceSeconds=seconds, by=caller.token_id)


def read_tolerance(session: Session) -> int:
    """The tolerance of the region in seconds."""
    return int(read_setting(session, _SETTING, DEFAULT_TOLERANCE))


def read_told_tolerance(session: Session, settings: Settings) -> int:
    """What nodes are told: 0 when they need not fence themselves, for nobody would rely on it."""
    return read_tolerance(session) if FenceKind.SELF in settings.fences else 0
