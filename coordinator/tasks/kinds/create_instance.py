"""Makes an instance real on the node that was claimed for it."""

from collections.abc import Callable, Iterable, Mapping

from sqlmodel import Session

from coordinator.agents.client import IMAGE_SECONDS, AgentClient
from coordinator.agents.device import RELEASE_SECONDS
from coordinator.agents.snapshot import COPY_SECONDS
from coordinator.domain.instance import InstanceStatus, PowerState
from coordinator.domain.iso import IsoState
from coordinator.placement.claim import release
from coordinator.store.queries import instance as instance_query
from coordinator.store.queries.iso import delete_isos, list_isos
from coordinator.store.tables.volume import Volume
from coordinator.tasks.blueprint import domain_spec, image_ref, port_message, volume_size_bytes
from coordinator.tasks.host_device import release_devices
from coordinator.tasks.instance_step import (
    Args,
    agent_of,
    blueprint_of,
    load_instance,
    record_power_state,
    rest,
    settle,
    show_status,
)
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.volume_step import record_backends
from protos.agent.v1 import storage_pb2

_PROVISIONING = show_status(InstanceStatus.PROVISIONING)
_STATUS_AFTER_STEP = {
    "ensure_image": InstanceStatus.ERR_IMAGE_PULL,
    "ensure_volumes": InstanceStatus.DATA_VOLUME_ERROR,
    "take_snapshot": InstanceStatus.DATA_VOLUME_ERROR,
    "copy_volumes": InstanceStatus.DATA_VOLUME_ERROR,
}


async def _ensure_image(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)

    async def report(progress: storage_pb2.ImageProgress) -> None:
        percent = 100 * progress.done_bytes // max(progress.total_bytes, 1)
        await context.report_progress(percent, f"image: {progress.done_bytes} of {progress.total_bytes} bytes")

    for image in (*blueprint.images.values(), *(image for _, image in blueprint.isos)):
        await agent_of(context, blueprint).ensure_image_cached(image_ref(image), report)
    return StepResult()


async def _ensure_volumes(context: StepContext) -> StepResult:
    blueprint, made = await blueprint_of(context), []
    for volume in blueprint.volumes:
        if origin := context.args.get("origins", {}).get(volume.uuid):
            made.append(await _copy_volume(context, agent_of(context, blueprint), volume, origin))
            continue
        image = blueprint.image_below(volume)
        making = agent_of(context, blueprint).ensure_volume(
            *(volume.uuid, volume_size_bytes(volume), volume.volume_type, image), encrypted=volume.is_encrypted
        )
        made.append(await making)
    return StepResult(apply=record_volumes(context.args, made))


def record_volumes(args: Args, made: Iterable[storage_pb2.Volume]) -> Callable[[Session], None]:
    """A step's `apply`: the instance's volumes are on its node, which has told of them."""

    def apply(session: Session) -> None:
        instance = load_instance(session, args)
        for volume in instance_query.list_volumes(session, instance):
            volume.status = "inUse"
            volume.node_id = instance.node_id
            session.add(volume)
        record_backends(session, made)

    return apply


async def _copy_volume(
    context: StepContext, agent: AgentClient, volume: Volume, origin: Mapping[str, str]
) -> storage_pb2.Volume:
    """The volume is a copy of another one, or of its snapshot, as `args["origins"]` say by the volume's UUID."""

    async def report(progress: storage_pb2.VolumeCopyProgress) -> None:
        await context.report_progress(min(99, progress.percent), f"copying {volume.name}: {progress.percent} %")

    return await agent.ensure_volume_copied(
        volume.uuid,
        volume_size_bytes(volume),
        volume.volume_type,
        origin_uuid=origin["volumeUuid"],
        snapshot_id=origin["snapshotId"],
        on_progress=report,
    )


async def _remove_volumes(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    for volume in blueprint.volumes:
        await agent_of(context, blueprint).ensure_volume_removed(volume.uuid)
    return StepResult()


async def _ensure_ports(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    for port, subnet in blueprint.ports:
        await agent_of(context, blueprint).ensure_port(port_message(blueprint, port, subnet))
    return StepResult()


async def _remove_ports(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    for port, _ in blueprint.ports:
        await agent_of(context, blueprint).ensure_port_removed(port.id)
    return StepResult()


async def _define(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    domain = await agent_of(context, blueprint).ensure_defined(domain_spec(blueprint, context.runtime))

    def apply(session: Session) -> None:
        record_power_state(context.args, domain)(session)
        for attachment, _ in list_isos(session, blueprint.instance.id):
            attachment.state = IsoState.ATTACHED
            session.add(attachment)

    return StepResult(apply=apply)


async def _remove_domain(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    agent = agent_of(context, blueprint)
    await agent.ensure_removed(blueprint.instance.uuid)
    if blueprint.devices:
        await release_devices(context, agent, blueprint.instance.uuid)
    return StepResult()


async def _start(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    domain = await agent_of(context, blueprint).ensure_running(blueprint.instance.uuid)
    return StepResult(apply=record_power_state(context.args, domain))


def _check(session: Session, args: Args) -> None:
    # The order was checked in full by the service, in this same transaction.
    load_instance(session, args)


def let_go(session: Session, args: Args, failure: Failure) -> None:
    """After the undoing: nothing is held any more, and the instance stays visible with the reason."""
    instance = load_instance(session, args)
    for volume in instance_query.list_volumes(session, instance):
        session.delete(volume)
    for port, _ in instance_query.list_ports(session, instance):
        session.delete(port)
    delete_isos(session, instance.id)
    release(session, [instance.uuid])
    instance.node_id = None
    instance.power_state = PowerState.NONE
    status = (
        InstanceStatus.UNKNOWN if failure.canceled else _STATUS_AFTER_STEP.get(failure.step, InstanceStatus.UNKNOWN)
    )
    rest(session, instance, status, "canceled" if failure.canceled else failure.message)


# What was fetched stays in the node's cache: it harms nobody and serves the next instance.
ENSURE_IMAGE = Step(
    "ensure_image",
    _ensure_image,
    before=show_status(InstanceStatus.PROVISIONING),
    weight=6,
    timeout_seconds=IMAGE_SECONDS,
)
# What follows once its volumes are there.
REALIZE_STEPS = (
    Step("ensure_ports", _ensure_ports, undo=_remove_ports),
    # Its undoing may wipe disks; the calls of defining have deadlines of their own.
    Step("define", _define, undo=_remove_domain, timeout_seconds=RELEASE_SECONDS),
    # Removing the domain, one step back, also ends a guest that was just started.
    Step("start", _start, before=show_status(InstanceStatus.STARTING)),
)

CREATE_INSTANCE = TaskKind(
    name="create_instance",
    steps=(
        ENSURE_IMAGE,
        # Those that are copied take as long as the disk does.
        Step("ensure_volumes", _ensure_volumes, undo=_remove_volumes, weight=2, timeout_seconds=COPY_SECONDS),
        *REALIZE_STEPS,
    ),
    check=_check,
    on_success=settle,
    on_failure=let_go,
)
