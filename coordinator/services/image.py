"""Images: registered first, then filled by an upload or from a URL."""

from collections.abc import Mapping
from pathlib import Path

from sqlmodel import Session, col, select

from coordinator.domain.caller import Caller
from coordinator.domain.identifier import Prefix
from coordinator.domain.image_format import ISO
from coordinator.domain.listing import Listing, ListQuery
from coordinator.errors import (
    AccessDenied,
    ImageInUse,
    ImageUnusable,
    ParameterInvalid,
    ResourceExists,
    ResourceNotFound,
    StatusUnsupported,
)
from coordinator.runtime import Runtime
from coordinator.services.region import check_tenant
from coordinator.store.image_file import ImageLimits, ImageWriter, remove_image_file
from coordinator.store.image_upload import ImageUpload
from coordinator.store.queries import image as queries
from coordinator.store.queries.iso import count_drives_with
from coordinator.store.queries.task import ACTIVE_STATES
from coordinator.store.tables import Image, Task
from coordinator.tasks.kinds.fetch_image import FETCH_IMAGE, activate_image
from coordinator.tasks.submission import request_cancel, submit_task

# States in which an image waits for its bytes.
_FILLABLE = frozenset({"Queued", "Error"})


def register_image(runtime: Runtime, caller: Caller, draft: Image) -> tuple[Image, Task | None]:
    """Stores `draft`, a row without id and status; with a source URL also the task that fetches it.

    Without a visibility the image is private to its tenant, and public when it belongs to none.
    """
    _settle_owner(runtime, caller, draft)
    draft.id = runtime.identifiers.new(Prefix.IMAGE)
    draft.status = "Importing" if draft.source_url else "Queued"
    with runtime.database.write() as session:
        session.add(draft)
        session.flush()
        task = _submit_fetch(session, runtime, caller, draft) if draft.source_url else None
    if task:
        runtime.wake_tasks()
    return draft, task


def begin_upload(runtime: Runtime, caller: Caller, image_id: str) -> ImageWriter:
    """A writer for the bytes of an image that has none yet; end it with `finish_upload` or its `discard`."""
    with runtime.database.read() as session:
        require_fillable(find_own_image(session, caller, image_id))
    return ImageWriter(runtime.settings.images_dir, image_id, image_limits(runtime))


def finish_upload(runtime: Runtime, caller: Caller, image_id: str, writer: ImageWriter) -> Image:
    """Makes the image active; ImageUnusable, also kept in the image, when the bytes are not what was announced.

    Of two uploads of one image, the one that finishes first wins.
    """
    announced = get_image(runtime, caller, image_id)
    try:
        facts = writer.check(announced.format, announced.sha256)
    except ImageUnusable as error:
        note_failure(runtime, caller, image_id, error)
        raise
    writer.seal()
    with runtime.database.write() as session:
        image = find_own_image(session, caller, image_id, for_update=True)
        require_fillable(image)
        activate_image(image, facts)
        session.add(image)
        session.flush()
        writer.publish()
    ImageUpload(runtime.settings.images_dir, image_id).remove()
    return image


def update_image(runtime: Runtime, caller: Caller, image_id: str, changes: Mapping[str, str]) -> Image:
    """Changes what is said of an image, by column; its bytes stay. Only operators decide what is public."""
    with runtime.database.write() as session:
        image = find_own_image(session, caller, image_id, for_update=True)
        visibility = changes.get("visibility", image.visibility)
        if caller.is_tenant and visibility == "public" != image.visibility:
            raise AccessDenied("only operators make images public", "仅运营人员可以公开镜像")
        if visibility == "private" and image.tenant_id is None:
            raise ParameterInvalid("visibility", "an image of no tenant is public", "不属于任何租户的镜像必须公开")
        for column, value in changes.items():
            setattr(image, column, value)
        session.add(image)
    return image


def image_limits(runtime: Runtime) -> ImageLimits:
    """How large images may be."""
    return ImageLimits(runtime.settings.max_image_bytes, runtime.settings.max_image_virtual_bytes)


def list_images(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[Image]:
    """Public images and the caller's own."""
    with runtime.database.read() as session:
        return queries.list_images(session, _scope(caller), query)


def get_image(runtime: Runtime, caller: Caller, image_id: str) -> Image:
    """One image that the caller may use."""
    with runtime.database.read() as session:
        return _find(session, caller, image_id)


def get_image_file(runtime: Runtime, caller: Caller, image_id: str) -> tuple[Image, Path]:
    """An active image and where its file lies."""
    image = get_image(runtime, caller, image_id)
    path = runtime.settings.images_dir / image.id
    if image.status != "Active" or not path.is_file():
        raise ImageUnusable("imageId", f"image {image_id} has no file yet", f"镜像{image_id}尚无文件")
    return image, path


def delete_image(runtime: Runtime, caller: Caller, image_id: str) -> None:
    """Deletes the image and its file; ImageInUse while instances use it. A fetch in progress is cancelled."""
    with runtime.database.write() as session:
        image = find_own_image(session, caller, image_id, for_update=True)
        # Who was installed from a disc needs it while it is in a drive, see below.
        instances = queries.count_instances_of_image(session, image_id) if image.format != ISO else 0
        if instances:
            raise ImageInUse(
                f"image {image_id} is used by {instances} instances", f"镜像{image_id}正被{instances}台虚拟机使用"
            )
        if volumes := queries.count_volumes_of_image(session, image_id):
            raise ImageInUse(
                f"image {image_id} is below {volumes} volumes: delete them first",
                f"{volumes}块云盘基于镜像{image_id}，请先删除",
            )
        if drives := count_drives_with(session, image_id):
            raise ImageInUse(
                f"image {image_id} is in the drives of {drives} instances: detach it first",
                f"镜像{image_id}已挂载到{drives}台虚拟机，请先卸载",
            )
        if image.status == "Importing" and not image.source_url:
            raise StatusUnsupported(
                f"image {image_id} is being made of an instance or snapshot: cancel that operation first",
                f"镜像{image_id}正在由实例或快照制作，请先取消该操作",
            )
        image.deleted_at = runtime.now()
        session.add(image)
        for task_id in _list_fetches(session, image_id):
            request_cancel(session, task_id)
    runtime.wake_tasks()
    ImageUpload(runtime.settings.images_dir, image_id).remove()
    remove_image_file(runtime.settings.images_dir, image_id)


def _settle_owner(runtime: Runtime, caller: Caller, draft: Image) -> None:
    if caller.is_tenant:
        if draft.tenant_id not in (None, caller.tenant_id):
            raise AccessDenied("the image would belong to another tenant", "不能为其他租户创建镜像")
        draft.tenant_id = caller.tenant_id
    if draft.tenant_id:
        check_tenant(runtime, caller, draft.tenant_id)
    settle_visibility(caller, draft)


def settle_visibility(caller: Caller, draft: Image) -> None:
    """Who may use an image of which nobody said it; AccessDenied when a tenant wants it public."""
    if caller.is_tenant and draft.visibility == "public":
        raise AccessDenied("only operators make public images", "仅运营人员可以创建公共镜像")
    draft.visibility = draft.visibility or ("private" if draft.tenant_id else "public")


def _submit_fetch(session: Session, runtime: Runtime, caller: Caller, image: Image) -> Task:
    args = {"imageId": image.id, "url": image.source_url, "format": image.format, "sha256": image.sha256}
    return submit_task(
        session,
        runtime,
        FETCH_IMAGE,
        args=args,
        tenant_id=image.tenant_id,
        resource_id=image.id,
        request_id=caller.request_id,
    )


def _list_fetches(session: Session, image_id: str) -> list[str]:
    statement = select(Task.id).where(
        Task.resource_id == image_id, Task.kind == FETCH_IMAGE.name, col(Task.state).in_(ACTIVE_STATES)
    )
    return list(session.exec(statement))


def note_failure(runtime: Runtime, caller: Caller, image_id: str, error: ImageUnusable) -> None:
    """The image shows why its bytes were not taken, and may be filled anew."""
    with runtime.database.write() as session:
        image = find_own_image(session, caller, image_id, for_update=True)
        if image.status in _FILLABLE:
            image.status, image.error_message = "Error", str(error)
            session.add(image)


def require_fillable(image: Image) -> None:
    """ResourceExists unless the image waits for its bytes."""
    if image.status not in _FILLABLE:
        raise ResourceExists(
            f"image {image.id} is {image.status}: it takes no upload",
            f"镜像{image.id}状态为{image.status}，不能上传文件",
        )


def _find(session: Session, caller: Caller, image_id: str, *, for_update: bool = False) -> Image:
    image = queries.find_image(session, image_id, _scope(caller), for_update=for_update)
    if image is None:
        raise ResourceNotFound("image", image_id)
    return image


def find_own_image(session: Session, caller: Caller, image_id: str, *, for_update: bool = False) -> Image:
    """An image that the caller may change: a tenant sees public ones, but they are not its own."""
    image = _find(session, caller, image_id, for_update=for_update)
    if caller.is_tenant and image.tenant_id != caller.tenant_id:
        raise AccessDenied("the image does not belong to the tenant", "该镜像不属于当前租户")
    return image


def _scope(caller: Caller) -> str | None:
    return caller.tenant_id if caller.is_tenant else None
