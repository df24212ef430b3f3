"""Makes a volume larger; a guest that runs with it sees that at once."""

from collections.abc import Mapping
from typing import Any

from sqlmodel import Session

from coordinator.domain.instance import InstanceStatus
from coordinator.domain.unit import GIB
from coordinator.domain.volume import VolumeStatus
from coordinator.errors import ResourceNotFound
from coordinator.store.queries.volume import find_by_uuid
from coordinator.tasks.instance_step import blueprint_of, load_instance, require_status, settle, settle_failure
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.volume_step import rest_volume, undo_unless_lost

_Args = Mapping[str, Any]


async def _grow(context: StepContext) -> StepResult:
    args = context.args
    agent = context.runtime.agents.of(args["nodeId"])
    await agent.ensure_volume_grown(args["uuid"], args["sizeGib"] * GIB, args["domainUuid"])
    return StepResult(apply=lambda session: _rest(session, args, args["sizeGib"]))


async def _look(context: StepContext) -> StepResult:
    """Nothing shrinks a volume: what could not be told to have grown is asked how large it is."""
    args = context.args
    size_bytes = 0

    async def look() -> None:
        nonlocal size_bytes
        volumes = await context.runtime.agents.of(args["nodeId"]).list_volumes()
        size_bytes = next((volume.size_bytes for volume in volumes if volume.uuid == args["uuid"]), 0)

    instance = (await blueprint_of(context)).instance if args["ecsId"] else None
    await undo_unless_lost(context, instance, look())
    size_gib = max(args["oldSizeGib"], -(-size_bytes // GIB))
    return StepResult(apply=lambda session: _rest(session, args, size_gib))


def _rest(session: Session, args: _Args, size_gib: int) -> None:
    volume = find_by_uuid(session, args["uuid"])
    if volume is not None:
        volume.size_gib = size_gib
        rest_volume(session, volume)


def _check(session: Session, args: _Args) -> None:
    if find_by_uuid(session, args["uuid"]) is None:
        raise ResourceNotFound("volume", args["uuid"])
    if args["ecsId"]:
        admitted = (InstanceStatus.RUNNING, InstanceStatus.STOPPED, InstanceStatus.PAUSED)
        require_status(load_instance(session, args), "grow a volume", *admitted)


def _settle(session: Session, args: _Args) -> None:
    if args["ecsId"]:
        settle(session, args)


def _settle_failure(session: Session, args: _Args, failure: Failure) -> None:
    volume = find_by_uuid(session, args["uuid"])
    if volume is not None and volume.status == VolumeStatus.GROWING:
        # It was not even begun.
        _rest(session, args, args["oldSizeGib"])
    if args["ecsId"]:
        settle_failure(session, args, failure)


GROW_VOLUME = TaskKind(
    name="grow_volume",
    steps=(Step("grow", _grow, undo=_look),),
    check=_check,
    on_success=_settle,
    on_failure=_settle_failure,
)
