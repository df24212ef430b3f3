"""Gives a device of a node back by force: what keeps it from being wiped does not keep its claim any more.

Claims go the way that they always go: the operation that gives the device back, and was refused, is tried again.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from sqlmodel import Session

from coordinator.agents.device import RELEASE_SECONDS
from coordinator.domain.event import Severity
from coordinator.store.queries.device_claim import find_holders
from coordinator.store.queries.event import record_event
from coordinator.tasks.host_device import report_release
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind


async def _release(context: StepContext) -> StepResult:
    args = context.args
    # Somebody may have got it since it was asked for, or since an attempt that failed.
    is_claimed = args["isClaimed"] or await asyncio.to_thread(_is_claimed, context)
    await context.runtime.agents.of(args["nodeId"]).ensure_forced_release(
        args["deviceId"], is_claimed=is_claimed, on_progress=report_release(context)
    )

    def apply(session: Session) -> None:
        record_event(
            session,
            "node.device_released_by_force",
            severity=Severity.WARNING,
            resource_type="node",
            resource_id=args["nodeId"],
            node_id=args["nodeId"],
            operation_id=context.task_id,
            data={"deviceId": args["deviceId"]},
        )

    return StepResult(apply=apply)


def _is_claimed(context: StepContext) -> bool:
    node_id, device_id = context.args["nodeId"], context.args["deviceId"]
    with context.runtime.database.read() as session:
        return bool(find_holders(session, node_id, [device_id]).get(device_id))


def _nothing_to_do(session: Session, args: Mapping[str, Any], failure: Failure | None = None) -> None:
    # Who has the device was looked at by the service, in this same transaction; nothing of it is the operation's.
    pass


RELEASE_DEVICE = TaskKind(
    name="release_device",
    steps=(Step("release", _release, timeout_seconds=RELEASE_SECONDS),),
    check=_nothing_to_do,
    on_success=_nothing_to_do,
    on_failure=_nothing_to_do,
)
