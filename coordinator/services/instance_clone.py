"""Clones: instances with copies of another one's disks, and an identity of their own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.device import DeviceKind
from coordinator.domain.device_order import DeviceOrder
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.instance_order import CLONED_FROM, InstanceOrder, Label
from coordinator.domain.ssh_key import WANTED_STATES, BindingState
from coordinator.errors import ParameterInvalid, ResourceNotFound, StatusUnsupported
from coordinator.runtime import Runtime
from coordinator.services.elastic_disk import refuse_elastic
from coordinator.services.instance import find_own
from coordinator.services.instance_creation import (
    CloneOrigin,
    Created,
    add_instances,
    check_order_quota,
    make_secrets,
    within_quotas,
)
from coordinator.services.instance_reference import find_references
from coordinator.services.instance_task import changed_meanwhile, require_unlocked
from coordinator.services.instance_validation import check_order
from coordinator.services.launch_order import devices_alike, order_alike, volume_alike
from coordinator.services.ssh_key_binding import new_binding
from coordinator.services.volume_key import require_plain
from coordinator.store.queries import instance as instance_query
from coordinator.store.queries.device import list_devices_of
from coordinator.store.queries.ssh_key import list_bindings
from coordinator.store.queries.volume_attachment import list_shared
from coordinator.store.tables import Image, Instance, SshKey, Volume
from coordinator.tasks.instance_step import require_status

_ADMITTED: Final = (InstanceStatus.RUNNING, InstanceStatus.STOPPED, InstanceStatus.PAUSED)
# What is on them stays on the node's own devices.
_NOT_COPIED: Final = {DeviceKind.DISK: ("a local disk", "本地盘"), DeviceKind.USB: ("a USB device", "USB设备")}


@dataclass(frozen=True, slots=True)
class _Source:
    """An instance that can be cloned."""

    instance: Instance
    image: Image
    volumes: tuple[Volume, ...]


def check_clone(runtime: Runtime, caller: Caller, ecs_id: str, tenant_id: str) -> None:
    """Whether the instance can be cloned now, and its tenant's quotas have room for another one like it.

    ResourceNotFound, InstanceLocked, StatusUnsupported, QuotaExceeded, and what is wrong with its flavor or network.
    """
    with runtime.database.read() as session:
        source = _find_source(session, caller, ecs_id, tenant_id)
        order = order_alike(session, runtime, source.instance)
        check_order_quota(session, order, find_references(session, runtime, caller, order, source.image))


def clone_instance(runtime: Runtime, caller: Caller, ecs_id: str, draft: InstanceOrder) -> Created:
    """Begins to make the instance of `draft`, which has no disks and no image: those of the instance are copied.

    It runs where these are. BatchUnschedulable when there is no room; else as for `check_clone` and for orders.
    """
    secrets = make_secrets(runtime, draft)
    with runtime.database.write() as session:
        source = _find_source(session, caller, ecs_id, draft.tenant_id)
        order = _complete(session, draft, source)
        check_order(order, runtime.settings)
        if not caller.is_operator:
            order = within_quotas(order)
        references = find_references(session, runtime, caller, order, source.image)
        if references.volumes != order.volumes:
            raise ParameterInvalid(
                "flavorId", "has elastic local disks, of which a clone has no copies", "克隆不支持弹性本地盘规格"
            )
        created = add_instances(session, runtime, caller, order, references, secrets, _origin(session, source))
        _lock(session, source)
        _settle(session, runtime, source.instance, created)
    runtime.wake_tasks()
    return created


def _find_source(session: Session, caller: Caller, ecs_id: str, tenant_id: str) -> _Source:
    instance = find_own(session, caller, ecs_id)
    if tenant_id and tenant_id != instance.tenant_id:
        raise ResourceNotFound("instance", f"{ecs_id} (tenant {tenant_id})")
    require_unlocked(instance)
    require_status(instance, "clone it", *_ADMITTED)
    volumes = tuple(instance_query.list_volumes(session, instance))
    image = session.get(Image, instance.image_id) if instance.image_id else None
    if image is None or not any(volume.is_os_disk for volume in volumes):
        raise StatusUnsupported(f"instance {ecs_id} has no system disk", f"实例{ecs_id}没有系统盘")
    refuse_elastic(volumes, instance, "is not copied: such an instance is not cloned", "无法克隆")
    require_plain(volumes, "is not copied: such an instance is not cloned", "无法克隆")
    _check_copyable(session, instance)
    return _Source(instance, image, volumes)


def _lock(session: Session, source: _Source) -> None:
    """Hosts are locked before instances, everywhere. It may have changed until now."""
    instance, copied = source.instance, _describe(source.instance, source.volumes)
    session.refresh(instance, with_for_update=True)
    for volume in source.volumes:
        session.refresh(volume)
    require_unlocked(instance)
    require_status(instance, "clone it", *_ADMITTED)
    if _describe(instance, instance_query.list_volumes(session, instance)) != copied:
        raise changed_meanwhile(instance)


def _describe(instance: Instance, volumes: Sequence[Volume]) -> tuple[Any, ...]:
    return instance.node_id, *((volume.id, volume.size_gib) for volume in volumes)


def _check_copyable(session: Session, instance: Instance) -> None:
    shared = [volume.name for _, volume in list_shared(session, instance.id)]
    if shared:
        raise StatusUnsupported(
            f"instance {instance.ecs_id} shares volume {', '.join(shared)} with others: detach it first",
            f"实例{instance.ecs_id}挂载了共享云盘{'、'.join(shared)}，请先卸载",
        )
    assert instance.id is not None  # noqa: S101 - it is stored
    for row in list_devices_of(session, [instance.id]).get(instance.id, ()):
        if row.device.kind in _NOT_COPIED:
            en, zh = _NOT_COPIED[DeviceKind(row.device.kind)]
            raise StatusUnsupported(
                f"instance {instance.ecs_id} has {en}, which cannot be copied: detach it first",
                f"实例{instance.ecs_id}使用了{zh}，无法克隆，请先卸载",
            )


def _complete(session: Session, draft: InstanceOrder, source: _Source) -> InstanceOrder:
    """The draft with what comes from the source: all that makes the clone like it, but not its name and addresses."""
    instance = source.instance
    for field, given, own in (
        ("az", draft.zone, instance.zone),
        ("archType", draft.architecture, instance.architecture),
    ):
        if given != own:
            raise ParameterInvalid(field, f"that of the source, {own}", f"须与源实例一致，为{own}")
    return replace(
        draft,
        tenant_id=instance.tenant_id,
        volumes=tuple(volume_alike(volume) for volume in source.volumes),
        image_id=source.image.id,
        image_source=instance.image_source,
        os_type=instance.os_type,
        description=draft.description or instance.description,
        host_group_id=draft.host_group_id or instance.hg_id,
        devices=_settle_devices(session, draft, instance),
        labels=draft.labels or _labels_of(session, instance),
        ssh_public_keys=draft.ssh_public_keys or tuple(instance.ssh_public_keys),
        ha_enabled=instance.ha_enabled,
        options={**draft.options, CLONED_FROM: instance.ecs_id},
    )


def _settle_devices(session: Session, draft: InstanceOrder, source: Instance) -> DeviceOrder:
    """Of the source's flavor as many as the source has, where the draft says nothing; of another one what that has.

    They are claimed for the clone, like the source's: those of the source are nobody else's.
    """
    if draft.flavor_id != source.flavor_id:
        return draft.devices
    wanted, alike = draft.devices, devices_alike(session, source)
    names_gpus = bool(wanted.gpus or wanted.vgpus)
    return replace(
        wanted,
        gpus=wanted.gpus if names_gpus else alike.gpus,
        functions=wanted.functions or alike.functions,
        infiniband=wanted.infiniband or alike.infiniband,
    )


def _labels_of(session: Session, instance: Instance) -> tuple[Label, ...]:
    return tuple(Label(row.key, row.value) for row in instance_query.list_labels(session, instance))


def _origin(session: Session, source: _Source) -> CloneOrigin:
    assert source.instance.node_id is not None  # noqa: S101 - checked
    return CloneOrigin(ecs_id=source.instance.ecs_id, volumes=source.volumes, node_id=source.instance.node_id)


def _settle(session: Session, runtime: Runtime, source: Instance, created: Created) -> None:
    """The source shows the operation as its own; the clone is opened by the keys that are in its disk."""
    [operation_id], [view] = created.operation_ids, created.views
    source.task_id, source.task_at = operation_id, runtime.now()
    session.add(source)
    clone = session.get_one(Instance, view.instance.id)
    # The same machine as the source's, so that its guest finds the same hardware.
    clone.machine = source.machine
    known = {binding.ssh_key_id for binding in list_bindings(session, clone.id)}
    for binding in list_bindings(session, source.id):
        key = session.get(SshKey, binding.ssh_key_id)
        if key is not None and binding.state in WANTED_STATES and key.id not in known:
            copied = new_binding(runtime, key, clone, BindingState.BOUND)
            copied.password_auth = binding.password_auth
            session.add(copied)
