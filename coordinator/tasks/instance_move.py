"""What the steps of all moves of instances share: the target's side, the change of the node, and what follows it.

Until an instance is on the target it holds the target's resources in the name of its migration. Nothing is undone on
a node: which one has to be cleaned is known at the end, and a task of its own does it, however long the node is away.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlmodel import Session

from coordinator.agents.client import AgentClient
from coordinator.domain.clock import utc_now
from coordinator.domain.migration import MigrationState
from coordinator.domain.space import find_pool, pools_by_type
from coordinator.domain.volume import LOCAL_BACKENDS, VolumeBackend
from coordinator.placement.claim import release
from coordinator.store.queries import instance as instance_query
from coordinator.store.queries import migration as migration_query
from coordinator.store.queries.device_claim import hand_claims_over
from coordinator.store.queries.migration_setting import read_migration_settings
from coordinator.store.queries.placement import advance_generations
from coordinator.store.queries.storage import advance_pools, release_space, reserve_space
from coordinator.store.queries.volume_attachment import list_shared
from coordinator.store.tables import Instance, Migration, Node, Volume
from coordinator.tasks.blueprint import Blueprint, image_ref, port_message, read_blueprint, volume_size_bytes
from coordinator.tasks.instance_step import Args, ensure_media, load_instance, settle, settle_failure
from coordinator.tasks.model import Failure, StepContext, StepDeferred, StepResult
from coordinator.tasks.remains import Remains, submit_cleaning
from coordinator.tasks.volume_place import choose_copied, find_copied, read_copied
from protos.agent.v1 import storage_pb2

# Code of a failure: source and target were lost while the guest was on its way, and are fenced.
NODES_LOST: Final = "NodesLost"
# Those that wait for their turn are told when another has ended; this is for the turns that nobody told of.
_LOOK_AGAIN_SECONDS: Final = 15.0


async def read_migration(context: StepContext) -> Migration:
    """The migration of this task, as stored."""

    def read() -> Migration:
        with context.runtime.database.read() as session:
            return migration_query.get_migration(session, context.args["migrationId"])

    return await asyncio.to_thread(read)


async def target_blueprint(context: StepContext) -> Blueprint:
    """The instance as it shall be on the target: with the cells that are its there."""

    def read() -> Blueprint:
        with context.runtime.database.read() as session:
            return read_blueprint(session, context.args, context.args["migrationId"])

    return await asyncio.to_thread(read)


def source_of(context: StepContext) -> AgentClient:
    """The agent of the node that is left."""
    return context.runtime.agents.of(context.args["sourceNodeId"])


def target_of(context: StepContext) -> AgentClient:
    """The agent of the node that the instance goes to."""
    return context.runtime.agents.of(context.args["targetNodeId"])


async def await_turn(context: StepContext) -> StepResult:
    """A step: the migration is one of those that may be under way now. StepDeferred while it is not."""

    def take() -> str:
        with context.runtime.database.write() as session:
            migration = migration_query.get_migration(session, context.args["migrationId"])
            if migration.state == MigrationState.RUNNING:
                return ""
            limit = read_migration_settings(session).migrate_limit
            per_node = context.runtime.settings.migrations_per_node
            return migration_query.take_turn(session, migration, context.runtime.now(), limit, per_node)

    reason = await asyncio.to_thread(take)
    if reason:
        raise StepDeferred(reason, _LOOK_AGAIN_SECONDS)
    await find_copied(context)
    return StepResult()


async def ensure_image(context: StepContext) -> StepResult:
    """A step: the images that its disks stand on are on the target, and what is in the optical drives."""
    blueprint = await target_blueprint(context)

    async def report(progress: storage_pb2.ImageProgress) -> None:
        percent = 100 * progress.done_bytes // max(progress.total_bytes, 1)
        await context.report_progress(percent, f"image: {progress.done_bytes} of {progress.total_bytes} bytes")

    for image in blueprint.images.values():
        await target_of(context).ensure_image_cached(image_ref(image), report)
    await ensure_media(target_of(context), blueprint)
    return StepResult()


async def ensure_volumes(context: StepContext) -> StepResult:
    """A step: the target has volumes like the instance's, without what was written to them."""
    blueprint = await target_blueprint(context)
    for volume in await read_copied(context, blueprint.volumes):
        image = blueprint.image_below(volume)
        await target_of(context).ensure_volume(
            *(volume.uuid, volume_size_bytes(volume), volume.volume_type, image), encrypted=volume.is_encrypted
        )
    return StepResult()


async def ensure_ports(context: StepContext) -> StepResult:
    """A step: the target knows the addresses of the instance."""
    blueprint = await target_blueprint(context)
    for port, subnet in blueprint.ports:
        await target_of(context).ensure_port(port_message(blueprint, port, subnet))
    return StepResult()


def change_node(session: Session, args: Args) -> Instance:
    """The instance is on the target: it holds there what its migration held, and nothing on the source any more.

    Devices of the source are its migration's until that is clean: nobody else gets one that was not given back.
    """
    instance, migration_id = load_instance(session, args), args["migrationId"]
    source_id, target_id = args["sourceNodeId"], args["targetNodeId"]
    # Both in one order: two instances that change places at once would wait for each other.
    advance_generations(session, {source_id, target_id})
    hand_claims_over(session, instance.uuid, migration_id, source_id)
    release(session, [instance.uuid])
    migration_query.rename_consumer(session, migration_id, instance.uuid, target_id)
    instance.node_id, instance.rp_id = target_id, args["poolId"]
    volumes = instance_query.list_volumes(session, instance)
    _move_space(session, args, volumes)
    for volume in volumes:
        volume.node_id = target_id
        # What was a logical volume is what its type is mapped to there.
        if volume.backend in LOCAL_BACKENDS:
            volume.backend = VolumeBackend.UNKNOWN
        session.add(volume)
    for _, volume in list_shared(session, instance.id):
        # Both nodes have it: that one of its instances' nodes is asked to change it.
        volume.node_id = target_id
        session.add(volume)
    session.add(instance)
    session.flush()
    _end(session, args, MigrationState.COMPLETED, "", _remains(session, instance, args, source_id))
    return instance


def _move_space(session: Session, args: Args, volumes: Sequence[Volume]) -> None:
    """The volumes take their space on the target; that on the source is the migration's until the source is clean."""
    migration_id, pools = args["migrationId"], pools_by_type(session.get_one(Node, args["targetNodeId"]).storages)
    release_space(session, [migration_id])
    left: Counter[str] = Counter()
    for volume in choose_copied(session, args, volumes):
        left[volume.storage_pool_id or ""] += volume.size_gib
        volume.storage_pool_id = find_pool(pools, volume.volume_type) or None
    left.pop("", None)
    advance_pools(session, left)
    reserve_space(session, migration_id, left)


def check_move(session: Session, args: Args) -> None:
    """A kind's `check`: what there is to check needs the claim, and was looked at by the service."""
    load_instance(session, args)


def settle_move(session: Session, args: Args) -> None:
    """`on_success`: the instance rests on the target."""
    settle(session, args)
    migration_query.nudge_waiting(session)


def settle_failed_live_move(session: Session, args: Args, failure: Failure) -> None:
    """`on_failure`: the instance rests where it was, and the target is rid of a guest that has not come.

    Where both nodes were lost it is not known whether it has: whatever is there goes.
    """
    _settle_failure(session, args, failure, is_incoming=failure.code != NODES_LOST)


def settle_failed_cold_move(session: Session, args: Args, failure: Failure) -> None:
    """`on_failure`: the instance rests where it was, and the target is rid of a definition that never ran."""
    _settle_failure(session, args, failure, is_incoming=False)


def transfer_id(args: Args, position: int) -> str:
    """Names the copying of the instance's volume at that place."""
    return f"{args['migrationId']}-{position}"


def hibernates(args: Args) -> bool:
    """Whether the instance's memory goes with it."""
    return bool(args.get("hibernates"))


def memory_transfer_id(args: Args) -> str:
    """Names the copying of the instance's memory."""
    return f"{args['migrationId']}-memory"


def _settle_failure(session: Session, args: Args, failure: Failure, *, is_incoming: bool) -> None:
    instance = load_instance(session, args)
    state = MigrationState.CANCELED if failure.canceled else MigrationState.FAILED
    remains = _remains(session, instance, args, args["targetNodeId"])
    transfers = [] if is_incoming else [transfer_id(args, place) for place in range(len(remains.volume_uuids))]
    memory = memory_transfer_id(args) if hibernates(args) else ""
    remains = replace(remains, is_incoming=is_incoming, transfer_ids=transfers, memory_transfer_id=memory)
    _end(session, args, state, "canceled on request" if failure.canceled else failure.message, remains)
    settle_failure(session, args, failure)
    migration_query.nudge_waiting(session)


def _end(session: Session, args: Args, state: MigrationState, reason: str, remains: Remains) -> None:
    migration = migration_query.get_migration(session, args["migrationId"])
    migration.state, migration.reason, migration.finished_at = state, reason, utc_now()
    earlier = migration_query.find_cleaning(session, migration.instance_id, remains.node_id)
    migration.cleaning_id = submit_cleaning(session, remains, after_task_id=earlier)
    session.add(migration)


def _remains(session: Session, instance: Instance, args: Mapping[str, Any], node_id: str) -> Remains:
    # What both nodes share belongs to the instance, wherever it is.
    volumes = choose_copied(session, args, instance_query.list_volumes(session, instance))
    return Remains(
        ecs_id=instance.ecs_id,
        uuid=instance.uuid,
        migration_id=args["migrationId"],
        node_id=node_id,
        is_incoming=False,
        volume_uuids=[volume.uuid for volume in volumes],
        port_ids=[port.id for port, _ in instance_query.list_ports(session, instance)],
    )
