"""What a move leaves on the node that the instance is not on: removed by a task of its own, once that is certain.

The node may stay away for days. Until it is clean it keeps what was claimed there, and no other move brings the
instance back to it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import structlog
from sqlmodel import Session

from coordinator.agents.client import AgentCallError
from coordinator.domain.event import Severity
from coordinator.domain.task import ATTEMPTS_OF_AN_HOUR
from coordinator.errors import StatusUnsupported
from coordinator.placement.claim import release
from coordinator.store.queries.device_claim import list_claims
from coordinator.store.queries.event import record_event
from coordinator.store.queries.instance import find_instance
from coordinator.store.queries.migration import find_uuids_at
from coordinator.store.tables.task import Task
from coordinator.tasks.host_device import release_devices
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.submission import submit_follow_up

# What a node holds of an instance is removed when it comes back, be it after days.
_RETRY_SECONDS: Final = 30 * 24 * 3600.0
# Each call has a deadline of its own, and there may be many volumes.
_STEP_SECONDS: Final = 24 * 3600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Remains:
    """What may be left of an instance on a node, and of which migration."""

    ecs_id: str
    uuid: str
    migration_id: str
    node_id: str
    # The guest has not come to that node; else it has left it.
    is_incoming: bool
    volume_uuids: list[str]
    port_ids: list[str]
    # Of volumes that were on their way to that node, in their order.
    transfer_ids: list[str] = field(default_factory=list)
    # Of the instance's memory, which was on its way there; empty: none was.
    memory_transfer_id: str = ""


def submit_cleaning(session: Session, remains: Remains, after_task_id: str | None) -> str:
    """The operation that removes them, in the transaction that decided where the instance is.

    It begins after the node's earlier cleaning: a move that brings the instance back waits for the last one alone.
    """
    return submit_follow_up(
        session, CLEAN_NODE, args=asdict(remains), resource_id=remains.ecs_id, after_task_id=after_task_id
    ).id


async def _remove_domain(context: StepContext) -> StepResult:
    remains = Remains(**context.args)
    await asyncio.to_thread(_check_again, context)
    agent = context.runtime.agents.of(remains.node_id)
    if remains.memory_transfer_id:
        await agent.ensure_volume_receive_ended(remains.uuid, remains.memory_transfer_id)
    if remains.is_incoming:
        await agent.ensure_incoming_removed(remains.uuid, remains.migration_id)
    else:
        await agent.ensure_removed(remains.uuid)
    if await asyncio.to_thread(_has_devices, context):
        await release_devices(context, agent, remains.uuid)
    return StepResult()


async def _remove_volumes(context: StepContext) -> StepResult:
    remains = Remains(**context.args)
    agent = context.runtime.agents.of(remains.node_id)
    for uuid, transfer_id in zip(remains.volume_uuids, remains.transfer_ids, strict=False):
        await agent.ensure_volume_receive_ended(uuid, transfer_id)
    kept = await asyncio.to_thread(_find_kept, context)
    for uuid in remains.volume_uuids:
        if uuid not in kept:
            await agent.ensure_volume_removed(uuid)
    return StepResult()


def _find_kept(context: StepContext) -> set[str]:
    """What was detached meanwhile, and has come back, or is on its way, with another instance."""
    remains = Remains(**context.args)
    with context.runtime.database.read() as session:
        return find_uuids_at(session, remains.node_id, remains.volume_uuids, remains.ecs_id)


async def _remove_ports(context: StepContext) -> StepResult:
    remains = Remains(**context.args)
    for port_id in remains.port_ids:
        await context.runtime.agents.of(remains.node_id).ensure_port_removed(port_id)
    return StepResult(apply=lambda session: release(session, [remains.migration_id]))


def _check(session: Session, args: Mapping[str, Any]) -> None:
    """Never of an instance that is there: its data would be lost."""
    remains = Remains(**args)
    instance = find_instance(session, remains.ecs_id)
    if instance is not None and instance.node_id == remains.node_id:
        raise StatusUnsupported(
            f"instance {remains.ecs_id} is on node {remains.node_id}", f"实例{remains.ecs_id}位于节点{remains.node_id}"
        )


def _has_devices(context: StepContext) -> bool:
    remains = Remains(**context.args)
    with context.runtime.database.read() as session:
        return bool(list_claims(session, remains.migration_id, remains.node_id))


def _check_again(context: StepContext) -> None:
    with context.runtime.database.read() as session:
        _check(session, context.args)


def _nothing_to_tell(session: Session, args: Mapping[str, Any], failure: Failure | None = None) -> None:
    """The instance lives elsewhere: nothing of it changes."""


def _make_step(name: str, remove: Callable[[StepContext], Awaitable[StepResult]]) -> Step:
    """Whatever keeps a node from being clean may pass: given up, its claim would stay for good."""

    async def remove_in_the_end(context: StepContext) -> StepResult:
        try:
            return await remove(context)
        except AgentCallError as error:
            await asyncio.to_thread(_tell, context, error.message)
            raise AgentCallError(error.code, error.message, transient=True) from error

    return Step(name, remove_in_the_end, point_of_no_return=True, timeout_seconds=_STEP_SECONDS)


def _tell(context: StepContext, reason: str) -> None:
    """After an hour, and then each day, that the node is not clean yet: it may need somebody's hand."""
    remains = Remains(**context.args)
    with context.runtime.database.read() as session:
        attempts = session.get_one(Task, context.task_id).attempts
    if attempts != ATTEMPTS_OF_AN_HOUR and (attempts == 0 or attempts % (24 * ATTEMPTS_OF_AN_HOUR)):
        return
    log.warning("node.not_cleaned", nodeId=remains.node_id, ecsId=remains.ecs_id, attempts=attempts, reason=reason)
    with context.runtime.database.write() as session:
        record_event(
            session,
            "alarm.node_not_cleaned",
            severity=Severity.ALARM,
            resource_type="node",
            resource_id=remains.node_id,
            node_id=remains.node_id,
            operation_id=context.task_id,
            data={"ecsId": remains.ecs_id, "attempts": attempts, "reason": reason},
        )


CLEAN_NODE = TaskKind(
    name="clean_node",
    steps=(
        _make_step("remove_domain", _remove_domain),
        _make_step("remove_volumes", _remove_volumes),
        _make_step("remove_ports", _remove_ports),
    ),
    check=_check,
    on_success=_nothing_to_tell,
    on_failure=_nothing_to_tell,
    retry_seconds=_RETRY_SECONDS,
)
