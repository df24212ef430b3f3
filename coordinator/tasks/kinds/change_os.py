"""Gives an instance a system disk made from another image; everything else of it stays.

The old disk stays until the new system has booted: until then everything can be put back.
"""

import asyncio
import json
import time
from dataclasses import replace
from typing import Final

from sqlmodel import Session, select

from coordinator.agents.client import IMAGE_SECONDS, AgentCallError, AgentClient
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.volume import VolumeStatus
from coordinator.placement.claim import exchange, release
from coordinator.store.queries.iso import list_isos
from coordinator.store.queries.volume import find_by_uuid
from coordinator.store.tables.image import Image
from coordinator.store.tables.instance import Instance
from coordinator.store.tables.task import Task
from coordinator.store.tables.volume import Volume
from coordinator.tasks.blueprint import Blueprint, domain_spec, image_ref, read_blueprint, volume_size_bytes
from coordinator.tasks.instance_step import (
    GUEST_TIMEOUT_SECONDS,
    Args,
    admit,
    agent_of,
    blueprint_of,
    load_instance,
    record_power_state,
    report_wait,
    settle,
    settle_failure,
    show_status,
    start_again,
)
from coordinator.tasks.kinds.delete_volume import DELETE_VOLUME
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.submission import submit_follow_up
from coordinator.tasks.volume_step import is_given_up, record_backends, start_unless_lost, undo_unless_lost
from protos.agent.v1 import domain_pb2, storage_pb2

# The node may stay away for days; what it holds of the old system is removed when it comes back.
_REMOVAL_SECONDS: Final = 7 * 24 * 3600.0
_LOOK_SECONDS: Final = 2.0
_ASK_SECONDS: Final = 15.0
_FAILED: Final = "ECS.OperationFailed.ChangeOS"
_ROOT: Final = ("", "root")


async def new_blueprint(context: StepContext) -> Blueprint:
    """The instance with its new system disk, image and password."""

    def read() -> Blueprint:
        args = context.args
        with context.runtime.database.read() as session:
            blueprint = read_blueprint(session, args)
            image, volume = session.get(Image, args["imageId"]), find_by_uuid(session, args["newUuid"])
            assert volume is not None  # noqa: S101 - nobody removes it while its task runs
            # What is changed from here on is stored nowhere.
            session.expunge_all()
            _apply_system(blueprint.instance, args)
            for attachment, _ in blueprint.isos:
                attachment.is_boot = False
            others = [it for it in blueprint.volumes if it.uuid not in (args["oldUuid"], args["newUuid"])]
            return replace(blueprint, image=image, volumes=(volume, *others))

    return await asyncio.to_thread(read)


def _apply_system(instance: Instance, args: Args) -> None:
    instance.image_id, instance.os_type = args["imageId"], args["osType"]
    instance.password_hash = args["passwordHash"]


async def _ensure_image(context: StepContext) -> StepResult:
    blueprint = await new_blueprint(context)

    async def report(progress: storage_pb2.ImageProgress) -> None:
        percent = 100 * progress.done_bytes // max(progress.total_bytes, 1)
        await context.report_progress(percent, f"image: {progress.done_bytes} of {progress.total_bytes} bytes")

    if blueprint.image:
        await agent_of(context, blueprint).ensure_image_cached(image_ref(blueprint.image), report)
    return StepResult()


async def _ensure_volume(context: StepContext) -> StepResult:
    blueprint = await new_blueprint(context)
    volume, image = blueprint.volumes[0], blueprint.image
    made = await agent_of(context, blueprint).ensure_volume(
        *(volume.uuid, volume_size_bytes(volume), volume.volume_type, image_ref(image) if image else None),
        encrypted=volume.is_encrypted,
    )
    return StepResult(apply=lambda session: record_backends(session, [made]))


async def _remove_volume(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    removal = agent_of(context, blueprint).ensure_volume_removed(context.args["newUuid"])
    await undo_unless_lost(context, blueprint.instance, removal)
    return StepResult()


async def _stop(context: StepContext) -> StepResult:
    if not context.args["runs"]:
        return StepResult()
    blueprint = await blueprint_of(context)
    grace_seconds = context.runtime.settings.stop_grace.total_seconds()
    domain = await agent_of(context, blueprint).ensure_stopped(
        blueprint.instance.uuid, False, grace_seconds, report_wait(context, grace_seconds)
    )
    return StepResult(apply=record_power_state(context.args, domain))


async def _restore(context: StepContext) -> StepResult:
    """The guest has its old disk, and runs if it did."""
    instance = (await blueprint_of(context)).instance
    return await start_unless_lost(context, instance, start_again(context), runs=context.args["runs"])


async def _define(context: StepContext) -> StepResult:
    blueprint = await new_blueprint(context)
    await agent_of(context, blueprint).ensure_defined(domain_spec(blueprint, context.runtime))
    return StepResult()


async def _start(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    domain = await agent_of(context, blueprint).ensure_running(blueprint.instance.uuid)
    return StepResult(apply=record_power_state(context.args, domain))


async def _stop_again(context: StepContext) -> StepResult:
    """What has come of the new system is nothing that has to be asked."""
    blueprint = await blueprint_of(context)
    stopping = agent_of(context, blueprint).ensure_stopped(blueprint.instance.uuid, True, 0.0)
    domain = await undo_unless_lost(context, blueprint.instance, stopping)
    return StepResult(apply=record_power_state(context.args, domain)) if domain else StepResult()


async def _verify(context: StepContext) -> StepResult:
    """The new system is up: its guest agent answers, or none is expected and it has run for long enough."""
    blueprint = await blueprint_of(context)
    agent, uuid = agent_of(context, blueprint), blueprint.instance.uuid
    grace_seconds = context.runtime.settings.new_system_grace.total_seconds()
    began = time.monotonic()
    while (elapsed := time.monotonic() - began) < grace_seconds:
        if (await agent.get_domain(uuid)).power_state != domain_pb2.POWER_STATE_RUNNING:
            raise AgentCallError(_FAILED, "the new system does not run on: the old one is back", transient=False)
        if (await agent.probe_guest(uuid)).state == domain_pb2.GUEST_AGENT_STATE_RUNNING:
            await _set_password(context, agent, uuid)
            return StepResult()
        percent = min(99, int(100 * elapsed / grace_seconds))
        await context.report_progress(percent, f"waiting for the new system: {elapsed:.0f} s")
        await asyncio.sleep(_LOOK_SECONDS)
    if context.args["expectsGuestAgent"] or context.args["user"] not in _ROOT:
        reason = f"no guest agent answers in the new system within {grace_seconds:.0f} s: the old one is back"
        raise AgentCallError(_FAILED, reason, transient=False)
    return StepResult()


async def _set_password(context: StepContext, agent: AgentClient, uuid: str) -> None:
    """Root and the default user have it from the seed; any other account has to be there."""
    user = context.args["user"]
    if user in _ROOT:
        return
    encoded = context.runtime.secrets.decrypt(context.args["password"])
    arguments = {"username": user, "password": encoded, "crypted": False}
    command = json.dumps({"execute": "guest-set-user-password", "arguments": arguments})
    await agent.run_guest_command(uuid, command, _ASK_SECONDS)


async def _remove_old(context: StepContext) -> StepResult:
    """The new system is in effect. A disk that its node does not remove is left to a task of its own, and so is one of
    a lost node, for which an instance that is to be started elsewhere does not wait.
    """
    blueprint, uuid = await blueprint_of(context), context.args["oldUuid"]
    is_gone = True
    try:
        await agent_of(context, blueprint).ensure_volume_removed(uuid)
    except AgentCallError as error:
        if error.transient and not await is_given_up(context, blueprint.instance):
            raise
        is_gone = False

    def apply(session: Session) -> None:
        volume = find_by_uuid(session, uuid)
        if volume is not None and is_gone:
            session.delete(volume)
        elif volume is not None:
            _remove_apart(session, volume)

    return StepResult(apply=apply)


def _remove_apart(session: Session, volume: Volume) -> None:
    args = {"uuid": volume.uuid, "nodeId": volume.node_id}
    submit_follow_up(session, DELETE_VOLUME, args=args, resource_id=f"volume-{volume.uuid}")


def _take_over(session: Session, args: Args) -> None:
    """The new disk is the instance's, and the old one nobody's: from here on there is no way back."""
    instance, new = load_instance(session, args), find_by_uuid(session, args["newUuid"])
    if new is None or new.instance_id == instance.id:
        return
    assert instance.node_id is not None  # noqa: S101 - it stays while its task runs
    exchange(session, instance.node_id, instance.uuid, args["reserveUuid"], args["amounts"], is_full=False)
    old = find_by_uuid(session, args["oldUuid"])
    new.instance_id, new.node_id, new.status, new.is_os_disk = instance.id, instance.node_id, VolumeStatus.IN_USE, True
    session.add(new)
    if old is not None:
        _set_aside(session, old)
    _apply_system(instance, args)
    session.add(instance)
    # It starts from its new system, not from the disc that an older one was installed from.
    for attachment, _ in list_isos(session, instance.id):
        attachment.is_boot = False
        session.add(attachment)


def _set_aside(session: Session, volume: Volume) -> None:
    volume.instance_id, volume.status, volume.is_os_disk = None, VolumeStatus.DELETING, False
    session.add(volume)


def _forget_password(session: Session, args: Args) -> None:
    """The row of the task stays for a while; what the guest keeps secret does not."""
    # The instance may show the deletion by now that has overtaken it.
    of_instance = select(Task).where(Task.kind == CHANGE_OS.name, Task.resource_id == args["ecsId"])
    for task in session.exec(of_instance):
        if task.args["newUuid"] == args["newUuid"]:
            task.args = {**task.args, "password": "", "passwordHash": ""}
            session.add(task)


def _settle(session: Session, args: Args) -> None:
    _forget_password(session, args)
    settle(session, args)


def _let_go(session: Session, args: Args, failure: Failure) -> None:
    """After the undoing; of an instance that has its new disk only the old one is left somewhere."""
    release(session, [args["reserveUuid"]])
    new, old = find_by_uuid(session, args["newUuid"]), find_by_uuid(session, args["oldUuid"])
    if new is not None and new.instance_id is None:
        session.delete(new)
    elif old is not None and old.instance_id is None:
        _remove_apart(session, old)
    _forget_password(session, args)
    settle_failure(session, args, failure)


CHANGE_OS = TaskKind(
    name="change_os",
    steps=(
        Step("ensure_image", _ensure_image, weight=4, timeout_seconds=IMAGE_SECONDS),
        Step("ensure_volume", _ensure_volume, undo=_remove_volume),
        Step(
            "stop",
            _stop,
            undo=_restore,
            before=show_status(InstanceStatus.PROVISIONING),
            timeout_seconds=GUEST_TIMEOUT_SECONDS,
        ),
        Step("define", _define),
        Step("start", _start, undo=_stop_again),
        Step("verify", _verify, weight=4, timeout_seconds=GUEST_TIMEOUT_SECONDS),
        Step("remove_old", _remove_old, before=_take_over, point_of_no_return=True, retry_seconds=_REMOVAL_SECONDS),
    ),
    check=admit("change the system", InstanceStatus.RUNNING, InstanceStatus.STOPPED),
    on_success=_settle,
    on_failure=_let_go,
)
