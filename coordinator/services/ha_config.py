"""How long a node may be silent before its highly available instances are started elsewhere."""

import structlog
from sqlmodel import Session

from coordinator.config import Settings
from coordinator.domain.caller import Caller
from coordinator.domain.fence import FenceKind
from coordinator.runtime import Runtime
from coordinator.store.queries.ha_setting import read_tolerance, write_tolerance

log = structlog.get_logger(__name__)


def get_tolerance(runtime: Runtime, caller: Caller) -> int:
    """The tolerance of the region in seconds."""
    with runtime.database.read() as session:
        return read_tolerance(session)


def set_tolerance(runtime: Runtime, caller: Caller, seconds: int) -> None:
    """The tolerance of the region. Nodes hear of it with their heartbeats; until then the longer one counts."""
    with runtime.database.write() as session:
        write_tolerance(session, seconds)
    log.info("ha.tolerance_changed", toleranceSeconds=seconds, by=caller.token_id)


def read_told_tolerance(session: Session, settings: Settings) -> int:
    """What nodes are told: 0 when they need not fence themselves, for nobody would rely on it."""
    return read_tolerance(session) if FenceKind.SELF in settings.fences else 0
