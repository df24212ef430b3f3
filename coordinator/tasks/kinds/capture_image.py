"""Makes an image of the system disk of an instance: its node copies the disk, and the copy is fetched.

Of an instance that runs it is the disk as it was at one moment, as after a power failure.
"""

import asyncio
from typing import Final

import structlog
from sqlmodel import Session

from coordinator.agents.client import TRANSFER_SECONDS, AgentCallError
from coordinator.domain.instance import InstanceStatus
from coordinator.errors import StatusUnsupported
from coordinator.store.image_file import ImageFacts, ImageLimits, ImageWriter, remove_image_file
from coordinator.store.tables import Image
from coordinator.store.tables.volume import Volume
from coordinator.tasks.blueprint import Blueprint
from coordinator.tasks.instance_step import Args, admit, agent_of, blueprint_of, settle, settle_failure
from coordinator.tasks.kinds.fetch_image import activate_image
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.volume_step import undo_unless_lost
from protos.agent.v1 import storage_pb2

FORMAT: Final = "qcow2"

log = structlog.get_logger(__name__)


async def _export(context: StepContext) -> StepResult:
    """The node has a copy; a repeated step finds it there, or begins anew."""
    blueprint = await blueprint_of(context)

    async def report(progress: storage_pb2.VolumeExportProgress) -> None:
        await context.report_progress(progress.percent, f"copying the disk: {progress.percent}%")

    volume, agent = system_disk(blueprint), agent_of(context, blueprint)
    image_id, domain_uuid = context.args["imageId"], blueprint.instance.uuid
    done = await agent.ensure_volume_exported(volume.uuid, image_id, domain_uuid, report)
    return StepResult(result={"sizeBytes": done.size_bytes, "sha256": done.sha256})


async def _remove_export(context: StepContext) -> StepResult:
    """A node that is away is waited for, unless it is given up. What it does not remove is gone after two days."""
    blueprint = await blueprint_of(context)
    removing = agent_of(context, blueprint).ensure_volume_export_removed(context.args["imageId"])
    try:
        await undo_unless_lost(context, blueprint.instance, removing)
    except AgentCallError as error:
        if error.transient:
            raise
        log.warning("image.copy_left", imageId=context.args["imageId"], code=error.code, reason=error.message)
    return StepResult()


async def _fetch(context: StepContext) -> StepResult:
    """Idempotent: whatever an earlier attempt left behind is replaced."""
    image_id, facts = context.args["imageId"], await _receive(context)

    def activate(session: Session) -> None:
        image = session.get(Image, image_id)
        if image is not None and image.deleted_at is None:
            activate_image(image, facts)
            session.add(image)

    return StepResult(apply=activate)


async def _receive(context: StepContext) -> ImageFacts:
    settings, image_id, copy = context.runtime.settings, context.args["imageId"], context.results["export"]
    limits = ImageLimits(settings.max_image_bytes, settings.max_image_virtual_bytes)
    writer = await asyncio.to_thread(ImageWriter, settings.images_dir, image_id, limits)

    async def write(chunk: storage_pb2.VolumeExportChunk) -> None:
        await asyncio.to_thread(writer.write, chunk.data)
        percent = 100 * writer.size_bytes // max(copy["sizeBytes"], 1)
        await context.report_progress(min(percent, 100), f"{writer.size_bytes} of {copy['sizeBytes']} bytes")

    try:
        await agent_of(context, await blueprint_of(context)).read_volume_export(image_id, write)
        if writer.size_bytes != copy["sizeBytes"]:
            raise AgentCallError("AgentCallFailed", "the copy came only in part", transient=True)
        facts = await asyncio.to_thread(writer.check, FORMAT, copy["sha256"])
        await asyncio.to_thread(writer.seal)
        await asyncio.to_thread(writer.publish)
    finally:
        await asyncio.to_thread(writer.discard)
    return facts


async def _remove_file(context: StepContext) -> StepResult:
    await asyncio.to_thread(remove_image_file, context.runtime.settings.images_dir, context.args["imageId"])
    return StepResult()


def system_disk(blueprint: Blueprint) -> Volume:
    """The disk that the instance starts from."""
    for volume in blueprint.volumes:
        if volume.is_os_disk:
            return volume
    raise StatusUnsupported("the instance has no system disk", "实例没有系统盘")


def _finish(session: Session, args: Args) -> None:
    """The step's own transaction has activated the image."""
    settle(session, args)


def _give_up(session: Session, args: Args, failure: Failure) -> None:
    image = session.get(Image, args["imageId"])
    if image is not None and failure.step != "clean":
        image.status, image.error_message = "Error", "canceled" if failure.canceled else failure.message[:1023]
        session.add(image)
    settle_failure(session, args, failure)


CAPTURE_IMAGE = TaskKind(
    name="capture_image",
    steps=(
        Step("export", _export, undo=_remove_export, weight=4, timeout_seconds=TRANSFER_SECONDS),
        Step("fetch", _fetch, undo=_remove_file, weight=3, timeout_seconds=TRANSFER_SECONDS),
        # The image is there, whatever becomes of this.
        Step("clean", _remove_export, point_of_no_return=True),
    ),
    check=admit("make an image", InstanceStatus.STOPPED, InstanceStatus.RUNNING),
    on_success=_finish,
    on_failure=_give_up,
)
