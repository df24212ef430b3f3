"""Moves a running instance to another node without its noticing.

The source's hypervisor moves it by itself; one step orders, watches and settles that. It never guesses: while the
source cannot be asked it waits, and once the source is given up the target decides, by being told to refuse the guest.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from sqlmodel import Session

from coordinator.agents.client import IMAGE_SECONDS, MIGRATION_SECONDS, AgentCallError
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.migration import MigrationNetwork, MigrationOptions
from coordinator.fencing.node import is_certainly_fenced
from coordinator.store.queries import instance as instance_query
from coordinator.store.tables import Node
from coordinator.tasks.blueprint import domain_spec
from coordinator.tasks.device_move import attach_devices, count_vgpus, detach_devices, movable_devices
from coordinator.tasks.instance_move import (
    NODES_LOST,
    await_turn,
    change_node,
    check_move,
    ensure_image,
    ensure_ports,
    ensure_volumes,
    read_migration,
    settle_failed_live_move,
    settle_move,
    source_of,
    target_blueprint,
    target_of,
)
from coordinator.tasks.instance_step import blueprint_of, load_instance, record_power_state, show_status
from coordinator.tasks.migration_progress import describe, percent_of
from coordinator.tasks.model import Step, StepCanceled, StepContext, StepResult, TaskKind
from coordinator.tasks.volume_place import choose_copied, read_copied
from protos.agent.v1 import domain_pb2, migration_pb2

# The guest is either here or there, which is found out however long it takes.
_SETTLE_SECONDS: Final = 7 * 24 * 3600.0
# Each call has a deadline of its own, and a guest may have many devices.
_EQUIP_SECONDS: Final = 24 * 3600.0
# A guest may boot at this moment, or be busy: then it lets go a little later.
_LET_GO_SECONDS: Final = 120.0
# The last part of a vGPU's state is moved while the guest is paused: within QEMU's 300 ms hardly any, and of a full one
# some GiB. Where nobody has said how long that may take, it may as long as anybody could have said.
_VGPU_DOWNTIME_MS: Final = 2000
_MOST_VGPU_DOWNTIME_MS: Final = 60_000
# Code of a blocker.
_DEVICE: Final = "host-device"
_BLOCKER_CODES: Final = {"iso": "ECS.OperationFailed.MigrateIso"}
_FAILED: Final = "ECS.OperationFailed.LiveMigrate"


async def _inspect(context: StepContext) -> StepResult:
    guest = await source_of(context).inspect_outgoing(context.args["uuid"])
    blockers = await _without_devices(context, guest.blockers)
    if blockers:
        code = _BLOCKER_CODES.get(blockers[0].code, _FAILED)
        raise AgentCallError(code, "; ".join(blocker.detail for blocker in blockers), transient=False)
    return StepResult({"machine": guest.machine, "cpuXml": guest.cpu_xml})


async def _without_devices(
    context: StepContext, blockers: Sequence[migration_pb2.MigrationBlocker]
) -> list[migration_pb2.MigrationBlocker]:
    """What keeps the guest there when it has given its movable devices back, and takes its vGPUs along."""
    devices, blueprint = sum(blocker.code == _DEVICE for blocker in blockers), await blueprint_of(context)
    if devices <= len(movable_devices(blueprint)) + count_vgpus(blueprint):
        return [blocker for blocker in blockers if blocker.code != _DEVICE]
    return list(blockers)


async def _make_way(context: StepContext) -> StepResult:
    """The last thing before the guest goes: what it has of the source's network cards and USB ports."""
    result = await ensure_ports(context)
    await detach_devices(await blueprint_of(context), source_of(context))
    return result


async def _give_back(context: StepContext) -> StepResult:
    return await attach_devices(context, await blueprint_of(context), source_of(context))


async def _equip(context: StepContext) -> StepResult:
    return await attach_devices(context, await blueprint_of(context), target_of(context))


async def _migrate(context: StepContext) -> StepResult:
    try:
        outcome = await _follow(context)
    except AgentCallError as error:
        if not await _is_given_up(context, error, "sourceNodeId"):
            raise
        return await _ask_target(context, f"the source is lost: {error.message}")
    match outcome.state:
        case migration_pb2.MIGRATION_STATE_COMPLETED:
            return await _arrive(context)
        case migration_pb2.MIGRATION_STATE_UNDECIDED:
            return await _ask_target(context, outcome.reason, resumes=True)
        case migration_pb2.MIGRATION_STATE_CANCELED if context.is_cancel_requested():
            raise StepCanceled
        case migration_pb2.MIGRATION_STATE_FAILED | migration_pb2.MIGRATION_STATE_CANCELED:
            raise AgentCallError(_FAILED, outcome.reason or "given up by the node", transient=False)
    raise AgentCallError("AgentCallFailed", "the migration is still under way", transient=True)


async def _follow(context: StepContext) -> migration_pb2.MigrationOutcome:
    """How it ended: it is begun unless it was before, and given up as soon as somebody wants that."""
    agent, uuid, migration_id = source_of(context), context.args["uuid"], context.args["migrationId"]
    # One that is not known there never begins.
    if context.is_cancel_requested() and (outcome := await _cancel(context)):
        return outcome

    async def watch(progress: migration_pb2.MigrationProgress) -> None:
        if context.is_cancel_requested() and not progress.HasField("outcome"):
            await _cancel(context)
        await context.report_progress(percent_of(progress), describe(progress))

    try:
        return await agent.migrate(migration_pb2.MigrateRequest(uuid=uuid, migration_id=migration_id), watch)
    except AgentCallError as error:
        if error.code != "MigrationNotFound":
            raise
    return await agent.migrate(await _make_order(context), watch)


async def _cancel(context: StepContext) -> migration_pb2.MigrationOutcome | None:
    """How it ended; None after the switch to post-copy, from which there is no way back: it goes on."""
    try:
        return await source_of(context).cancel_migration(context.args["uuid"], context.args["migrationId"])
    except AgentCallError as error:
        if error.code != "DomainStateConflict":
            raise
        return None


async def _make_order(context: StepContext) -> migration_pb2.MigrateRequest:
    """What the source is told. The target's part of it holds a secret, and is asked for instead of stored."""
    migration, blueprint = await read_migration(context), await target_blueprint(context)
    guest, network = context.results["inspect"], MigrationNetwork(migration.network)
    spec = _without_other_devices(domain_spec(blueprint, context.runtime))
    incoming = await target_of(context).prepare_incoming(
        migration_pb2.PrepareIncomingRequest(
            spec=spec,
            migration_id=migration.id,
            machine=guest["machine"],
            cpu_xml="" if context.args["isCpuTypeFree"] else guest["cpuXml"],
            network_role=network.role,
        )
    )
    options = MigrationOptions(**migration.options)
    copied = await read_copied(context, blueprint.volumes)
    return migration_pb2.MigrateRequest(
        uuid=context.args["uuid"],
        migration_id=migration.id,
        target=incoming,
        copied_volume_uuids=[volume.uuid for volume in copied],
        # What is encrypted leaves QEMU in the clear.
        tls=network.is_encrypted or any(volume.is_encrypted for volume in copied),
        bandwidth_mib_per_second=options.bandwidth_mib_per_second,
        max_downtime_ms=options.max_downtime_ms or (_VGPU_DOWNTIME_MS if spec.host_devices else 0),
        most_downtime_ms=_MOST_VGPU_DOWNTIME_MS if spec.host_devices and not options.max_downtime_ms else 0,
        auto_converge=options.auto_converge,
        # What is in a GPU cannot be fetched later.
        allow_post_copy=options.allow_post_copy and not spec.host_devices,
        multifd_channels=options.multifd_channels,
    )


def _without_other_devices(spec: domain_pb2.DomainSpec) -> domain_pb2.DomainSpec:
    """With its vGPUs alone: all others are plugged in when it is there."""
    vgpus = [device for device in spec.host_devices if device.vgpu_type_id]
    del spec.host_devices[:]
    spec.host_devices.extend(vgpus)
    return spec


async def _is_given_up(context: StepContext, error: AgentCallError, node: str) -> bool:
    """Whether it makes no sense to wait for that one of the two nodes: its lease is over, too."""

    def is_ready() -> bool:
        with context.runtime.database.read() as session:
            return session.get_one(Node, context.args[node]).ready

    return error.code == "NodeAway" and not await asyncio.to_thread(is_ready)


async def _ask_target(context: StepContext, reason: str, *, resumes: bool = False) -> StepResult:
    """The source cannot tell where the guest is. Unless it has come it is refused for good, and is the source's."""
    uuid = context.args["uuid"]
    try:
        await target_of(context).ensure_incoming_removed(uuid, context.args["migrationId"])
    except AgentCallError as error:
        if error.code == "MigrationCompleted":
            return await _arrive(context)
        if await asyncio.to_thread(_runs_nowhere, context):
            raise AgentCallError(NODES_LOST, "source and target are lost, and fenced", transient=False) from error
        raise
    if resumes:
        await _resume(context)
    raise AgentCallError(_FAILED, reason, transient=False)


def _runs_nowhere(context: StepContext) -> bool:
    """Whether both nodes are fenced, which counts for highly available guests, and any node has the disk as it was."""
    runtime, args = context.runtime, context.args
    with runtime.database.read() as session:
        instance = load_instance(session, args)
        if choose_copied(session, args, instance_query.list_volumes(session, instance)) or not instance.ha_enabled:
            return False
    return all(is_certainly_fenced(runtime, args[node]) for node in ("sourceNodeId", "targetNodeId"))


async def _resume(context: StepContext) -> None:
    """The guest, paused at the cut-over, runs on; one that is off, because its node went down, stays so for now."""
    try:
        await source_of(context).ensure_resumed(context.args["uuid"])
    except AgentCallError as error:
        if error.code != "DomainStateConflict":
            raise


async def _arrive(context: StepContext) -> StepResult:
    """The guest is on the target: so is the instance, even if that was lost at once and tells more when it is back."""
    domain = domain_pb2.Domain(power_state=domain_pb2.POWER_STATE_RUNNING)
    try:
        domain = await target_of(context).get_domain(context.args["uuid"])
    except AgentCallError as error:
        if not await _is_given_up(context, error, "targetNodeId"):
            raise

    def apply(session: Session) -> None:
        change_node(session, context.args)
        record_power_state(context.args, domain)(session)

    return StepResult(apply=apply)


LIVE_MIGRATE_INSTANCE = TaskKind(
    name="live_migrate_instance",
    steps=(
        Step("await_turn", await_turn),
        Step("inspect", _inspect, before=show_status(InstanceStatus.MIGRATING)),
        Step("ensure_image", ensure_image, weight=4, timeout_seconds=IMAGE_SECONDS),
        Step("ensure_volumes", ensure_volumes),
        Step("ensure_ports", _make_way, undo=_give_back, retry_seconds=_LET_GO_SECONDS),
        Step(
            "migrate",
            _migrate,
            weight=12,
            timeout_seconds=MIGRATION_SECONDS,
            retry_seconds=_SETTLE_SECONDS,
            settles_cancellation=True,
        ),
        # Named as in tasks of earlier releases, which are gone on with.
        Step("attach_functions", _equip, timeout_seconds=_EQUIP_SECONDS),
    ),
    check=check_move,
    on_success=settle_move,
    on_failure=settle_failed_live_move,
)
