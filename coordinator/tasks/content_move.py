"""What an instance that is off consists of, copied from node to node: volumes, and its memory when it hibernates."""

from collections.abc import Sequence

from coordinator.agents.client import AgentCallError
from coordinator.agents.transfer import SAVED_MEMORY, VOLUME
from coordinator.domain.migration import MigrationNetwork, MigrationOptions
from coordinator.domain.unit import MIB
from coordinator.store.tables import Migration, Volume
from coordinator.tasks.instance_move import (
    hibernates,
    memory_transfer_id,
    read_migration,
    source_of,
    target_of,
    transfer_id,
)
from coordinator.tasks.model import StepContext, StepResult
from protos.agent.v1 import storage_pb2


async def copy_volume(context: StepContext, volume: Volume, transfer: str) -> None:
    """The volume is on the target, and its bytes are those of the source. May be repeated."""
    await _copy(context, volume.uuid, transfer, VOLUME)


async def copy_memory(context: StepContext) -> None:
    """The target, where the instance is defined, lets it go on from the memory that the source saved."""
    if hibernates(context.args):
        await _copy(context, context.args["uuid"], memory_transfer_id(context.args), SAVED_MEMORY)


async def check_memory(context: StepContext) -> StepResult:
    """A step: the target has room for the memory of an instance that hibernates, and the CPU that it needs."""
    if hibernates(context.args):
        migration = await read_migration(context)
        await _prepare(context, migration, context.args["uuid"], memory_transfer_id(context.args), SAVED_MEMORY)
    return StepResult()


async def cancel_volumes(context: StepContext, volumes: Sequence[Volume]) -> None:
    """Nothing of them is on its way; what has come is removed when the target is cleaned."""
    for place, volume in enumerate(volumes):
        await _cancel(context, volume.uuid, transfer_id(context.args, place))


async def cancel_memory(context: StepContext) -> StepResult:
    """The undoing of `copy_memory`."""
    if hibernates(context.args):
        await _cancel(context, context.args["uuid"], memory_transfer_id(context.args))
    return StepResult()


async def _prepare(
    context: StepContext, migration: Migration, uuid: str, transfer: str, content: storage_pb2.TransferContent
) -> storage_pb2.IncomingVolume:
    source, network = source_of(context), MigrationNetwork(migration.network)
    outgoing = await source.inspect_outgoing_volume(uuid, content)
    if context.args.get("isCpuTypeFree"):
        outgoing.cpu_xml = ""
    return await target_of(context).prepare_volume_receive(
        uuid,
        transfer,
        outgoing,
        network_role=network.role,
        tls=network.is_encrypted,
        source_node_id=source.node_id,
    )


async def _copy(context: StepContext, uuid: str, transfer: str, content: storage_pb2.TransferContent) -> None:
    migration, source = await read_migration(context), source_of(context)
    what = f"volume {uuid}" if content == VOLUME else "memory"
    incoming = await _prepare(context, migration, uuid, transfer, content)
    if not incoming.address:
        return  # it came before this step was taken over

    async def report(progress: storage_pb2.VolumeTransferProgress) -> None:
        percent = 100 * progress.done_bytes // max(progress.total_bytes, 1)
        told = f"{progress.done_bytes // MIB} of {progress.total_bytes // MIB} MiB"
        await context.report_progress(percent, f"{what}: {told}")

    outcome = await source.send_volume(
        uuid,
        transfer,
        incoming,
        tls=MigrationNetwork(migration.network).is_encrypted,
        bandwidth_mib_per_second=MigrationOptions(**migration.options).bandwidth_mib_per_second,
        content=content,
        on_progress=report,
    )
    if outcome.state != storage_pb2.VOLUME_TRANSFER_STATE_SENT:
        reason = outcome.reason or "given up by the node"
        raise AgentCallError("VolumeTransferFailed", f"{what}: {reason}", transient=False)
    await target_of(context).complete_volume_receive(uuid, transfer, outcome.sha256, content)


async def _cancel(context: StepContext, uuid: str, transfer: str) -> None:
    """A source that is away has nobody to send to then."""
    try:
        await source_of(context).cancel_volume_send(uuid, transfer)
    except AgentCallError as error:
        if error.code != "NodeAway":
            raise
