"""What went wrong in a step, as people are told it."""

from dataclasses import dataclass

import structlog
from sqlalchemy.exc import OperationalError

from coordinator.agents.client import AgentCallError
from coordinator.errors import CoordinatorError, ServiceUnavailable

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an act failed for good: a stable code and a sentence."""

    code: str
    message: str


def is_transient(error: Exception) -> bool:
    """Whether the same act may succeed later: nothing was wrong with the act itself."""
    if isinstance(error, AgentCallError):
        return error.transient
    return isinstance(error, OperationalError | ServiceUnavailable)


def fault_of(error: Exception) -> Fault:
    """The fault that `error` is. What nobody foresaw goes to the log in full and to users as one sentence."""
    if isinstance(error, AgentCallError):
        return Fault(error.code, _storable(error.message))
    if isinstance(error, CoordinatorError):
        return Fault(error.code, _storable(error.message.en))
    if isinstance(error, OperationalError):
        log.warning("task.database_away", reason=str(error.orig))
        return Fault(ServiceUnavailable.code, "the database cannot be reached")
    log.error("task.defect", exc_info=error)
    return Fault("ECS.InternalError", "the coordinator failed; its log has the reason")


def _storable(message: str) -> str:
    """Guests say what they like, and PostgreSQL has no zero bytes in texts: the task would never end."""
    return message.replace("\0", "\ufffd")
