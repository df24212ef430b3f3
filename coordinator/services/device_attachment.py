"""USB devices and local disks that instances get and lose while they exist.

The claim is exact and for all that a call names, or none of it; operations then plug them in and out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlmodel import Session, col

from coordinator.domain.caller import Caller
from coordinator.domain.device import DeviceKind, DeviceState
from coordinator.domain.noun import in_chinese
from coordinator.domain.usb import REPLACEABLE, model_of
from coordinator.errors import ParameterInvalid, ResourceInUse, ResourceNotFound, StatusUnsupported
from coordinator.runtime import Runtime
from coordinator.services.device import DeviceView, view_device
from coordinator.services.instance import find_own
from coordinator.services.instance_device import extra_devices_of
from coordinator.services.instance_task import begin_task, require_unlocked
from coordinator.services.usb import usb_name
from coordinator.store.queries import device as device_query
from coordinator.store.queries import instance as instance_query
from coordinator.store.queries.device_claim import add_claims, find_holders
from coordinator.store.queries.placement import advance_generations
from coordinator.store.queries.task import ACTIVE_STATES
from coordinator.store.tables import Device, Instance, Node, Task
from coordinator.tasks.kinds.attach_devices import ATTACH_DEVICES
from coordinator.tasks.kinds.detach_devices import DETACH_DEVICES
from coordinator.tasks.model import TaskKind

_MAXIMUM: Final = 64
_NOUNS: Final = {DeviceKind.USB: "USB device", DeviceKind.DISK: "local disk"}


@dataclass(frozen=True, slots=True)
class UsbReference:
    """A USB device as callers name it; empty: not given."""

    name: str = ""
    bus: str = ""
    port: str = ""
    # Its number on the bus, another one whenever it is plugged.
    device: str = ""
    # Whether another one of its model is as good to the instance.
    replaceable: bool = False

    kind = DeviceKind.USB

    def __str__(self) -> str:
        return self.name or f"{self.bus}-{self.port}"

    @property
    def missing(self) -> str:
        """The field without which it names nothing; empty: it is all there."""
        if self.name or (self.bus and self.port):
            return ""
        return "port" if self.bus else "name"

    def names(self, view: DeviceView) -> bool:
        """Whether that one is meant, whatever is plugged in there now."""
        details = view.report.details
        return (
            self.name in ("", usb_name(view), view.device.id)
            and self.bus in ("", details.get("bus", ""))
            and self.port in ("", details.get("port", ""))
        )

    def check(self, view: DeviceView) -> None:
        """ParameterInvalid when something else is plugged in there by now."""
        present = view.report.details.get("device", "")
        if self.device not in ("", present):
            raise ParameterInvalid(
                "device", f"{self} has number {present} now, not {self.device}", f"{self}的设备编号现为{present}"
            )


@dataclass(frozen=True, slots=True)
class DiskReference:
    """A local disk as callers name it; empty: not given."""

    name: str
    node_name: str = ""
    # Its SCSI address.
    address: str = ""

    kind = DeviceKind.DISK

    def __str__(self) -> str:
        return self.name

    @property
    def missing(self) -> str:
        """As for USB devices."""
        return "" if self.name else "diskName"

    def names(self, view: DeviceView) -> bool:
        """Whether that one is meant."""
        return self.name == view.device.id

    def check(self, view: DeviceView) -> None:
        """ParameterInvalid when the disk is not where it is said to be."""
        present = view.report.details.get("address", "")
        if self.node_name not in ("", view.node_name):
            raise ParameterInvalid("nodeName", f"the instance is on {view.node_name}", f"实例位于节点{view.node_name}")
        if self.address not in ("", present):
            raise ParameterInvalid("hctl", f"{self.name} is at {present}", f"{self.name}的地址为{present}")


Reference = UsbReference | DiskReference


def attach_devices(runtime: Runtime, caller: Caller, ecs_id: str, references: Sequence[Reference]) -> str:
    """Claims the devices for the instance, all of them or none; answers the operation that plugs them in.

    Asked again it answers the operation under way, or makes sure that the guest has what it holds; what is said of USB
    devices that are replaceable counts from then on. ResourceNotFound and
    ResourceInUse name the devices, StatusUnsupported tells why one is not offered.
    """
    _check_references(references)
    with runtime.database.write() as session:
        instance, node = _lock(session, caller, ecs_id)
        views = _read_devices(session, node, references[0].kind)
        wanted = [_find(views, reference) for reference in references]
        ids = _ids(wanted)
        if (running := _find_running(session, instance, ATTACH_DEVICES, ids)) is not None:
            return running
        for reference, view in zip(references, wanted, strict=True):
            reference.check(view)
        ATTACH_DEVICES.check(session, {"ecsId": ecs_id})
        _refuse_own_disks(session, instance, references[0].kind)
        holders = find_holders(session, node.id, ids)
        fresh = [view.device for view in _unique(wanted) if instance.uuid not in holders.get(view.device.id, ())]
        _check_free(wanted, holders, instance)
        add_claims(session, instance.uuid, fresh)
        _remember_choices(instance, references, wanted)
        args = {"deviceIds": ids, "claimedIds": [device.id for device in fresh]}
        operation = _begin(session, runtime, caller, ATTACH_DEVICES, instance, args)
    runtime.wake_tasks()
    return operation


def detach_devices(runtime: Runtime, caller: Caller, ecs_id: str, references: Sequence[Reference]) -> str | None:
    """Takes the devices away from the instance; answers the operation, None when it has none of them any more.

    They can be had by others when that has ended well; while the guest does not let go they stay the instance's.
    """
    _check_references(references)
    with runtime.database.write() as session:
        instance, node = _lock(session, caller, ecs_id)
        views = _read_devices(session, node, references[0].kind)
        ids = _ids([_find(views, reference) for reference in references])
        if (running := _find_running(session, instance, DETACH_DEVICES, ids)) is not None:
            return running
        holders = find_holders(session, node.id, ids)
        held = [device_id for device_id in ids if instance.uuid in holders.get(device_id, ())]
        if not held:
            return None
        DETACH_DEVICES.check(session, {"ecsId": ecs_id})
        _refuse_own_disks(session, instance, references[0].kind)
        operation = _begin(session, runtime, caller, DETACH_DEVICES, instance, {"deviceIds": held})
    runtime.wake_tasks()
    return operation


def _check_references(references: Sequence[Reference]) -> None:
    if not 1 <= len(references) <= _MAXIMUM:
        raise ParameterInvalid("devices", f"1 to {_MAXIMUM}", f"数量须为1到{_MAXIMUM}")
    for reference in references:
        if reference.missing:
            raise ParameterInvalid(reference.missing, "is required", "必填")


def _lock(session: Session, caller: Caller, ecs_id: str) -> tuple[Instance, Node]:
    """The instance and its node. Nobody else claims anything there before the transaction ends."""
    instance = find_own(session, caller, ecs_id)
    node_id = instance.node_id
    if node_id is not None:
        # Hosts are locked before instances, everywhere. It may have changed until now.
        advance_generations(session, [node_id])
        session.refresh(instance, with_for_update=True)
    require_unlocked(instance)
    if node_id is None or instance.node_id != node_id:
        raise StatusUnsupported(
            f"instance {ecs_id} is on no node, or leaves it", f"实例{ecs_id}不在任何节点上或正在迁移"
        )
    return instance, session.get_one(Node, node_id)


def _read_devices(session: Session, node: Node, kind: DeviceKind) -> list[DeviceView]:
    rows = device_query.list_devices(session, col(Device.node_id) == node.id, col(Device.kind) == kind)
    return [view_device(row) for row in rows]


def _find(views: Sequence[DeviceView], reference: Reference) -> DeviceView:
    found = next((view for view in views if reference.names(view)), None)
    if found is None:
        raise ResourceNotFound(_NOUNS[reference.kind], str(reference))
    return found


def _remember_choices(instance: Instance, references: Sequence[Reference], views: Sequence[DeviceView]) -> None:
    """What was said of USB devices this time counts for all of their models that the instance has."""
    before = instance.options.get(REPLACEABLE, [])
    models = set(before)
    for reference, view in zip(references, views, strict=True):
        if not isinstance(reference, UsbReference) or not (model := model_of(view.device.attributes)):
            continue
        models = models | {model} if reference.replaceable else models - {model}
    if sorted(models) != before:
        instance.options = {**instance.options, REPLACEABLE: sorted(models)}


def _unique(views: Sequence[DeviceView]) -> Iterator[DeviceView]:
    return iter({view.device.id: view for view in views}.values())


def _ids(views: Sequence[DeviceView]) -> list[str]:
    return [view.device.id for view in _unique(views)]


def _find_running(session: Session, instance: Instance, kind: TaskKind, device_ids: Sequence[str]) -> str | None:
    """The operation that does the same with the same devices now."""
    task = session.get(Task, instance.task_id) if instance.task_id else None
    if task is None or task.kind != kind.name or task.state not in ACTIVE_STATES or task.cancel_requested:
        return None
    return task.id if set(task.args["deviceIds"]) == set(device_ids) else None


def _refuse_own_disks(session: Session, instance: Instance, kind: DeviceKind) -> None:
    """Who was made with local disks has just these, for as long as it lives."""
    has = instance_query.get_flavor(session, instance).local_disk or extra_devices_of(instance).local_disks
    if kind is DeviceKind.DISK and has:
        raise StatusUnsupported(
            f"instance {instance.ecs_id} was made with local disks, and has no others",
            f"实例{instance.ecs_id}为本地盘规格，不支持挂载或卸载本地盘",
        )


def _check_free(views: Sequence[DeviceView], holders: dict[str, set[str]], instance: Instance) -> None:
    for view in views:
        others, reason = holders.get(view.device.id, set()), view.device.withheld_reason
        if instance.uuid in others:
            continue
        noun = _NOUNS[DeviceKind(view.device.kind)]
        named = f"{noun} {view.device.id} of node {view.node_name}"
        named_zh = f"节点{view.node_name}的{in_chinese(noun)}{view.device.id}"
        if others:
            raise ResourceInUse(f"{named} is somebody's already", f"{named_zh}已被占用")
        if view.state is not DeviceState.FREE:
            raise StatusUnsupported(f"{named} is not offered: {reason}", f"{named_zh}不可用：{reason}")


def _begin(
    session: Session, runtime: Runtime, caller: Caller, kind: TaskKind, instance: Instance, args: dict[str, Any]
) -> str:
    instance.generation += 1
    return begin_task(session, runtime, caller, kind, instance, args=args)
