"""Instances: looking at them, and the changes that their node need not know of at once."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy import delete
from sqlmodel import Session, col

from coordinator.domain.caller import Caller
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.instance_order import Label
from coordinator.domain.listing import Listing, ListQuery
from coordinator.errors import ParameterInvalid, ResourceNotFound, StatusUnsupported
from coordinator.runtime import Runtime
from coordinator.services.instance_task import require_unlocked
from coordinator.services.instance_validation import check_description, check_display_name, check_labels
from coordinator.services.instance_view import InstanceView, load_views
from coordinator.services.overcommit import read_cpu_ratios
from coordinator.store.queries import instance as instance_query
from coordinator.store.queries.instance import Narrowing
from coordinator.store.tables import Instance, InstanceLabel

_MAXIMUM_BATCH = 1000


def get_instance(runtime: Runtime, caller: Caller, ecs_id: str) -> InstanceView:
    """One instance."""
    with runtime.database.read() as session:
        number = instance_query.find_number(session, _scope(caller), ecs_id)
        if number is None:
            raise ResourceNotFound("instance", ecs_id)
        return load_views(session, runtime, [number])[0]


def list_instances(
    runtime: Runtime, caller: Caller, narrowing: Narrowing, query: ListQuery, cpu_exceed_ratio: float | None = None
) -> Listing[InstanceView]:
    """The caller's instances, for an operator everybody's; with a ratio only those that live under it."""
    with runtime.database.read() as session:
        if cpu_exceed_ratio is not None:
            region_ratio = read_cpu_ratios(session, runtime.settings).region
            narrowing = replace(narrowing, cpu_ratio=cpu_exceed_ratio, cpu_ratio_without_node=region_ratio)
        page = instance_query.list_numbers(session, _scope(caller), narrowing, query)
        return Listing(tuple(load_views(session, runtime, page.items)), page.total)


def set_lock(runtime: Runtime, caller: Caller, ecs_id: str, is_locked: bool) -> None:
    """Locks or unlocks an instance; idempotent."""
    with runtime.database.write() as session:
        instance = find_own(session, caller, ecs_id, for_update=True)
        instance.is_locked = is_locked
        session.add(instance)


def set_labels(runtime: Runtime, caller: Caller, ecs_id: str, labels: Sequence[Label]) -> None:
    """Replaces all labels."""
    check_labels(labels)
    with runtime.database.write() as session:
        instance = _find_changeable(session, caller, ecs_id)
        session.execute(delete(InstanceLabel).where(col(InstanceLabel.instance_id) == instance.id))
        session.add_all(make_labels(instance, labels))


def make_labels(instance: Instance, labels: Iterable[Label]) -> list[InstanceLabel]:
    """The rows of a stored instance's labels."""
    assert instance.id is not None  # noqa: S101 - it is stored
    return [
        InstanceLabel(instance_id=instance.id, key=label.key, value=label.value, created_at=instance.created_at)
        for label in labels
    ]


def rename_instance(runtime: Runtime, caller: Caller, ecs_id: str, display_name: str) -> None:
    """Renames an instance; its node shows the new name from the next start on."""
    check_display_name(display_name, "displayname")
    with runtime.database.write() as session:
        instance = _find_changeable(session, caller, ecs_id)
        instance.display_name = display_name
        instance.generation += 1
        session.add(instance)


def set_description(runtime: Runtime, caller: Caller, ecs_id: str, description: str) -> None:
    """Replaces the description."""
    check_description(description)
    with runtime.database.write() as session:
        instance = _find_changeable(session, caller, ecs_id)
        instance.description = description
        session.add(instance)


def find_own(session: Session, caller: Caller, ecs_id: str, *, for_update: bool = False) -> Instance:
    """The instance, if it exists for the caller; `for_update` keeps others from changing it meanwhile.

    StatusUnsupported when it is to be changed, and is in the recycle bin.
    """
    instance = instance_query.find_instance(session, ecs_id, for_update=for_update)
    if instance is None or not caller.may_see(instance.tenant_id):
        raise ResourceNotFound("instance", ecs_id)
    if for_update:
        _require_unrecycled(instance)
    return instance


def find_own_batch(
    session: Session, caller: Caller, ecs_ids: Sequence[str], *, recycled: bool = False
) -> list[Instance]:
    """The instances in the order of their ids, each once and kept from others until the transaction ends.

    ResourceNotFound names all that do not exist. StatusUnsupported when one is in the recycle bin, unless `recycled`.
    """
    wanted = check_batch(ecs_ids)
    found = instance_query.lock_instances(session, wanted)
    own = {ecs_id: instance for ecs_id, instance in found.items() if caller.may_see(instance.tenant_id)}
    missing = [ecs_id for ecs_id in wanted if ecs_id not in own]
    if missing:
        raise ResourceNotFound("instance", ", ".join(missing))
    if not recycled:
        for instance in own.values():
            _require_unrecycled(instance)
    return [own[ecs_id] for ecs_id in wanted]


def _require_unrecycled(instance: Instance) -> None:
    if instance.status == InstanceStatus.SOFT_DELETED:
        raise StatusUnsupported(
            f"instance {instance.ecs_id} is in the recycle bin: restore it first",
            f"实例{instance.ecs_id}在回收站中，请先还原",
        )


def check_batch(ecs_ids: Sequence[str]) -> list[str]:
    """The ids, each once; ParameterInvalid for too many of them, or none."""
    wanted = list(dict.fromkeys(ecs_ids))
    if not 1 <= len(wanted) <= _MAXIMUM_BATCH:
        raise ParameterInvalid("ecsIds", f"1 to {_MAXIMUM_BATCH} ids", f"须为1到{_MAXIMUM_BATCH}个实例ID")
    return wanted


def _find_changeable(session: Session, caller: Caller, ecs_id: str) -> Instance:
    instance = find_own(session, caller, ecs_id, for_update=True)
    require_unlocked(instance)
    return instance


def _scope(caller: Caller) -> str | None:
    """The tenant whose instances the caller sees; None: everybody's."""
    return caller.tenant_id if caller.is_tenant else None
