"""What the steps of all instance tasks share: reading the blueprint, calling its node, settling the status."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from sqlmodel import Session

from coordinator.agents.client import AgentClient
from coordinator.agents.power_state import power_state_of
from coordinator.domain.clock import utc_now
from coordinator.domain.instance import (
    ERROR_STATUSES,
    IN_FLIGHT_STATUSES,
    InstanceStatus,
    PowerState,
    describe_loss,
    status_of,
)
from coordinator.errors import ResourceNotFound, StatusUnsupported
from coordinator.store.queries import instance as instance_query
from coordinator.store.queries.placement import advance_generations
from coordinator.store.tables.instance import Instance
from coordinator.store.tables.node import Node
from coordinator.tasks.blueprint import Blueprint, domain_spec, image_ref, port_message, read_blueprint
from coordinator.tasks.model import Failure, StepContext, StepResult
from protos.agent.v1 import domain_pb2

Args = Mapping[str, Any]
_Wait = domain_pb2.StopProgress | domain_pb2.RebootProgress

# Steps that wait for a guest end by the deadline of the call, which the configured grace decides, never by this one.
GUEST_TIMEOUT_SECONDS: Final = 24 * 3600.0


async def blueprint_of(context: StepContext) -> Blueprint:
    """The instance of this task as the database has it now."""
    return await asyncio.to_thread(_read, context)


def _read(context: StepContext) -> Blueprint:
    with context.runtime.database.read() as session:
        return read_blueprint(session, context.args)


def agent_of(context: StepContext, blueprint: Blueprint) -> AgentClient:
    """The agent of the instance's node."""
    node_id = blueprint.instance.node_id
    if node_id is None:
        raise StatusUnsupported("the instance is on no node", "实例不在任何节点上")
    return context.runtime.agents.of(node_id)


def load_instance(session: Session, args: Args) -> Instance:
    """The row of the instance that `args` name."""
    instance = instance_query.find_instance(session, args["ecsId"])
    if instance is None:
        raise ResourceNotFound("instance", args["ecsId"])
    return instance


def show_status(status: InstanceStatus) -> Callable[[Session, Args], None]:
    """A step's `before`: the instance shows `status` from the step's intent on."""

    def apply(session: Session, args: Args) -> None:
        instance = load_instance(session, args)
        if not is_being_deleted(instance):
            instance.status = status
            session.add(instance)

    return apply


async def define_domain(context: StepContext) -> StepResult:
    """Brings the node's definition up to date: what changed while the guest ran counts from its next start on."""
    blueprint = await blueprint_of(context)
    agent = agent_of(context, blueprint)
    await ensure_media(agent, blueprint)
    for port, subnet in blueprint.ports:
        await agent.ensure_port(port_message(blueprint, port, subnet))
    await agent.ensure_defined(domain_spec(blueprint, context.runtime))
    return StepResult()


async def ensure_media(agent: AgentClient, blueprint: Blueprint) -> None:
    """What is to be in the instance's drives is on that node."""
    for _, image in blueprint.isos:
        await agent.ensure_image_cached(image_ref(image))


def record_power_state(args: Args, domain: domain_pb2.Domain) -> Callable[[Session], None]:
    """A step's `apply`: the power state that the node answered."""

    def apply(session: Session) -> None:
        instance = load_instance(session, args)
        instance.power_state = power_state_of(domain)
        instance.machine = domain.machine or instance.machine
        session.add(instance)

    return apply


async def start_again(context: StepContext) -> StepResult:
    """Part of an undo: the instance has its stored definition, and runs if it did so before its task."""
    blueprint = await blueprint_of(context)
    await define_domain(context)
    if not context.args["runs"] or is_being_deleted(blueprint.instance):
        return StepResult()
    domain = await agent_of(context, blueprint).ensure_running(blueprint.instance.uuid)
    return StepResult(apply=record_power_state(context.args, domain))


def is_being_deleted(instance: Instance) -> bool:
    """A deletion was accepted: the task that it overtakes leaves status and operation to it."""
    return instance.status == InstanceStatus.TERMINATING


def forget_secrets(instance: Instance) -> None:
    """A deleted instance's row stays; what its guest kept secret does not."""
    instance.user_data = instance.password_hash = instance.vnc_password_encrypted = ""
    instance.ssh_public_keys = []


def is_removed_by_hand(instance: Instance) -> bool:
    """The node says that it does not have the instance's domain, though nobody here removed it."""
    is_lost = instance.status == InstanceStatus.UNKNOWN and instance.power_state == PowerState.ABSENT
    return is_lost and instance.node_id is not None


def require_status(instance: Instance, action: str, *admitted: InstanceStatus) -> None:
    """Raises StatusUnsupported unless the instance rests in one of `admitted`."""
    if instance.task_id:
        raise StatusUnsupported(
            f"instance {instance.ecs_id}: cannot {action} while operation {instance.task_id} runs",
            f"实例 {instance.ecs_id}：操作 {instance.task_id} 正在执行，不允许该操作",
        )
    if instance.status not in admitted:
        wanted = ", ".join(admitted)
        raise StatusUnsupported(
            f"instance {instance.ecs_id}: cannot {action} in status {instance.status}, only in {wanted}",
            f"实例 {instance.ecs_id}：状态 {instance.status} 不允许该操作，仅允许 {wanted}",
        )


def admit(action: str, *admitted: InstanceStatus) -> Callable[[Session, Args], None]:
    """A kind's `check`: the instance rests in one of `admitted`."""

    def check(session: Session, args: Args) -> None:
        require_status(load_instance(session, args), action, *admitted)

    return check


def report_wait(context: StepContext, grace_seconds: float) -> Callable[[_Wait], Awaitable[None]]:
    """Tells how much of its grace a guest has used up."""

    async def report(wait: _Wait) -> None:
        elapsed_seconds = wait.elapsed.ToTimedelta().total_seconds()
        percent = min(99, int(100 * elapsed_seconds / max(grace_seconds, 1)))
        await context.report_progress(percent, f"waiting for the guest ({wait.method}): {elapsed_seconds:.0f} s")

    return report


def settle(session: Session, args: Args) -> None:
    """`on_success`: no task works on the instance any more, its status follows what the node said."""
    instance = load_instance(session, args)
    rest(session, instance, status_of(PowerState(instance.power_state)), "")


def settle_failure(session: Session, args: Args, failure: Failure) -> None:
    """`on_failure` of tasks that leave the instance where it was: the status follows the node, the reason is shown."""
    instance = load_instance(session, args)
    reason = "canceled" if failure.canceled else failure.message
    rest(session, instance, status_of(PowerState(instance.power_state)), reason)


def rest(session: Session, instance: Instance, status: InstanceStatus, error_message: str) -> None:
    """No task works on the instance any more. One that is being deleted keeps status and operation of its deletion.

    What a node that is away last said about the guest is not told as if it held.
    """
    node = session.get(Node, instance.node_id) if instance.node_id else None
    if node is not None and not node.ready and status not in ERROR_STATUSES:
        status = InstanceStatus.UNKNOWN
        error_message = "; ".join(filter(None, (error_message, describe_loss(node.name))))
    if not is_being_deleted(instance):
        if instance.status in IN_FLIGHT_STATUSES and instance.node_id:
            # The scheduler counts what is under way there.
            advance_generations(session, [instance.node_id])
        if instance.status != InstanceStatus.SOFT_DELETED:
            # Who is in the recycle bin stays there, whatever was done with it.
            instance.status = status
        instance.error_message = error_message
        instance.task_id = None
        instance.task_at = utc_now()
    session.add(instance)
