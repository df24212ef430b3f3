"""Moving instances to other nodes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

import structlog
from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.listing import Listing, Page
from coordinator.domain.message import Message
from coordinator.domain.migration import MigrationOptions, MigrationState, MigrationType, MigrationWish
from coordinator.domain.placement import HostView, PlacementRequest
from coordinator.errors import CoordinatorError, ParameterInvalid, ResourceNotFound, StatusUnsupported, TargetUnsuitable
from coordinator.placement.claim import claim
from coordinator.placement.summary import summarize
from coordinator.runtime import Runtime
from coordinator.services.device_tie import require_movable
from coordinator.services.instance import check_batch, find_own
from coordinator.services.instance_placement import make_requests
from coordinator.services.instance_task import begin_task, require_unlocked
from coordinator.services.vgpu_obstacle import explain_vgpus
from coordinator.services.volume_space import keep_near
from coordinator.store.queries import migration as queries
from coordinator.store.queries.deployment_set import lock_set
from coordinator.store.queries.instance import list_volumes
from coordinator.store.queries.migration_setting import read_migration_settings
from coordinator.store.queries.node import find_nodes_by_name
from coordinator.store.queries.volume_attachment import list_shared
from coordinator.store.tables import Instance, Migration, Node
from coordinator.tasks.instance_step import require_status
from coordinator.tasks.kinds.cold_migrate_instance import COLD_MIGRATE_INSTANCE
from coordinator.tasks.kinds.live_migrate_instance import LIVE_MIGRATE_INSTANCE
from coordinator.tasks.kinds.recover_instance import RECOVER_INSTANCE
from coordinator.tasks.model import TaskKind
from coordinator.tasks.submission import request_cancel

_KINDS: Final[dict[MigrationType, TaskKind]] = {
    MigrationType.LIVE: LIVE_MIGRATE_INSTANCE,
    MigrationType.COLD: COLD_MIGRATE_INSTANCE,
    MigrationType.RECOVERY: RECOVER_INSTANCE,
}
_ADMITTED: Final = {
    MigrationType.LIVE: (InstanceStatus.RUNNING, InstanceStatus.PAUSED),
    MigrationType.COLD: (InstanceStatus.STOPPED, InstanceStatus.HIBERNATED),
    MigrationType.RECOVERY: (InstanceStatus.UNKNOWN,),
}

# Security types without anything that the node keeps beside the disks.
_WITHOUT_STATE: Final = ("", "none")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MigrationView:
    """A move of an instance, as people follow it."""

    migration_id: str
    type: MigrationType
    state: MigrationState
    source_node: str
    target_node: str
    network: str
    operation_id: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class WishResult:
    """What became of one wish of a batch: the operation, or why there is none."""

    ecs_id: str
    operation_id: str = ""
    error: CoordinatorError | None = None


def migrate_instance(
    runtime: Runtime, caller: Caller, kind: MigrationType, wish: MigrationWish, options: MigrationOptions
) -> str:
    """Moves an instance to the node that is named, or to the best one; answers the operation id.

    The place on the target is taken at once. TargetUnsuitable tells why there is none, StatusUnsupported what keeps
    the instance; the move itself begins when its turn comes.
    """
    with runtime.database.write() as session:
        migration = begin_migration(session, runtime, caller, kind, wish, options)
    runtime.wake_tasks()
    return migration.operation_id


def begin_migration(
    session: Session,
    runtime: Runtime,
    caller: Caller,
    kind: MigrationType,
    wish: MigrationWish,
    options: MigrationOptions,
) -> Migration:
    """Takes the place on the target and submits the move, in the caller's transaction; see `migrate_instance`."""
    instance = find_own(session, caller, wish.ecs_id)
    _check(instance, kind)
    require_movable(session, instance, kind)
    if instance.deployment_set:
        lock_set(session, instance.deployment_set)
    migration_id = runtime.identifiers.new_uuid()
    target, pool_id = _claim_target(session, runtime, instance, kind, wish, migration_id)
    # Hosts are locked before instances, everywhere. It may have changed until now.
    session.refresh(instance, with_for_update=True)
    _check(instance, kind)
    require_movable(session, instance, kind)
    migration, args = make_move(session, runtime, instance, kind, migration_id, target, options)
    # What an earlier move left there is removed first.
    cleaning = queries.find_cleaning(session, instance.id, target.node_id)
    migration.operation_id = begin_task(
        session, runtime, caller, _KINDS[kind], instance, args={**args, "poolId": pool_id}, after_task_id=cleaning
    )
    session.add(migration)
    log.info("migration.accepted", ecsId=instance.ecs_id, target=target.name, operationId=migration.operation_id)
    return migration


def make_move(
    session: Session,
    runtime: Runtime,
    instance: Instance,
    kind: MigrationType,
    migration_id: str,
    target: HostView,
    options: MigrationOptions,
) -> tuple[Migration, dict[str, Any]]:
    """The row of a move whose place on the target is claimed, not yet stored; and what its task is told of it."""
    settings = read_migration_settings(session)
    assert instance.id is not None  # noqa: S101 - it was read from the database
    assert instance.node_id is not None  # noqa: S101 - checked
    migration = Migration(
        id=migration_id,
        instance_id=instance.id,
        type=kind,
        state=MigrationState.WAITING,
        source_node_id=instance.node_id,
        target_node_id=target.node_id,
        network=options.network or settings.network,
        created_at=runtime.now(),
        options=asdict(replace(options, network=None)),
    )
    return migration, {
        "migrationId": migration_id,
        "uuid": instance.uuid,
        "sourceNodeId": instance.node_id,
        "targetNodeId": target.node_id,
        "isCpuTypeFree": settings.is_cpu_type_free,
        "hibernates": instance.status == InstanceStatus.HIBERNATED,
    }


def migrate_batch(
    runtime: Runtime,
    caller: Caller,
    kind: MigrationType,
    wishes: Sequence[MigrationWish],
    options: MigrationOptions,
) -> list[WishResult]:
    """Moves several instances, each by itself: one that cannot move keeps no other from it.

    Raises what is wrong with the first one only when none of them moves.
    """
    if len(check_batch([wish.ecs_id for wish in wishes])) < len(wishes):
        raise ParameterInvalid("migrations", "names an instance twice", "同一实例重复出现")
    results = [_try(runtime, caller, kind, wish, options) for wish in wishes]
    errors = [result.error for result in results if result.error]
    if len(errors) == len(results):
        raise errors[0]
    return results


def cancel_live_migration(runtime: Runtime, caller: Caller, ecs_id: str) -> str:
    """Asks for the end of the instance's live migration; the guest goes on where it is. Answers its operation.

    StatusUnsupported when it is in none.
    """
    with runtime.database.write() as session:
        instance = find_own(session, caller, ecs_id)
        require_unlocked(instance)
        migration = queries.find_active(session, instance.id, MigrationType.LIVE)
        if migration is None or not request_cancel(session, migration.operation_id):
            raise StatusUnsupported(f"instance {ecs_id} is in no live migration", f"实例{ecs_id}没有正在进行的热迁移")
    runtime.wake_tasks()
    return migration.operation_id


def list_migrations(runtime: Runtime, caller: Caller, ecs_id: str, page: Page) -> Listing[MigrationView]:
    """A page of the moves of an instance, the newest first."""
    with runtime.database.read() as session:
        instance = find_own(session, caller, ecs_id)
        rows, total = queries.list_migrations_of(session, instance.id, page)
    return Listing(tuple(_view(migration, source, target) for migration, source, target in rows), total)


def _try(
    runtime: Runtime, caller: Caller, kind: MigrationType, wish: MigrationWish, options: MigrationOptions
) -> WishResult:
    try:
        return WishResult(wish.ecs_id, migrate_instance(runtime, caller, kind, wish, options))
    except CoordinatorError as error:
        return WishResult(wish.ecs_id, error=error)


def _claim_target(
    session: Session,
    runtime: Runtime,
    instance: Instance,
    kind: MigrationType,
    wish: MigrationWish,
    migration_id: str,
) -> tuple[HostView, str]:
    """The node, on which the migration holds what the instance needs; and the pool that it is in there."""
    _check_node_name(session, instance, wish.node_name)
    is_free = read_migration_settings(session).is_cpu_type_free
    (request,) = make_requests(session, [instance], kind, is_cpu_type_free=is_free)
    consumers = tuple(replace(consumer, uuid=migration_id) for consumer in request.consumers)
    request = replace(request, consumers=consumers, node_name=wish.node_name)
    if kind is MigrationType.RECOVERY:
        request = _keep_near(session, instance, request)
    decision = claim(session, runtime.hosts, request)
    if not decision.placed:
        raise _refuse(session, instance, kind, wish, summarize(decision))
    host = decision.assignments[0].host
    return host, host.pool_id if request.pool_ids else ""


def _refuse(
    session: Session, instance: Instance, kind: MigrationType, wish: MigrationWish, summary: Message
) -> TargetUnsuitable:
    vgpus = explain_vgpus(session, instance, wish.node_name) if kind is MigrationType.LIVE else None
    if vgpus is None:
        return TargetUnsuitable(summary.en, summary.zh)
    return TargetUnsuitable(f"{summary.en}; {vgpus.en}", f"{summary.zh}；{vgpus.zh}")


def _keep_near(session: Session, instance: Instance, request: PlacementRequest) -> PlacementRequest:
    """For hosts that have its disks: what the lost node had on disks of its own cannot be had elsewhere."""
    node = session.get_one(Node, instance.node_id)
    volumes = [*list_volumes(session, instance), *(volume for _, volume in list_shared(session, instance.id))]
    near = keep_near(session, request, node.id, volumes)
    if near is None:
        raise TargetUnsuitable(
            f"it is not known that another node shares the disks of node {node.name}",
            f"尚未确认有其他节点与节点{node.name}共享磁盘",
        )
    return near


def _check_node_name(session: Session, instance: Instance, node_name: str) -> None:
    if not node_name:
        return
    found = find_nodes_by_name(session, [node_name])
    if not found:
        raise ResourceNotFound("node", node_name)
    if any(node.id == instance.node_id for node in found):
        raise ParameterInvalid("nodeName", f"the instance is on {node_name} already", f"实例已在{node_name}上")


def _check(instance: Instance, kind: MigrationType) -> None:
    # A lock keeps people from changing an instance, and shall not keep it down.
    if kind is not MigrationType.RECOVERY:
        require_unlocked(instance)
    require_status(instance, f"migrate {kind}", *_ADMITTED[kind])
    if instance.node_id is None:
        raise StatusUnsupported(f"instance {instance.ecs_id} is on no node", f"实例{instance.ecs_id}不在任何节点上")
    if kind is MigrationType.COLD:
        require_stateless(instance)


def require_stateless(instance: Instance) -> None:
    """StatusUnsupported for an instance of which its node keeps more than its disks while it is off."""
    if instance.security_type not in _WITHOUT_STATE:
        raise StatusUnsupported(
            f"instance {instance.ecs_id}: its TPM and firmware variables only move while it runs: migrate it live",
            f"实例{instance.ecs_id}：TPM和固件变量仅能在运行时迁移，请使用热迁移",
        )


def _view(migration: Migration, source: str, target: str) -> MigrationView:
    return MigrationView(
        migration_id=migration.id,
        type=migration.type,
        state=migration.state,
        source_node=source,
        target_node=target,
        network=migration.network,
        operation_id=migration.operation_id,
        created_at=migration.created_at,
        started_at=migration.started_at,
        finished_at=migration.finished_at,
        reason=migration.reason,
    )
