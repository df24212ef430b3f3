"""What keeps an instance on its node: devices, snapshots, and what it shares with others."""

from collections.abc import Collection, Mapping
from typing import Final

from sqlmodel import Session

from coordinator.domain.device import DeviceKind
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.message import Message
from coordinator.domain.migration import MigrationType
from coordinator.domain.usb import is_replaceable
from coordinator.domain.vgpu_migration import goes_along
from coordinator.domain.volume import ELASTIC_TYPE, VolumeBackend
from coordinator.errors import StatusUnsupported
from coordinator.store.queries.device_claim import TIED_KINDS, DeviceClaim, list_claims_of
from coordinator.store.queries.node import is_storage_shared
from coordinator.store.queries.snapshot import find_instances_with_snapshots
from coordinator.store.queries.volume import find_instances_with_type
from coordinator.store.queries.volume_attachment import find_sharing_instances
from coordinator.store.tables import Device, Instance

_WITH_SHARED_VOLUMES: Final = Message(
    "it shares volumes with other instances, and no other node has the storage that they are in: detach them first",
    "它与其他实例共享云盘，且没有其他节点使用同一存储，请先卸载共享云盘",
)
_WITH_SNAPSHOTS: Final = Message(
    "its volumes have snapshots, and no other node shares their storage: stop the instance and move it cold, "
    "which takes snapshots along, or delete them",
    "其云盘存在快照，且没有其他节点共享该存储：请关机后进行冷迁移（快照随之迁移），或先删除快照",
)
_WITH_THIN_SNAPSHOTS: Final = Message(
    "its logical volumes have snapshots, which stay with the thin pool of its node: delete them first",
    "其逻辑卷存在快照，快照保留在所在节点的精简池中，请先删除快照",
)
_WITH_ELASTIC_DISKS: Final = Message(
    "it has elastic local disks, whose data is on its node alone", "其弹性本地盘的数据仅在所在节点上"
)


def require_movable(session: Session, instance: Instance, migration: MigrationType) -> None:
    """StatusUnsupported tells what keeps the instance from being moved in that way."""
    tie = find_ties(session, [instance], migration).get(instance.ecs_id)
    if tie is not None:
        raise StatusUnsupported(
            f"instance {instance.ecs_id} cannot be moved ({migration}): {tie.en}",
            f"实例{instance.ecs_id}无法迁移（{migration}）：{tie.zh}",
        )


def find_ties(session: Session, instances: Collection[Instance], migration: MigrationType) -> Mapping[str, Message]:
    """What keeps instances where they are, by their ids; absent: nothing does.

    While it runs, an instance keeps every device but vGPUs that its node can move, and virtual functions of network
    cards and USB devices of which others are as good: its guest lets go of these and gets equal ones, unless it is
    paused. Otherwise it gets equal ones on another node, except for those that would not be the same there: local disks
    with its data, and what is plugged into a USB port.
    """
    claims = list_claims_of(session, [instance.uuid for instance in instances])
    ties = _find_storage_ties(session, instances, migration)
    elastic = find_instances_with_type(session, [instance.id for instance in instances], ELASTIC_TYPE)
    ties |= {instance.ecs_id: _WITH_ELASTIC_DISKS for instance in instances if instance.id in elastic}
    for instance in instances:
        held = [claim for claim in claims.get(instance.uuid, []) if _is_tied(claim, instance, migration)]
        if held:
            ties[instance.ecs_id] = _describe(session, held, migration)
    return ties


def _is_tied(claim: DeviceClaim, instance: Instance, migration: MigrationType) -> bool:
    if migration is not MigrationType.LIVE:
        return claim.kind in TIED_KINDS
    if goes_along(claim.kind, claim.attributes):
        return False
    if instance.status == InstanceStatus.PAUSED:
        return True
    if claim.kind == DeviceKind.USB:
        return not is_replaceable(claim.attributes, instance.options)
    return claim.kind != DeviceKind.VF


def _find_storage_ties(
    session: Session, instances: Collection[Instance], migration: MigrationType
) -> dict[str, Message]:
    """A guest that runs takes along what its disks hold, but no snapshots; nobody takes along what others use."""
    ids = [instance.id for instance in instances]
    ties = dict.fromkeys(find_sharing_instances(session, ids), _WITH_SHARED_VOLUMES)
    kept = find_instances_with_snapshots(session, ids, [VolumeBackend.LVM_THIN])
    ties = dict.fromkeys(kept, _WITH_THIN_SNAPSHOTS) | ties
    if migration is MigrationType.LIVE:
        ties = dict.fromkeys(find_instances_with_snapshots(session, ids), _WITH_SNAPSHOTS) | ties
    return {
        instance.ecs_id: ties[instance.id]
        for instance in instances
        if instance.id in ties and instance.node_id and not is_storage_shared(session, instance.node_id)
    }


def _describe(session: Session, claims: Collection[DeviceClaim], migration: MigrationType) -> Message:
    devices = [f"{claim.kind} {claim.device_id}" for claim in claims]
    if migration is MigrationType.LIVE:
        devices = [f"{name}{_find_obstacle(session, claim)}" for name, claim in zip(devices, claims, strict=True)]
    names, names_zh = ", ".join(devices), "、".join(devices)
    if migration is not MigrationType.LIVE:
        return Message(
            f"it has {names} of its node, which cannot be had elsewhere: detach it first",
            f"所在节点的设备{names_zh}无法迁移，请先卸载设备",
        )
    kinds = {claim.kind for claim in claims}
    en = f"it has {names}, which no running guest takes along: detach it"
    zh = f"运行中的虚拟机无法带走设备{names_zh}，请先卸载设备"
    if not kinds.intersection(TIED_KINDS):
        return Message(f"{en}, or stop the instance and move it cold", f"{zh}，或关机后进行冷迁移")
    if DeviceKind.USB in kinds:
        en += ", or bind USB devices again as replaceable where others of their model are as good"
        zh += "；若同型号USB设备可互换，也可重新绑定并设置replaceable"
    return Message(en, zh)


def _find_obstacle(session: Session, claim: DeviceClaim) -> str:
    """What the node says of vGPUs that it cannot move, in brackets."""
    device = session.get(Device, (claim.node_id, claim.device_id)) if claim.kind == DeviceKind.GPU else None
    reason = device.report.get("details", {}).get("vgpu_migration_obstacle") if device else ""
    return f" ({reason})" if reason else ""
