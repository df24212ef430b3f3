"""Removes a snapshot of an operation's own from volumes, wherever they are, after their node was lost or failed to."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session

from coordinator.agents.client import AgentCallError, AgentClient
from coordinator.store.queries.snapshot import node_of
from coordinator.store.queries.volume import find_by_uuid
from coordinator.store.tables.instance import Instance
from coordinator.tasks.kinds.delete_instance import RETRY_SECONDS
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.submission import submit_follow_up
from coordinator.tasks.volume_step import undo_unless_lost


async def remove_unless_lost(
    context: StepContext, instance: Instance | None, agent: AgentClient, snapshot_id: str, volume_uuids: Sequence[str]
) -> StepResult:
    """An operation takes its own snapshot away again. Its node is waited for, unless that is lost and given up.

    Then the snapshot is removed where the volumes are next. One that its node does not remove is left to a task of its
    own as well: nothing else of the operation waits for it.
    """

    def submit(session: Session) -> None:
        args = {"snapshotId": snapshot_id, "volumeUuids": list(volume_uuids)}
        resource_id = instance.ecs_id if instance else ""
        submit_follow_up(session, FORGET_SNAPSHOT, args=args, resource_id=resource_id)

    async def remove() -> StepResult:
        try:
            await agent.ensure_snapshot_removed(snapshot_id, volume_uuids)
        except AgentCallError as error:
            if error.transient:
                raise
            return StepResult(apply=submit)
        return StepResult()

    return await undo_unless_lost(context, instance, remove(), agent.node_id) or StepResult(apply=submit)


async def _remove(context: StepContext) -> StepResult:
    """Whatever keeps a node from it may pass; the other nodes do not wait for that."""
    kept: AgentCallError | None = None
    for node_id, uuids in (await asyncio.to_thread(_find_places, context)).items():
        try:
            await context.runtime.agents.of(node_id).ensure_snapshot_removed(context.args["snapshotId"], uuids)
        except AgentCallError as error:
            kept = error
    if kept is not None:
        raise AgentCallError(kept.code, kept.message, transient=True) from kept
    return StepResult()


def _find_places(context: StepContext) -> dict[str, list[str]]:
    """Read anew with each attempt: an instance that is started elsewhere takes its volumes with it."""
    found: dict[str, list[str]] = defaultdict(list)
    with context.runtime.database.read() as session:
        for uuid in context.args["volumeUuids"]:
            volume = find_by_uuid(session, uuid)
            if volume is not None and (node_id := node_of(session, volume)):
                found[node_id].append(uuid)
    return found


def _check(session: Session, args: Mapping[str, Any]) -> None:
    """Nothing is asked of the instance, which may be gone by then, with its volumes."""


def _nothing_to_tell(session: Session, args: Mapping[str, Any], failure: Failure | None = None) -> None:
    """No row says anything of it."""


FORGET_SNAPSHOT = TaskKind(
    name="forget_snapshot",
    steps=(Step("remove", _remove, point_of_no_return=True, timeout_seconds=1200.0),),
    check=_check,
    on_success=_nothing_to_tell,
    on_failure=_nothing_to_tell,
    retry_seconds=RETRY_SECONDS,
)
