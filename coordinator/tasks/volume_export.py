"""What tasks share that make an image of a volume: its node copies it, and the copy is fetched.

`args["imageId"]` names the image, and the copy on the node.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import structlog
from sqlmodel import Session

from coordinator.agents.client import AgentCallError, AgentClient
from coordinator.store.image_file import ImageFacts, ImageLimits, ImageWriter, remove_image_file
from coordinator.store.tables import Image, Instance
from coordinator.tasks.kinds.fetch_image import activate_image
from coordinator.tasks.model import Failure, StepContext, StepResult
from coordinator.tasks.snapshot_step import CONSISTENCIES
from coordinator.tasks.volume_step import undo_unless_lost
from protos.agent.v1 import storage_pb2

FORMAT: Final = "qcow2"

log = structlog.get_logger(__name__)


async def export_volume(
    context: StepContext,
    agent: AgentClient,
    volume_uuid: str,
    *,
    domain_uuid: str = "",
    snapshot_id: str = "",
    quiesces: bool = False,
) -> StepResult:
    """The node has a copy; a repeated step finds it there, or begins anew."""

    async def report(progress: storage_pb2.VolumeExportProgress) -> None:
        await context.report_progress(progress.percent, f"copying the disk: {progress.percent}%")

    done = await agent.ensure_volume_exported(
        volume_uuid,
        context.args["imageId"],
        report,
        domain_uuid=domain_uuid,
        snapshot_id=snapshot_id,
        quiesces=quiesces,
    )
    consistency = CONSISTENCIES.get(done.consistency, "")
    result = {"sizeBytes": done.size_bytes, "sha256": done.sha256, "consistency": consistency, "reason": done.reason}
    return StepResult(result=result)


async def remove_export(context: StepContext, agent: AgentClient, instance: Instance | None) -> StepResult:
    """A node that is away is waited for, unless the instance is to run elsewhere, or the copy is of none.

    What the node does not remove is gone after two days.
    """
    removing = agent.ensure_volume_export_removed(context.args["imageId"])
    try:
        if instance is None:
            await removing
        else:
            await undo_unless_lost(context, instance, removing, agent.node_id)
    except AgentCallError as error:
        if error.transient and instance is not None:
            raise
        log.warning("image.copy_left", imageId=context.args["imageId"], code=error.code, reason=error.message)
    return StepResult()


async def fetch_export(context: StepContext, agent: AgentClient) -> StepResult:
    """The image is active. Idempotent: whatever an earlier attempt left behind is replaced."""
    image_id, copy = context.args["imageId"], context.results["export"]
    facts = await _receive(context, agent, copy)

    def activate(session: Session) -> None:
        image = session.get(Image, image_id)
        if image is not None and image.deleted_at is None:
            activate_image(image, facts)
            image.consistency, image.warning = copy.get("consistency", ""), copy.get("reason", "")
            session.add(image)

    return StepResult(apply=activate)


async def _receive(context: StepContext, agent: AgentClient, copy: Mapping[str, Any]) -> ImageFacts:
    settings, image_id = context.runtime.settings, context.args["imageId"]
    limits = ImageLimits(settings.max_image_bytes, settings.max_image_virtual_bytes)
    writer = await asyncio.to_thread(ImageWriter, settings.images_dir, image_id, limits)

    async def write(chunk: storage_pb2.VolumeExportChunk) -> None:
        await asyncio.to_thread(writer.write, chunk.data)
        percent = 100 * writer.size_bytes // max(copy["sizeBytes"], 1)
        await context.report_progress(min(percent, 100), f"{writer.size_bytes} of {copy['sizeBytes']} bytes")

    try:
        await agent.read_volume_export(image_id, write)
        if writer.size_bytes != copy["sizeBytes"]:
            raise AgentCallError("AgentCallFailed", "the copy came only in part", transient=True)
        facts = await asyncio.to_thread(writer.check, FORMAT, copy["sha256"])
        await asyncio.to_thread(writer.seal)
        await asyncio.to_thread(writer.publish)
    finally:
        await asyncio.to_thread(writer.discard)
    return facts


async def remove_file(context: StepContext) -> StepResult:
    """The coordinator has nothing of the image."""
    await asyncio.to_thread(remove_image_file, context.runtime.settings.images_dir, context.args["imageId"])
    return StepResult()


def show_failure(session: Session, args: Mapping[str, Any], failure: Failure) -> None:
    """The image says why there is none; one that was there before the copy could be cleaned away stays."""
    image = session.get(Image, args["imageId"])
    if image is not None and failure.step != "clean":
        image.status, image.error_message = "Error", "canceled" if failure.canceled else failure.message[:1023]
        session.add(image)
