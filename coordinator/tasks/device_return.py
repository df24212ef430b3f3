"""Devices on a node that is lost: nobody waits for it, and nobody has them until it has given them back."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlmodel import Session, col, select

from coordinator.agents.client import AgentCallError
from coordinator.agents.device import RELEASE_SECONDS
from coordinator.placement.claim import release
from coordinator.store.queries.device_claim import hand_devices_over
from coordinator.store.queries.placement import advance_generations
from coordinator.store.tables import Instance, Node, Task
from coordinator.tasks.host_device import device_uuid, release_devices
from coordinator.tasks.instance_step import load_instance
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.submission import submit_follow_up

# It may be away for days.
_RETRY_SECONDS: Final = 30 * 24 * 3600.0


async def is_lost(context: StepContext, error: AgentCallError, node_id: str | None) -> bool:
    """Whether the call failed because the node is away, and its lease is over, too."""

    def is_ready() -> bool:
        with context.runtime.database.read() as session:
            node = session.get(Node, node_id)
            return node is not None and node.ready

    return error.code == "NodeAway" and not await asyncio.to_thread(is_ready)


def leave_behind(context: StepContext, device_ids: Sequence[str]) -> Callable[[Session], None]:
    """An `apply`: the instance has these devices no more, and a task of their own gives them back."""
    consumer_uuid = context.runtime.identifiers.new_uuid()

    def apply(session: Session) -> None:
        instance = load_instance(session, context.args)
        if instance.node_id is None or not device_ids:
            return
        advance_generations(session, [instance.node_id])
        hand_devices_over(session, instance.uuid, consumer_uuid, instance.node_id, device_ids)
        uuids = [device_uuid(instance.uuid, device_id) for device_id in device_ids]
        return_devices(session, instance, consumer_uuid, instance.node_id, uuids)

    return apply


def return_devices(
    session: Session, instance: Instance, consumer_uuid: str, node_id: str, device_uuids: Sequence[str]
) -> None:
    """A task of its own gives back what is the consumer's on that node, and named so in the instance's domain."""
    if not device_uuids:
        return
    args = {
        "ecsId": instance.ecs_id,
        "uuid": instance.uuid,
        "nodeId": node_id,
        "consumerUuid": consumer_uuid,
        "deviceUuids": list(device_uuids),
    }
    submit_follow_up(session, RETURN_DEVICES, args=args, resource_id=consumer_uuid)


def find_return(session: Session, instance_uuid: str) -> str | None:
    """The last task that still gives back what the instance had."""
    statement = select(Task.id).where(
        Task.kind == RETURN_DEVICES.name,
        col(Task.args)["uuid"].as_string() == instance_uuid,
        col(Task.finished_at).is_(None),
    )
    return session.exec(statement.order_by(col(Task.created_at).desc(), col(Task.id))).first()


async def _return(context: StepContext) -> StepResult:
    args = context.args
    agent = context.runtime.agents.of(args["nodeId"])
    try:
        for uuid in args["deviceUuids"]:
            await agent.ensure_device_detached(args["uuid"], uuid)
        await release_devices(context, agent, args["uuid"], args["deviceUuids"])
    except AgentCallError as error:
        # Whatever it is may pass: given up, the claim would stay for good.
        raise AgentCallError(error.code, error.message, transient=True) from error
    return StepResult(apply=lambda session: release(session, [args["consumerUuid"]]))


def _nothing_to_tell(session: Session, args: Mapping[str, Any], failure: Failure | None = None) -> None:
    """The instance goes its own way."""


RETURN_DEVICES = TaskKind(
    name="return_devices",
    steps=(Step("return", _return, point_of_no_return=True, timeout_seconds=RELEASE_SECONDS),),
    check=_nothing_to_tell,
    on_success=_nothing_to_tell,
    on_failure=_nothing_to_tell,
    retry_seconds=_RETRY_SECONDS,
)
