"""Moves an instance that is shut off to another node, with the data of its disks where the nodes share none."""

from sqlmodel import Session

from coordinator.agents.client import IMAGE_SECONDS, TRANSFER_SECONDS, AgentCallError
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.migration import MigrationNetwork, MigrationOptions
from coordinator.domain.unit import MIB
from coordinator.store.tables import Migration, Volume
from coordinator.tasks.blueprint import domain_spec
from coordinator.tasks.instance_move import (
    await_turn,
    change_node,
    check_move,
    ensure_image,
    ensure_ports,
    read_migration,
    settle_failed_cold_move,
    settle_move,
    source_of,
    target_blueprint,
    target_of,
    transfer_id,
)
from coordinator.tasks.instance_step import record_power_state, show_status
from coordinator.tasks.model import Step, StepContext, StepResult, TaskKind
from protos.agent.v1 import storage_pb2


async def copy_volumes(context: StepContext) -> StepResult:
    """A step: unless it shares them, the target has the volumes of the instance, which is off."""
    if context.args["sharesStorage"]:
        return StepResult()
    migration, blueprint = await read_migration(context), await target_blueprint(context)
    for place, volume in enumerate(blueprint.volumes):
        await _copy(context, migration, volume, transfer_id(context.args, place))
    return StepResult()


async def _copy(context: StepContext, migration: Migration, volume: Volume, transfer: str) -> None:
    """The volume is on the target, and its bytes are those of the source. May be repeated."""
    source, target, network = source_of(context), target_of(context), MigrationNetwork(migration.network)
    incoming = await target.prepare_volume_receive(
        volume.uuid,
        transfer,
        await source.inspect_outgoing_volume(volume.uuid),
        network_role=network.role,
        tls=network.is_encrypted,
        source_node_id=source.node_id,
    )
    if not incoming.address:
        return  # it came before this step was taken over

    async def report(progress: storage_pb2.VolumeTransferProgress) -> None:
        percent = 100 * progress.done_bytes // max(progress.total_bytes, 1)
        told = f"{progress.done_bytes // MIB} of {progress.total_bytes // MIB} MiB"
        await context.report_progress(percent, f"volume {volume.uuid}: {told}")

    outcome = await source.send_volume(
        volume.uuid,
        transfer,
        incoming,
        tls=network.is_encrypted,
        bandwidth_mib_per_second=MigrationOptions(**migration.options).bandwidth_mib_per_second,
        on_progress=report,
    )
    if outcome.state != storage_pb2.VOLUME_TRANSFER_STATE_SENT:
        reason = outcome.reason or "given up by the node"
        raise AgentCallError("VolumeTransferFailed", f"volume {volume.uuid}: {reason}", transient=False)
    await target.complete_volume_receive(volume.uuid, transfer, outcome.sha256)


async def stop_copying(context: StepContext) -> StepResult:
    """Its undoing.

    What has come is removed when the target is cleaned; a source that is away has nobody to send to then.
    """
    blueprint = await target_blueprint(context)
    for place, volume in enumerate(blueprint.volumes):
        if context.args["sharesStorage"]:
            break
        try:
            await source_of(context).cancel_volume_send(volume.uuid, transfer_id(context.args, place))
        except AgentCallError as error:
            if error.code != "NodeAway":
                raise
    return StepResult()


async def _define(context: StepContext) -> StepResult:
    blueprint = await target_blueprint(context)
    domain = await target_of(context).ensure_defined(domain_spec(blueprint, context.runtime))

    def apply(session: Session) -> None:
        change_node(session, context.args)
        record_power_state(context.args, domain)(session)

    return StepResult(apply=apply)


COLD_MIGRATE_INSTANCE = TaskKind(
    name="cold_migrate_instance",
    steps=(
        Step("await_turn", await_turn),
        Step(
            "ensure_image",
            ensure_image,
            before=show_status(InstanceStatus.MIGRATING),
            weight=4,
            timeout_seconds=IMAGE_SECONDS,
        ),
        Step("copy_volumes", copy_volumes, undo=stop_copying, weight=12, timeout_seconds=TRANSFER_SECONDS),
        Step("ensure_ports", ensure_ports),
        Step("define", _define),
    ),
    check=check_move,
    on_success=settle_move,
    on_failure=settle_failed_cold_move,
)
