"""Brings the node's definition of an instance up to date; what can change at once in a running guest does."""

from sqlmodel import Session

from coordinator.domain.instance import InstanceStatus
from coordinator.tasks.instance_step import Args, admit, define_domain, load_instance
from coordinator.tasks.kinds.apply_ssh_keys import rest_unchanged
from coordinator.tasks.model import Failure, Step, TaskKind


def _settle(session: Session, args: Args) -> None:
    rest_unchanged(session, load_instance(session, args))


def _settle_failure(session: Session, args: Args, failure: Failure) -> None:
    """What is stored counts from the next start on, which defines the domain anew."""
    rest_unchanged(session, load_instance(session, args))


REDEFINE_INSTANCE = TaskKind(
    name="redefine_instance",
    steps=(Step("define", define_domain),),
    check=admit("change the definition", InstanceStatus.RUNNING, InstanceStatus.PAUSED),
    on_success=_settle,
    on_failure=_settle_failure,
)
