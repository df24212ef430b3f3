"""Images that are made of what instances hold: of a system disk as it is, or as a snapshot has kept it."""

from dataclasses import dataclass
from typing import Final

from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.identifier import Prefix
from coordinator.domain.snapshot import SnapshotStatus
from coordinator.errors import ParameterInvalid, StatusUnsupported
from coordinator.runtime import Runtime
from coordinator.services.image import settle_visibility
from coordinator.services.instance import find_own
from coordinator.services.instance_task import begin_task, require_unlocked
from coordinator.services.snapshot import find_own_snapshot
from coordinator.services.volume_key import require_plain
from coordinator.store.queries import snapshot as snapshot_query
from coordinator.store.queries.instance import list_volumes
from coordinator.store.tables import Image, Instance, Snapshot
from coordinator.tasks.kinds.capture_image import CAPTURE_IMAGE
from coordinator.tasks.kinds.capture_snapshot import CAPTURE_SNAPSHOT
from coordinator.tasks.submission import submit_task
from coordinator.tasks.volume_export import FORMAT

_NO_IMAGES: Final = ("no image is made of it", "不能制作镜像")


@dataclass(frozen=True, slots=True)
class ImageOrigin:
    """What an image is made of: the system disk of an instance, or what a snapshot, by id or number, holds of one."""

    ecs_id: str = ""
    snapshot_id: str = ""
    # Whether a guest that runs is to freeze its file systems for that moment.
    quiesces: bool = True


def capture_image(runtime: Runtime, caller: Caller, draft: Image, origin: ImageOrigin) -> tuple[Image, str]:
    """Stores `draft`, an image that is made of what `origin` says; with the operation id.

    It belongs to the instance's tenant, and runs on what the instance runs on. An instance must run or be stopped
    (StatusUnsupported), and is busy until the image is there; whose snapshot it is may do what it likes meanwhile.
    ParameterInvalid when the draft tells of another file than a node makes, or the snapshot has no system disk.
    """
    _check(draft, origin)
    with runtime.database.write() as session:
        begin = _begin_of_snapshot if origin.snapshot_id else _begin_of_instance
        operation_id = begin(session, runtime, caller, draft, origin)
    runtime.wake_tasks()
    return draft, operation_id


def _begin_of_instance(session: Session, runtime: Runtime, caller: Caller, draft: Image, origin: ImageOrigin) -> str:
    instance = find_own(session, caller, origin.ecs_id, for_update=True)
    require_unlocked(instance)
    CAPTURE_IMAGE.check(session, {"ecsId": origin.ecs_id})
    require_plain([it for it in list_volumes(session, instance) if it.is_os_disk], *_NO_IMAGES)
    _describe(session, runtime, caller, draft, instance)
    args = {"imageId": draft.id, "quiesces": origin.quiesces}
    return begin_task(session, runtime, caller, CAPTURE_IMAGE, instance, args=args)


def _begin_of_snapshot(session: Session, runtime: Runtime, caller: Caller, draft: Image, origin: ImageOrigin) -> str:
    found = find_own_snapshot(session, caller, origin.snapshot_id)
    place = _locate(session, found.row)
    _describe(session, runtime, caller, draft, find_own(session, caller, found.ecs_id))
    task = submit_task(
        session,
        runtime,
        CAPTURE_SNAPSHOT,
        args={"imageId": draft.id, **place},
        tenant_id=draft.tenant_id,
        resource_id=draft.id,
        request_id=caller.request_id,
    )
    return task.id


def _locate(session: Session, snapshot: Snapshot) -> dict[str, str]:
    """Where the snapshot's system disk can be read."""
    if snapshot.status != SnapshotStatus.AVAILABLE:
        raise StatusUnsupported(
            f"snapshot {snapshot.snapshot_id} is {snapshot.status}: nothing can be made from it",
            f"快照{snapshot.snapshot_id}状态为{snapshot.status}，不能用于创建",
        )
    parts = snapshot_query.list_parts(session, snapshot)
    volume = next((item.volume for item in parts if item.part.is_os_disk), None)
    if volume is None:
        raise ParameterInvalid("snapshotId", "the snapshot has no system disk", "快照不包含系统盘")
    require_plain([volume], *_NO_IMAGES)
    node_id = snapshot_query.node_of(session, volume)
    if node_id is None:
        raise ParameterInvalid("snapshotId", "its volume is on no node", "其云盘不在任何节点上")
    return {"snapshotId": snapshot.snapshot_id, "volumeUuid": volume.uuid, "nodeId": node_id}


def _check(draft: Image, origin: ImageOrigin) -> None:
    if origin.ecs_id and origin.snapshot_id:
        raise ParameterInvalid("snapshotId", "not together with ecsId", "不能与ecsId同时指定")
    if draft.source_url or draft.sha256 or draft.format not in ("", FORMAT):
        raise ParameterInvalid(
            "snapshotId" if origin.snapshot_id else "ecsId",
            f"no url or sha256, and no format but {FORMAT}",
            "不能同时指定url、sha256或其他格式",
        )


def _describe(session: Session, runtime: Runtime, caller: Caller, draft: Image, instance: Instance) -> None:
    """Stores the draft as an image of what the instance runs."""
    if draft.tenant_id not in (None, instance.tenant_id):
        raise ParameterInvalid("tenantId", "must be the instance's", "必须与实例所属租户一致")
    draft.tenant_id = instance.tenant_id
    settle_visibility(caller, draft)
    draft.id, draft.status, draft.format = runtime.identifiers.new(Prefix.IMAGE), "Importing", FORMAT
    draft.cpu_arch, draft.os_type = instance.architecture, instance.os_type
    if original := session.get(Image, instance.image_id) if instance.image_id else None:
        draft.platform = draft.platform or original.platform
        draft.os_version = draft.os_version or original.os_version
    session.add(draft)
    session.flush()
