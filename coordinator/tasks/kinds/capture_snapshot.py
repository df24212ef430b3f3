"""Makes an image of what a snapshot holds of a system disk; the instance goes on, and may be changed meanwhile.

The node where the disk was when the task began makes the copy: a snapshot that leaves it, or is deleted, before the
copy has begun ends the task.
"""

from sqlmodel import Session

from coordinator.agents.client import AgentClient
from coordinator.agents.export import EXPORT_SECONDS
from coordinator.errors import ResourceNotFound
from coordinator.store.tables import Image
from coordinator.tasks.instance_step import Args
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.volume_export import export_volume, fetch_export, remove_export, remove_file, show_failure


def _agent(context: StepContext) -> AgentClient:
    return context.runtime.agents.of(context.args["nodeId"])


async def _export(context: StepContext) -> StepResult:
    volume_uuid, snapshot_id = context.args["volumeUuid"], context.args["snapshotId"]
    return await export_volume(context, _agent(context), volume_uuid, snapshot_id=snapshot_id)


async def _remove_export(context: StepContext) -> StepResult:
    return await remove_export(context, _agent(context), None)


async def _fetch(context: StepContext) -> StepResult:
    return await fetch_export(context, _agent(context))


def _check(session: Session, args: Args) -> None:
    if session.get(Image, args["imageId"]) is None:
        raise ResourceNotFound("image", args["imageId"])


def _finish(session: Session, args: Args) -> None:
    """The step's own transaction has activated the image."""


def _give_up(session: Session, args: Args, failure: Failure) -> None:
    show_failure(session, args, failure)


CAPTURE_SNAPSHOT = TaskKind(
    name="capture_snapshot",
    steps=(
        Step("export", _export, undo=_remove_export, weight=4, timeout_seconds=EXPORT_SECONDS),
        Step("fetch", _fetch, undo=remove_file, weight=3, timeout_seconds=EXPORT_SECONDS),
        # The image is there, whatever becomes of this.
        Step("clean", _remove_export, point_of_no_return=True),
    ),
    check=_check,
    on_success=_finish,
    on_failure=_give_up,
)
