"""Waits until instances have left a node that goes into maintenance; their moves are operations of their own."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlmodel import Session

from coordinator.agents.client import AgentCallError
from coordinator.domain.migration import ACTIVE_MIGRATION_STATES, MigrationState
from coordinator.errors import TargetUnsuitable
from coordinator.store.queries import migration as queries
from coordinator.tasks.model import Failure, Step, StepCanceled, StepContext, StepResult, TaskKind
from coordinator.tasks.submission import request_cancel

_LOOK_SECONDS: Final = 1.0
# Moves of large guests over slow networks; each of them ends by itself.
_LONGEST_SECONDS: Final = 7 * 24 * 3600.0
# So many of those that have not moved are named.
_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class _Look:
    """How far the moves are."""

    total: int
    done: int
    # What keeps each of the others, by instance; those under way are not in it.
    lost: Mapping[str, str]

    @property
    def is_over(self) -> bool:
        return self.done + len(self.lost) == self.total


async def _await_moves(context: StepContext) -> StepResult:
    while True:
        look = await asyncio.to_thread(_look, context)
        if look.is_over:
            break
        percent = 100 * (look.done + len(look.lost)) // look.total
        await context.report_progress(percent, f"{look.done} of {look.total} instances have left")
        await asyncio.sleep(_LOOK_SECONDS)
    if context.is_cancel_requested() and look.lost:
        raise StepCanceled
    if look.lost:
        told = "; ".join(f"{ecs_id}: {reason}" for ecs_id, reason in list(look.lost.items())[:_NAMED])
        text = f"{len(look.lost)} of {look.total} instances have not left: {told}"
        raise AgentCallError(TargetUnsuitable.code, text, transient=False)
    return StepResult({"moved": look.done})


def _look(context: StepContext) -> _Look:
    """How far the moves are; a cancellation is handed on to them first."""
    if context.is_cancel_requested():
        _cancel_moves(context)
    with context.runtime.database.read() as session:
        moves = queries.list_migrations(session, context.args["migrationIds"])
    return _Look(
        total=len(moves),
        done=sum(move.state == MigrationState.COMPLETED for move, _ in moves),
        lost={
            ecs_id: move.reason
            for move, ecs_id in moves
            if move.state in (MigrationState.FAILED, MigrationState.CANCELED)
        },
    )


def _cancel_moves(context: StepContext) -> None:
    with context.runtime.database.write() as session:
        for move, _ in queries.list_migrations(session, context.args["migrationIds"]):
            if move.state in ACTIVE_MIGRATION_STATES:
                request_cancel(session, move.operation_id)
    context.runtime.wake_tasks()


def _no_hook(session: Session, args: Mapping[str, Any], failure: Failure | None = None) -> None:
    """The moves settle their instances themselves; the node stays in maintenance until operators end it."""


def describe_moves(migration_ids: Sequence[str]) -> dict[str, Any]:
    """Arguments of a task."""
    return {"migrationIds": list(migration_ids)}


DRAIN_NODE = TaskKind(
    name="drain_node",
    steps=(
        Step(
            "await_moves",
            _await_moves,
            timeout_seconds=_LONGEST_SECONDS,
            retry_seconds=_LONGEST_SECONDS,
            settles_cancellation=True,
        ),
    ),
    check=_no_hook,
    on_success=_no_hook,
    on_failure=_no_hook,
)
