"""Makes a volume larger; guests that run with it see that at once."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session

from coordinator.agents.client import NodeAway
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.unit import GIB
from coordinator.domain.volume import VolumeStatus
from coordinator.errors import ResourceNotFound
from coordinator.store.queries.volume import find_by_uuid
from coordinator.store.queries.volume_attachment import rest_shared
from coordinator.store.tables import Instance
from coordinator.tasks.instance_step import load_instance, require_status, settle, settle_failure
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.volume_step import rest_volume, undo_unless_lost

_Args = Mapping[str, Any]


def _guests(args: _Args) -> Sequence[Mapping[str, str]]:
    """Who has the volume; a task of an older version names one guest at most."""
    if "guests" in args:
        return args["guests"]  # type: ignore[no-any-return]  # as it was submitted
    return [{name: args[name] for name in ("ecsId", "nodeId", "domainUuid")}] if args["ecsId"] else []


async def _grow(context: StepContext) -> StepResult:
    args = context.args
    for guest in _guests(args) or [{"nodeId": args["nodeId"], "domainUuid": ""}]:
        agent = context.runtime.agents.of(guest["nodeId"])
        await agent.ensure_volume_grown(args["uuid"], args["sizeGib"] * GIB, guest["domainUuid"])
    return StepResult(apply=lambda session: _rest(session, args, args["sizeGib"]))


async def _look(context: StepContext) -> StepResult:
    """Nothing shrinks a volume: what could not be told to have grown is asked how large it is."""
    args, guest = context.args, await asyncio.to_thread(_find_guest, context)
    size_bytes = await undo_unless_lost(context, guest, _read_size(context)) or 0
    size_gib = max(args["oldSizeGib"], -(-size_bytes // GIB))
    return StepResult(apply=lambda session: _rest(session, args, size_gib))


async def _read_size(context: StepContext) -> int:
    """As the first node says that answers: all that have guests with the volume see it."""
    *others, last = dict.fromkeys([*(guest["nodeId"] for guest in _guests(context.args)), context.args["nodeId"]])
    for node_id in others:
        with contextlib.suppress(NodeAway):
            return await _read_size_at(context, node_id)
    return await _read_size_at(context, last)


async def _read_size_at(context: StepContext, node_id: str) -> int:
    volumes = await context.runtime.agents.of(node_id).list_volumes()
    return next((volume.size_bytes for volume in volumes if volume.uuid == context.args["uuid"]), 0)


def _find_guest(context: StepContext) -> Instance | None:
    """One that is highly available, and does not wait for its node."""
    with context.runtime.database.read() as session:
        guests = (load_instance(session, guest) for guest in _guests(context.args))
        return next((guest for guest in guests if guest.ha_enabled), None)


def _rest(session: Session, args: _Args, size_gib: int) -> None:
    volume = find_by_uuid(session, args["uuid"])
    if volume is not None:
        volume.size_gib = size_gib
        if volume.multi_attach:
            rest_shared(session, volume)
        else:
            rest_volume(session, volume)


def _check(session: Session, args: _Args) -> None:
    if find_by_uuid(session, args["uuid"]) is None:
        raise ResourceNotFound("volume", args["uuid"])
    for guest in _guests(args):
        admitted = (InstanceStatus.RUNNING, InstanceStatus.STOPPED, InstanceStatus.PAUSED)
        require_status(load_instance(session, guest), "grow a volume", *admitted)


def _settle(session: Session, args: _Args) -> None:
    for guest in _guests(args):
        settle(session, guest)


def _settle_failure(session: Session, args: _Args, failure: Failure) -> None:
    volume = find_by_uuid(session, args["uuid"])
    if volume is not None and volume.status == VolumeStatus.GROWING:
        # It was not even begun.
        _rest(session, args, args["oldSizeGib"])
    for guest in _guests(args):
        settle_failure(session, guest, failure)


GROW_VOLUME = TaskKind(
    name="grow_volume",
    steps=(Step("grow", _grow, undo=_look),),
    check=_check,
    on_success=_settle,
    on_failure=_settle_failure,
)
