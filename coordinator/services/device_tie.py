"""Devices that keep an instance on its node."""

from collections.abc import Collection, Mapping

from sqlmodel import Session

from coordinator.domain.device import DeviceKind
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.message import Message
from coordinator.domain.migration import MigrationType
from coordinator.errors import StatusUnsupported
from coordinator.store.queries.device_claim import TIED_KINDS, list_claim_kinds
from coordinator.store.tables import Instance


def require_movable(session: Session, instance: Instance, migration: MigrationType) -> None:
    """StatusUnsupported names the devices that keep the instance from being moved in that way."""
    tie = find_ties(session, [instance], migration).get(instance.ecs_id)
    if tie is not None:
        raise StatusUnsupported(
            f"instance {instance.ecs_id} cannot be moved ({migration}): {tie.en}",
            f"实例{instance.ecs_id}无法迁移（{migration}）：{tie.zh}",
        )


def find_ties(session: Session, instances: Collection[Instance], migration: MigrationType) -> Mapping[str, Message]:
    """What keeps instances where they are, by their ids; absent: nothing does.

    While it runs, an instance keeps every device but virtual functions of network cards, which its guest lets go of
    and gets anew, unless it is paused. Otherwise it gets equal ones on another node, except for those that would not be
    the same there: local disks with its data, and what is plugged into a USB port.
    """
    kinds = list_claim_kinds(session, [instance.uuid for instance in instances])
    ties = {}
    for instance in instances:
        held = kinds.get(instance.uuid, [])
        held = [(kind, device_id) for kind, device_id in held if _is_tied(kind, instance, migration)]
        if held:
            ties[instance.ecs_id] = _describe([f"{kind} {device_id}" for kind, device_id in held], migration)
    return ties


def _is_tied(kind: str, instance: Instance, migration: MigrationType) -> bool:
    if migration is not MigrationType.LIVE:
        return kind in TIED_KINDS
    return kind != DeviceKind.VF or instance.status == InstanceStatus.PAUSED


def _describe(devices: Collection[str], migration: MigrationType) -> Message:
    names, names_zh = ", ".join(devices), "、".join(devices)
    if migration is MigrationType.LIVE:
        return Message(
            f"it has {names}, which no running guest takes along: detach it, or stop the instance and move it cold",
            f"运行中的虚拟机无法带走设备{names_zh}，请先卸载设备，或关机后进行冷迁移",
        )
    return Message(f"it has {names} of its node, which cannot be had elsewhere", f"所在节点的设备{names_zh}无法迁移")
