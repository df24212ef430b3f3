"""Puts a running instance on its node's disk, with its memory: its next start lets it go on from there."""

from sqlmodel import Session

from coordinator.agents.transfer import TRANSFER_SECONDS
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.unit import MIB
from coordinator.errors import StatusUnsupported
from coordinator.store.queries.device_claim import list_claims_of
from coordinator.store.queries.volume_attachment import list_shared
from coordinator.tasks.instance_step import (
    Args,
    agent_of,
    blueprint_of,
    define_domain,
    is_being_deleted,
    load_instance,
    record_power_state,
    require_status,
    settle,
    settle_failure,
    show_status,
)
from coordinator.tasks.model import Step, StepContext, StepResult, TaskKind
from coordinator.tasks.volume_step import undo_unless_lost
from protos.agent.v1 import domain_pb2


async def _hibernate(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)

    async def report(progress: domain_pb2.HibernateProgress) -> None:
        percent = min(99, 100 * progress.done_bytes // max(progress.total_bytes, 1))
        told = f"{progress.done_bytes // MIB} of {progress.total_bytes // MIB} MiB of memory saved"
        await context.report_progress(percent, told)

    domain = await agent_of(context, blueprint).ensure_hibernated(blueprint.instance.uuid, report)
    return StepResult(apply=record_power_state(context.args, domain))


async def _wake(context: StepContext) -> StepResult:
    """The guest runs on, whether or not it was saved by then."""
    blueprint = await blueprint_of(context)
    if is_being_deleted(blueprint.instance):
        return StepResult()
    waking = agent_of(context, blueprint).cancel_hibernation(blueprint.instance.uuid)
    domain = await undo_unless_lost(context, blueprint.instance, waking)
    return StepResult(apply=record_power_state(context.args, domain)) if domain else StepResult()


def _check(session: Session, args: Args) -> None:
    instance = load_instance(session, args)
    require_status(instance, "hibernate", InstanceStatus.RUNNING)
    if shared := [volume.name for _, volume in list_shared(session, instance.id)]:
        # What others write meanwhile would not be what its memory knows of the disk when it goes on.
        raise StatusUnsupported(
            f"instance {instance.ecs_id} cannot hibernate: it shares volume {', '.join(shared)}, detach it first",
            f"实例{instance.ecs_id}无法休眠：挂载了共享云盘{'、'.join(shared)}，请先卸载",
        )
    if held := list_claims_of(session, [instance.uuid]).get(instance.uuid):
        names = [f"{claim.kind} {claim.device_id}" for claim in held]
        raise StatusUnsupported(
            f"instance {instance.ecs_id} cannot hibernate: the state of {', '.join(names)} cannot be saved",
            f"实例{instance.ecs_id}无法休眠：设备{'、'.join(names)}的状态无法保存",
        )


HIBERNATE_INSTANCE = TaskKind(
    name="hibernate_instance",
    steps=(
        # Also makes a domain persistent again that somebody undefined: nothing is kept of another one.
        Step("define", define_domain, before=show_status(InstanceStatus.HIBERNATING)),
        Step("hibernate", _hibernate, undo=_wake, weight=8, timeout_seconds=TRANSFER_SECONDS),
    ),
    check=_check,
    on_success=settle,
    on_failure=settle_failure,
)
