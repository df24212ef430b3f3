"""Makes an image of the system disk of an instance: its node copies the disk, and the copy is fetched.

Of an instance that runs it is the disk as it was at one moment; its file systems are frozen then, if its guest agent
does that.
"""

from sqlmodel import Session

from coordinator.agents.export import EXPORT_SECONDS
from coordinator.domain.instance import InstanceStatus
from coordinator.errors import StatusUnsupported
from coordinator.store.tables.volume import Volume
from coordinator.tasks.blueprint import Blueprint
from coordinator.tasks.instance_step import Args, admit, agent_of, blueprint_of, settle, settle_failure
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.volume_export import export_volume, fetch_export, remove_export, remove_file, show_failure


async def _export(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    volume, agent = system_disk(blueprint), agent_of(context, blueprint)
    quiesces = context.args.get("quiesces", True)
    return await export_volume(context, agent, volume.uuid, domain_uuid=blueprint.instance.uuid, quiesces=quiesces)


async def _remove_export(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    return await remove_export(context, agent_of(context, blueprint), blueprint.instance)


async def _fetch(context: StepContext) -> StepResult:
    return await fetch_export(context, agent_of(context, await blueprint_of(context)))


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
    show_failure(session, args, failure)
    settle_failure(session, args, failure)


CAPTURE_IMAGE = TaskKind(
    name="capture_image",
    steps=(
        Step("export", _export, undo=_remove_export, weight=4, timeout_seconds=EXPORT_SECONDS),
        Step("fetch", _fetch, undo=remove_file, weight=3, timeout_seconds=EXPORT_SECONDS),
        # The image is there, whatever becomes of this.
        Step("clean", _remove_export, point_of_no_return=True),
    ),
    check=admit("make an image", InstanceStatus.STOPPED, InstanceStatus.RUNNING),
    on_success=_finish,
    on_failure=_give_up,
)
