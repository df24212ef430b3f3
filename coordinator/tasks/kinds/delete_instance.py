"""Takes an instance away with everything that it holds."""

from sqlmodel import Session

from coordinator.agents.device import RELEASE_SECONDS
from coordinator.domain.clock import utc_now
from coordinator.domain.instance import InstanceStatus, PowerState, status_of
from coordinator.placement.claim import release
from coordinator.store.queries import instance as instance_query
from coordinator.store.queries.iso import delete_isos
from coordinator.store.queries.ssh_key import delete_bindings
from coordinator.tasks.host_device import release_devices
from coordinator.tasks.instance_step import Args, agent_of, blueprint_of, forget_secrets, load_instance
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.volume_step import goes_with_instance, set_free

# A node may stay away for days; what it holds of the instance is removed when it comes back.
RETRY_SECONDS = 7 * 24 * 3600.0


def _mark_terminating(session: Session, args: Args) -> None:
    instance = load_instance(session, args)
    instance.status = InstanceStatus.TERMINATING
    session.add(instance)


async def _remove_domain(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    # Without a node nothing was made: the creation that came before failed or was cancelled, and undid itself.
    if blueprint.instance.node_id:
        agent = agent_of(context, blueprint)
        await agent.ensure_removed(blueprint.instance.uuid)
        if blueprint.devices:
            await release_devices(context, agent, blueprint.instance.uuid)
    return StepResult()


async def _remove_volumes(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    for volume in blueprint.volumes:
        if goes_with_instance(volume) and blueprint.instance.node_id:
            await agent_of(context, blueprint).ensure_volume_removed(volume.uuid)

    def apply(session: Session) -> None:
        for volume in instance_query.list_volumes(session, load_instance(session, context.args)):
            if goes_with_instance(volume):
                session.delete(volume)
            else:
                # Its data stays on the node, for the next instance that attaches it there.
                set_free(session, volume)

    return StepResult(apply=apply)


async def _remove_ports(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    for port, _ in blueprint.ports:
        if blueprint.instance.node_id:
            await agent_of(context, blueprint).ensure_port_removed(port.id)

    def apply(session: Session) -> None:
        for port, _ in instance_query.list_ports(session, load_instance(session, context.args)):
            session.delete(port)

    return StepResult(apply=apply)


async def _release(context: StepContext) -> StepResult:
    def apply(session: Session) -> None:
        release(session, [load_instance(session, context.args).uuid])

    return StepResult(apply=apply)


def _check(session: Session, args: Args) -> None:
    load_instance(session, args)


def _mark_deleted(session: Session, args: Args) -> None:
    instance = load_instance(session, args)
    instance.deleted_at = instance.task_at = utc_now()
    instance.task_id = None
    instance.node_id = None
    instance.power_state = PowerState.ABSENT
    forget_secrets(instance)
    delete_bindings(session, instance.id)
    delete_isos(session, instance.id)
    session.add(instance)


def _show_reason(session: Session, args: Args, failure: Failure) -> None:
    """A deletion that was cancelled in time changed nothing; one that failed is to be asked for again."""
    instance = load_instance(session, args)
    if failure.canceled:
        instance.status = status_of(PowerState(instance.power_state))
    instance.error_message = "deletion canceled" if failure.canceled else failure.message
    instance.task_id = None
    instance.task_at = utc_now()
    session.add(instance)


DELETE_INSTANCE = TaskKind(
    name="delete_instance",
    steps=(
        # There is no way back from a removed disk, and half an instance helps nobody: once begun it goes through.
        Step(
            "remove_domain",
            _remove_domain,
            before=_mark_terminating,
            weight=3,
            timeout_seconds=RELEASE_SECONDS,
            point_of_no_return=True,
        ),
        Step("remove_volumes", _remove_volumes, point_of_no_return=True),
        Step("remove_ports", _remove_ports, point_of_no_return=True),
        Step("release", _release, point_of_no_return=True),
    ),
    check=_check,
    on_success=_mark_deleted,
    on_failure=_show_reason,
    retry_seconds=RETRY_SECONDS,
)
