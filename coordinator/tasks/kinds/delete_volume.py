"""Removes a volume's data from the node that holds it, then the volume."""

from collections.abc import Mapping
from typing import Any

from sqlmodel import Session

from coordinator.errors import ResourceNotFound
from coordinator.store.queries.volume import find_by_uuid
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind


async def _remove(context: StepContext) -> StepResult:
    agent = context.runtime.agents.of(context.args["nodeId"])
    await agent.ensure_volume_removed(context.args["uuid"])
    return StepResult()


def _check(session: Session, args: Mapping[str, Any]) -> None:
    if find_by_uuid(session, args["uuid"]) is None:
        raise ResourceNotFound("volume", args["uuid"])


def _on_success(session: Session, args: Mapping[str, Any]) -> None:
    volume = find_by_uuid(session, args["uuid"])
    if volume is not None:
        session.delete(volume)


def _on_failure(session: Session, args: Mapping[str, Any], failure: Failure) -> None:
    """The data may be half gone: the volume can only be deleted again."""
    volume = find_by_uuid(session, args["uuid"])
    if volume is not None:
        volume.status = "error"
        session.add(volume)


DELETE_VOLUME = TaskKind(
    name="delete_volume",
    steps=(Step("remove", _remove, point_of_no_return=True),),
    check=_check,
    on_success=_on_success,
    on_failure=_on_failure,
)
