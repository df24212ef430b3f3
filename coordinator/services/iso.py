"""ISO images in the optical drives of instances."""

from collections.abc import Sequence

from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.iso import OPTICAL_DRIVES, IsoState
from coordinator.errors import (
    ImageUnusable,
    IsosTooMany,
    ParameterInvalid,
    ResourceExists,
    ResourceNotFound,
    StatusUnsupported,
)
from coordinator.runtime import Runtime
from coordinator.services.instance import find_own
from coordinator.services.instance_task import begin_task, require_unlocked
from coordinator.store.queries import image as image_query
from coordinator.store.queries.iso import IsoRow, list_isos
from coordinator.store.tables import Image, Instance, IsoAttachment
from coordinator.tasks.kinds.attach_isos import ATTACH_ISOS
from coordinator.tasks.kinds.detach_isos import DETACH_ISOS


def list_attached(runtime: Runtime, caller: Caller, ecs_id: str) -> tuple[str, Sequence[IsoRow]]:
    """The tenant of an instance, and what is in its drives or on its way there."""
    with runtime.database.read() as session:
        instance = find_own(session, caller, ecs_id)
        return instance.tenant_id, list_isos(session, instance.id)


def attach_isos(runtime: Runtime, caller: Caller, ecs_id: str, image_ids: Sequence[str]) -> str:
    """Puts ISO images into drives of an instance, all or none; answers the operation id.

    ImageUnusable for what is no active ISO image, ResourceExists for one that is in a drive already, IsosTooMany when
    no drive is left.
    """
    if not image_ids:
        raise ParameterInvalid("imageId", "name at least one image", "至少指定一个镜像")
    if len(set(image_ids)) < len(image_ids):
        raise ParameterInvalid("imageId", "names an image twice", "同一镜像重复出现")
    with runtime.database.write() as session:
        instance = find_own(session, caller, ecs_id, for_update=True)
        require_unlocked(instance)
        ATTACH_ISOS.check(session, {"ecsId": ecs_id})
        present = [attachment for attachment, _ in list_isos(session, instance.id)]
        images = [_find_iso(session, instance, image_id) for image_id in image_ids]
        _require_absent(present, images)
        numbers = _choose_drives(present, len(images))
        operation_id = begin_task(session, runtime, caller, ATTACH_ISOS, instance, args={"imageIds": list(image_ids)})
        for image, number in zip(images, numbers, strict=True):
            session.add(
                IsoAttachment(instance_id=instance.id or 0, number=number, image_id=image.id, state=IsoState.ATTACHING)
            )
    runtime.wake_tasks()
    return operation_id


def detach_isos(
    runtime: Runtime, caller: Caller, ecs_id: str, image_ids: Sequence[str], *, force: bool = False
) -> str | None:
    """Takes ISO images out of an instance's drives, all or none, and without any named all that there are.

    Answers the operation id; None when there is nothing to take out. It fails when the guest has locked the tray,
    unless it is forced.
    """
    with runtime.database.write() as session:
        instance = find_own(session, caller, ecs_id, for_update=True)
        require_unlocked(instance)
        DETACH_ISOS.check(session, {"ecsId": ecs_id})
        present = {attachment.image_id: attachment for attachment, _ in list_isos(session, instance.id)}
        wanted = list(dict.fromkeys(image_ids)) or list(present)
        for image_id in wanted:
            if image_id not in present:
                raise StatusUnsupported(
                    f"image {image_id} is in no drive of instance {ecs_id}", f"镜像{image_id}未挂载到实例{ecs_id}"
                )
            present[image_id].state = IsoState.DETACHING
            session.add(present[image_id])
        if not wanted:
            return None
        args = {"imageIds": wanted, "force": force}
        operation_id = begin_task(session, runtime, caller, DETACH_ISOS, instance, args=args)
    runtime.wake_tasks()
    return operation_id


def _find_iso(session: Session, instance: Instance, image_id: str) -> Image:
    """Locked, so that nobody deletes it meanwhile. Who owns the instance has to be allowed to see the image."""
    image = image_query.find_image(session, image_id, instance.tenant_id, for_update=True)
    if image is None:
        raise ResourceNotFound("image", image_id)
    if image.status != "Active":
        raise ImageUnusable("imageId", f"image {image_id} is {image.status}", f"镜像{image_id}状态为{image.status}")
    if image.format != "iso":
        raise ImageUnusable("imageId", f"image {image_id} is {image.format}, not iso", f"镜像{image_id}不是ISO镜像")
    return image


def _require_absent(present: Sequence[IsoAttachment], images: Sequence[Image]) -> None:
    for image in images:
        if any(attachment.image_id == image.id for attachment in present):
            raise ResourceExists(f"image {image.id} is in a drive already", f"镜像{image.id}已挂载")


def _choose_drives(present: Sequence[IsoAttachment], wanted: int) -> list[int]:
    taken = {attachment.number for attachment in present}
    free = [number for number in range(OPTICAL_DRIVES) if number not in taken]
    if wanted > len(free):
        raise IsosTooMany(
            "imageId",
            f"the instance has {OPTICAL_DRIVES} drives, {len(free)} of them empty, and {wanted} are wanted",
            f"实例最多挂载{OPTICAL_DRIVES}个ISO，剩余{len(free)}个，本次挂载{wanted}个",
        )
    return free[:wanted]
