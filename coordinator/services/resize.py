"""Other sizes for instances: on their node where it has room, else on another one.

What an instance has it keeps until the new size is in effect; what that needs more is claimed beside it.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import structlog
from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.device_order import ExtraDevices
from coordinator.domain.growth import Room, make_room
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.instance_order import InstanceOrder
from coordinator.domain.message import Message
from coordinator.domain.migration import MigrationOptions, MigrationType
from coordinator.domain.placement import Consumer, PlacementRequest, ResourceClass
from coordinator.domain.resize import ResizeOrder
from coordinator.domain.space import sum_space
from coordinator.errors import ParameterInvalid, ResizeImpossible, StatusUnsupported, TargetUnsuitable
from coordinator.placement.claim import claim, release
from coordinator.placement.summary import summarize
from coordinator.runtime import Runtime
from coordinator.services.device_tie import find_ties
from coordinator.services.elastic_disk import elastic_disks_of
from coordinator.services.instance import find_own
from coordinator.services.instance_device import EXTRA_DEVICES, extra_devices_of
from coordinator.services.instance_placement import make_requests
from coordinator.services.instance_reference import SizeReferences, find_size
from coordinator.services.instance_resource import InstanceSize, cpu_model_of, floats_over_node, make_consumer
from coordinator.services.instance_task import begin_task, changed_meanwhile, require_unlocked
from coordinator.services.instance_validation import check_size, huge_page_bytes_of
from coordinator.services.instance_view import InstanceView, load_views
from coordinator.services.migration import make_move, require_stateless
from coordinator.services.quota import Wish, check_quota
from coordinator.services.resize_device import (
    DeviceChange,
    check_disks,
    find_change,
    settle_extra,
    with_present_gpus,
)
from coordinator.services.resize_order import as_instance_order
from coordinator.store.queries import instance as instance_query
from coordinator.store.queries import migration as migration_query
from coordinator.store.queries.deployment_set import lock_set
from coordinator.store.queries.device_claim import list_claims
from coordinator.store.queries.flavor import find_flavor_with_type
from coordinator.store.queries.placement import read_held
from coordinator.store.tables import Flavor, FlavorType, Instance, Tenant
from coordinator.tasks.blueprint import traits_of
from coordinator.tasks.device_return import find_return
from coordinator.tasks.instance_step import require_status
from coordinator.tasks.kinds.move_resized_instance import MOVE_RESIZED_INSTANCE
from coordinator.tasks.kinds.resize_instance import RESIZE_INSTANCE

# What a size is counted in; the rest of what an instance holds stays.
_COUNTED: Final = (ResourceClass.VCPU, ResourceClass.DEDICATED_VCPU, ResourceClass.MEMORY_MIB)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Resized:
    """The instance as it is when its operation begins."""

    view: InstanceView
    operation_id: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """What becomes of an instance."""

    instance: Instance
    # As it is and as it shall be, both in the name of the instance.
    before: Consumer
    after: Consumer
    flavor_type: FlavorType
    pool_ids: frozenset[str]
    # As tasks apply it.
    size: dict[str, Any]
    more: Wish
    # Whether a guest that runs may take it.
    is_online: bool
    # Of its devices, where it stays on its node.
    change: DeviceChange

    @property
    def is_full(self) -> bool:
        """Whether cells of the node play a part, so that nothing can just be added."""
        return self.before.cells is not None or self.after.cells is not None


def resize_instance(runtime: Runtime, caller: Caller, ecs_id: str, order: ResizeOrder) -> Resized:
    """Gives the instance, which runs or is shut off, another size.

    ParameterInvalid and ResizeImpossible tell what cannot be had, QuotaExceeded and TargetUnsuitable what is too much.
    """
    with runtime.database.write() as session:
        instance = find_own(session, caller, ecs_id)
        _check(instance)
        plan = _make_plan(session, runtime, instance, order)
        check_quota(session, session.get_one(Tenant, instance.tenant_id), plan.more)
        if instance.deployment_set:
            lock_set(session, instance.deployment_set)
        reserve_uuid = runtime.identifiers.new_uuid()
        refusal, pool_id = _claim_here(session, runtime, plan, reserve_uuid)
        if refusal is None:
            operation = _resize_here(session, runtime, caller, plan, reserve_uuid, pool_id)
        else:
            operation = _resize_elsewhere(session, runtime, caller, plan, refusal)
        views = load_views(session, runtime, [instance.id or 0])
    runtime.wake_tasks()
    log.info("resize.accepted", ecsId=ecs_id, operationId=operation, elsewhere=refusal is not None)
    return Resized(views[0], operation)


def _check(instance: Instance) -> None:
    require_unlocked(instance)
    require_status(instance, "resize", InstanceStatus.RUNNING, InstanceStatus.STOPPED)
    if instance.node_id is None:
        raise StatusUnsupported(f"instance {instance.ecs_id} is on no node", f"实例{instance.ecs_id}不在任何节点上")


def _make_plan(session: Session, runtime: Runtime, instance: Instance, order: ResizeOrder) -> _Plan:
    flavor, flavor_type = (
        instance_query.get_flavor(session, instance),
        instance_query.get_flavor_type(session, instance),
    )
    wanted = _settle_order(session, runtime, instance, order)
    found, present = find_size(session, wanted), _present_size(session, instance)
    pages = huge_page_bytes_of(wanted)
    size = replace(present, vcpus=order.cpu_count, memory_bytes=found.memory_bytes, huge_page_bytes=pages)
    present_extra, extra = extra_devices_of(instance), settle_extra(order, instance, found.extra_devices)
    if (size, found.flavor.flavor_id, extra) == (present, instance.flavor_id, present_extra):
        raise ParameterInvalid("cpus", "the instance has this size already", "实例已是该规格")
    _check_kept(instance, flavor, found.flavor, found.flavor_type)
    before = make_consumer(instance.uuid, present, flavor, flavor_type, present_extra)
    after = make_consumer(instance.uuid, size, found.flavor, found.flavor_type, extra)
    keeps_slices = flavor.vgpu_type_id == found.flavor.vgpu_type_id
    change = _change_devices(session, instance, order, before, after, keeps_slices=keeps_slices)
    return _Plan(
        instance,
        before,
        after,
        found.flavor_type,
        found.pool_ids or frozenset(filter(None, [instance.rp_id])),
        size=_describe(found, size, _find_room(runtime, instance, found, size), extra),
        more=_more(present, size, gpus=found.flavor.gpu + extra.gpus - flavor.gpu - present_extra.gpus),
        is_online=not change and _may_grow(instance, flavor_type, found.flavor_type, size),
        change=change,
    )


def _settle_order(session: Session, runtime: Runtime, instance: Instance, order: ResizeOrder) -> InstanceOrder:
    """The size in the words of an order, which it is checked as."""
    wanted = as_instance_order(runtime, instance, order)
    if named := find_flavor_with_type(session, order.flavor_id):
        wanted = with_present_gpus(wanted, instance, instance_query.get_flavor(session, instance), *named)
    check_size(wanted)
    return wanted


def _present_size(session: Session, instance: Instance) -> InstanceSize:
    space = sum_space(instance_query.list_volumes(session, instance))
    return InstanceSize(instance.vcpus, instance.memory_bytes, space, instance.huge_page_bytes)


def _change_devices(
    session: Session, instance: Instance, order: ResizeOrder, before: Consumer, after: Consumer, *, keeps_slices: bool
) -> DeviceChange:
    """ResizeImpossible where data would be lost that nobody has given up."""
    claims = list_claims(session, instance.uuid, instance.node_id or "")
    change = find_change(before.devices, after.devices, claims, keeps_slices=keeps_slices)
    check_disks(order, after.devices, claims, change)
    return change


def _find_room(runtime: Runtime, instance: Instance, found: SizeReferences, size: InstanceSize) -> Room:
    return make_room(
        size.vcpus,
        size.memory_bytes,
        runtime.settings.hot_plug_factor,
        architecture=instance.architecture,
        floats=floats_over_node(found.flavor_type, size.huge_page_bytes),
    )


def _more(present: InstanceSize, size: InstanceSize, *, gpus: int) -> Wish:
    return Wish(vcpus=size.vcpus - present.vcpus, memory_bytes=size.memory_bytes - present.memory_bytes, gpus=gpus)


def _describe(found: SizeReferences, size: InstanceSize, room: Room, extra: ExtraDevices) -> dict[str, Any]:
    """As tasks apply it."""
    return {
        "flavorId": found.flavor.flavor_id,
        "flavorTypeId": found.flavor_type.flavor_type_id,
        "vcpus": size.vcpus,
        "memoryBytes": size.memory_bytes,
        "hugePageBytes": size.huge_page_bytes,
        "vcpuType": found.flavor_type.vcpu_type,
        "room": room.to_json(),
        "options": {EXTRA_DEVICES: extra.to_json()},
    }


def _check_kept(instance: Instance, before: Flavor, after: Flavor, flavor_type: FlavorType) -> None:
    """A size is vCPUs, memory and devices: what else a flavor promises must be what the instance has."""
    if elastic_disks_of(before) != elastic_disks_of(after):
        raise ResizeImpossible(
            "flavorId: elastic local disks of an instance stay as they are", "flavorId：变配不支持变更弹性本地盘"
        )
    if (flavor_type.security_type or "none") != instance.security_type:
        raise ResizeImpossible(
            f"flavorId: the flavor's security type is {flavor_type.security_type or 'none'}, "
            f"the instance was installed with {instance.security_type}",
            "flavorId：变配不支持变更安全类型",
        )


def _may_grow(instance: Instance, old: FlavorType, new: FlavorType, size: InstanceSize) -> bool:
    """Whether the difference is vCPUs and memory to be added, for which the definition has left room."""
    room = Room.of(instance.options)
    return (
        instance.status == InstanceStatus.RUNNING
        and floats_over_node(old, instance.huge_page_bytes)
        and floats_over_node(new, size.huge_page_bytes)
        and new.vcpu_type == instance.vcpu_type
        and instance.vcpus <= size.vcpus <= max(room.vcpus, instance.vcpus)
        and instance.memory_bytes <= size.memory_bytes <= max(room.memory_bytes, instance.memory_bytes)
    )


def _claim_here(session: Session, runtime: Runtime, plan: _Plan, reserve_uuid: str) -> tuple[Message | None, str]:
    """Holds on the instance's node what the new size needs more; why it cannot, and the pool that it is in there."""
    instance, after = plan.instance, plan.after
    wanted = {name: after.resources.get(name, 0) for name in _COUNTED}
    if not plan.is_full:
        wanted = {name: max(amount - plan.before.resources.get(name, 0), 0) for name, amount in wanted.items()}
    is_same_place = not plan.pool_ids or instance.rp_id in plan.pool_ids
    is_same_kind = is_same_place and plan.size["flavorTypeId"] == instance.flavor_type_id
    if not any(wanted.values()) and not plan.change.wanted and is_same_kind:
        return None, instance.rp_id
    cells = after.cells if plan.is_full else None
    request = PlacementRequest(
        consumers=(Consumer(reserve_uuid, wanted, plan.change.wanted, cells),),
        architecture=instance.architecture,
        zone=instance.zone,
        node_id=instance.node_id or "",
        cpu_model=cpu_model_of(plan.flavor_type),
        traits=traits_of(instance.architecture, instance.security_type),
        pool_ids=plan.pool_ids,
        group_id=instance.hg_id,
    )
    decision = claim(session, runtime.hosts, request)
    if not decision.placed:
        return summarize(decision), ""
    if shared := {share.device_id for share in decision.assignments[0].devices}.intersection(plan.change.returned):
        # The names of slices, old and new, would be the same.
        release(session, [reserve_uuid])
        names = ", ".join(sorted(shared))
        return Message(f"only {names} has room, whose slices it gives back", f"仅有待释放的设备{names}可用"), ""
    return None, decision.assignments[0].host.pool_id if plan.pool_ids else ""


def _resize_here(
    session: Session, runtime: Runtime, caller: Caller, plan: _Plan, reserve_uuid: str, pool_id: str
) -> str:
    instance = _lock(session, plan)
    held = read_held(session, [instance.uuid])[instance.uuid].amounts
    amounts = {name: amount for name, amount in held.items() if name not in _COUNTED}
    amounts |= {name: amount for name in _COUNTED if (amount := plan.after.resources.get(name, 0))}
    args = {
        "reserveUuid": reserve_uuid,
        "isFull": plan.is_full,
        "isOnline": plan.is_online,
        "amounts": amounts,
        "poolId": pool_id,
        "returned": dict(plan.change.returned),
        "returnUuid": runtime.identifiers.new_uuid(),
        **_common_args(plan),
    }
    # What it has given back before is named like what it gets now, where both are slices of one device.
    returning = find_return(session, instance.uuid)
    return begin_task(session, runtime, caller, RESIZE_INSTANCE, instance, args=args, after_task_id=returning)


def _resize_elsewhere(session: Session, runtime: Runtime, caller: Caller, plan: _Plan, refusal: Message) -> str:
    instance, kind = plan.instance, MigrationType.COLD
    if (tie := find_ties(session, [instance], kind).get(instance.ecs_id)) is not None:
        raise _nowhere(refusal, tie)
    require_stateless(instance)
    migration_id = runtime.identifiers.new_uuid()
    (request,) = make_requests(session, [instance], kind)
    request = replace(
        request,
        consumers=(replace(plan.after, uuid=migration_id),),
        cpu_model=cpu_model_of(plan.flavor_type),
        pool_ids=plan.pool_ids,
    )
    decision = claim(session, runtime.hosts, request)
    if not decision.placed:
        raise _nowhere(refusal, summarize(decision))
    host = decision.assignments[0].host
    _lock(session, plan)
    migration, args = make_move(session, runtime, instance, kind, migration_id, host, MigrationOptions())
    args |= {"poolId": host.pool_id if plan.pool_ids else "", **_common_args(plan)}
    cleaning = migration_query.find_cleaning(session, instance.id, host.node_id)
    migration.operation_id = begin_task(
        session, runtime, caller, MOVE_RESIZED_INSTANCE, instance, args=args, after_task_id=cleaning
    )
    session.add(migration)
    return migration.operation_id


def _nowhere(here: Message, elsewhere: Message) -> TargetUnsuitable:
    return TargetUnsuitable(
        f"its own node: {here.en}; others: {elsewhere.en}", f"所在节点：{here.zh}；其他节点：{elsewhere.zh}"
    )


def _lock(session: Session, plan: _Plan) -> Instance:
    """Hosts are locked before instances, everywhere. It may have changed until now."""
    instance, node_id, generation = plan.instance, plan.instance.node_id, plan.instance.generation
    session.refresh(instance, with_for_update=True)
    _check(instance)
    if (instance.node_id, instance.generation) != (node_id, generation):
        raise changed_meanwhile(instance)
    instance.generation += 1
    return instance


def _common_args(plan: _Plan) -> dict[str, Any]:
    return {"size": plan.size, "runs": plan.instance.status == InstanceStatus.RUNNING}
