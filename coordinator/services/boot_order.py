"""From what instances start: their disks, or an ISO image in one of their drives."""

from collections.abc import Sequence

from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.iso import IsoState
from coordinator.domain.system_change import BootMode
from coordinator.errors import BootOrderImpossible, DiskBootsAlready, OpticalDriveBootsAlready, ParameterInvalid
from coordinator.runtime import Runtime
from coordinator.services.instance import find_own
from coordinator.services.instance_task import begin_task, require_unlocked
from coordinator.store.queries.iso import list_isos
from coordinator.store.tables import Instance, IsoAttachment
from coordinator.tasks.instance_step import require_status
from coordinator.tasks.kinds.redefine_instance import REDEFINE_INSTANCE


def set_boot_order(runtime: Runtime, caller: Caller, ecs_id: str, mode: BootMode, image_id: str) -> str | None:
    """From its next start on the instance starts from its disks, or from the drive with that image in it.

    Answers the operation that tells the node of an instance that runs; one that is shut off is told when it starts.
    """
    if mode is BootMode.OPTICAL_DRIVE and not image_id:
        raise ParameterInvalid("bootId", "is required with bootMode 1", "bootMode为1时必填")
    with runtime.database.write() as session:
        instance = find_own(session, caller, ecs_id, for_update=True)
        require_unlocked(instance)
        require_status(instance, "set the boot order", InstanceStatus.RUNNING, InstanceStatus.STOPPED)
        drives = [attachment for attachment, _ in list_isos(session, instance.id)]
        chosen = _choose(drives, image_id) if mode is BootMode.OPTICAL_DRIVE else None
        if chosen is None and not any(drive.is_boot for drive in drives):
            raise DiskBootsAlready(f"instance {ecs_id} starts from its disk already", f"实例{ecs_id}已是从硬盘启动")
        operation = _set(session, runtime, caller, instance, drives, chosen)
    runtime.wake_tasks()
    return operation


def _choose(drives: Sequence[IsoAttachment], image_id: str) -> IsoAttachment:
    found = next((drive for drive in drives if drive.image_id == image_id), None)
    if found is None or found.state != IsoState.ATTACHED:
        raise BootOrderImpossible(
            f"bootId: image {image_id} is in none of the instance's drives: attach it first",
            f"bootId：镜像{image_id}未挂载到该实例，请先挂载",
        )
    if found.is_boot:
        raise OpticalDriveBootsAlready(
            f"the instance starts from image {image_id} already", f"实例已是从光盘{image_id}启动"
        )
    return found


def _set(
    session: Session,
    runtime: Runtime,
    caller: Caller,
    instance: Instance,
    drives: Sequence[IsoAttachment],
    chosen: IsoAttachment | None,
) -> str | None:
    for drive in drives:
        drive.is_boot = drive is chosen
        session.add(drive)
    instance.generation += 1
    session.add(instance)
    if instance.status != InstanceStatus.RUNNING:
        return None
    return begin_task(session, runtime, caller, REDEFINE_INSTANCE, instance)
