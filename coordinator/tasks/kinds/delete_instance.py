"""Takes an instance away with everything that it holds."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from sqlmodel import Session

from coordinator.agents.device import RELEASE_SECONDS
from coordinator.domain.clock import utc_now
from coordinator.domain.event import Severity
from coordinator.domain.instance import InstanceStatus, PowerState, status_of
from coordinator.placement.claim import release
from coordinator.store.queries import instance as instance_query
from coordinator.store.queries import snapshot as snapshot_query
from coordinator.store.queries.event import record_event
from coordinator.store.queries.iso import delete_isos
from coordinator.store.queries.recycle import find_recycled, forget_recycled
from coordinator.store.queries.snapshot_policy import unbind_instance
from coordinator.store.queries.ssh_key import delete_bindings
from coordinator.store.tables import Instance, RecycledInstance
from coordinator.tasks.host_device import release_devices
from coordinator.tasks.instance_step import Args, agent_of, blueprint_of, forget_secrets, load_instance
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.shared_volume_step import keep_what_was_coming, release_shared
from coordinator.tasks.snapshot_step import Place, list_places, remove_snapshot
from coordinator.tasks.volume_step import goes_with_instance, set_free

# A node may stay away for days; what it holds of the instance is removed when it comes back.
RETRY_SECONDS = 7 * 24 * 3600.0
# Between attempts to delete what the recycle bin does not keep any longer.
FIRST_PAUSE: Final = timedelta(minutes=5)
LONGEST_PAUSE: Final = timedelta(hours=6)


def _mark_terminating(session: Session, args: Args) -> None:
    instance = load_instance(session, args)
    instance.status = InstanceStatus.TERMINATING
    session.add(instance)
    recycled = find_recycled(session, instance.id)
    if recycled is not None:
        recycled.purging = True
        session.add(recycled)


async def _remove_domain(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    # Without a node nothing was made: the creation that came before failed or was cancelled, and undid itself.
    if blueprint.instance.node_id:
        agent = agent_of(context, blueprint)
        await agent.ensure_removed(blueprint.instance.uuid)
        if blueprint.devices:
            await release_devices(context, agent, blueprint.instance.uuid)
    return StepResult()


async def _remove_volumes(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    kept, leftovers = await asyncio.to_thread(_read_remains, context)
    for snapshot_id, places in leftovers:
        await remove_snapshot(context, snapshot_id, places)
    for volume in blueprint.volumes:
        if volume.uuid not in kept and blueprint.instance.node_id:
            await agent_of(context, blueprint).ensure_volume_removed(volume.uuid)

    def apply(session: Session) -> None:
        instance = load_instance(session, context.args)
        for snapshot in snapshot_query.list_of_instance(session, instance.id):
            snapshot_query.delete_snapshot(session, snapshot)
        for volume in instance_query.list_volumes(session, instance):
            if volume.uuid not in kept:
                session.delete(volume)
            else:
                # Its data stays on the node, for the next instance that attaches it there.
                set_free(session, volume)
        release_shared(session, instance)

    return StepResult(apply=apply)


def _read_remains(context: StepContext) -> tuple[set[str], list[tuple[str, list[Place]]]]:
    """UUIDs of the volumes that stay, and where the instance's snapshots are to be removed from such volumes."""
    with context.runtime.database.read() as session:
        instance = load_instance(session, context.args)
        volumes = instance_query.list_volumes(session, instance)
        # What snapshots of other instances need stays, whatever was wished for it.
        needed = snapshot_query.find_volumes_of_others(session, instance.id, [volume.id for volume in volumes])
        kept = {it.uuid for it in volumes if not goes_with_instance(it) or it.id in needed}
        gone = {volume.uuid for volume in volumes} - kept
        snapshots = snapshot_query.list_of_instance(session, instance.id)
        return kept, [(it.snapshot_id, _places_without(list_places(session, it), gone)) for it in snapshots]


def _places_without(places: Sequence[Place], gone: set[str]) -> list[Place]:
    left = [Place(it.node_id, tuple(uuid for uuid in it.volume_uuids if uuid not in gone)) for it in places]
    return [place for place in left if place.volume_uuids]


async def _remove_ports(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    for port, _ in blueprint.ports:
        if blueprint.instance.node_id:
            await agent_of(context, blueprint).ensure_port_removed(port.id)

    def apply(session: Session) -> None:
        for port, _ in instance_query.list_ports(session, load_instance(session, context.args)):
            session.delete(port)

    return StepResult(apply=apply)


async def _release(context: StepContext) -> StepResult:
    def apply(session: Session) -> None:
        release(session, [load_instance(session, context.args).uuid])

    return StepResult(apply=apply)


def _check(session: Session, args: Args) -> None:
    load_instance(session, args)


def _mark_deleted(session: Session, args: Args) -> None:
    instance = load_instance(session, args)
    instance.deleted_at = instance.task_at = utc_now()
    instance.task_id = None
    instance.node_id = None
    instance.power_state = PowerState.ABSENT
    forget_recycled(session, instance.id)
    forget_belongings(session, instance)
    session.add(instance)


def forget_belongings(session: Session, instance: Instance) -> None:
    """What is kept for a living instance alone, beside what its node has."""
    forget_secrets(instance)
    delete_bindings(session, instance.id)
    unbind_instance(session, instance.id)
    delete_isos(session, instance.id)


def _show_reason(session: Session, args: Args, failure: Failure) -> None:
    """A deletion that was cancelled in time changed nothing; one that failed is to be asked for again."""
    instance = load_instance(session, args)
    recycled = find_recycled(session, instance.id)
    if recycled is not None:
        instance.status = InstanceStatus.SOFT_DELETED
        if not failure.canceled:
            _put_off(session, instance, recycled, failure)
    elif failure.canceled:
        keep_what_was_coming(session, instance)
        instance.status = status_of(PowerState(instance.power_state))
    instance.error_message = "deletion canceled" if failure.canceled else failure.message
    instance.task_id = None
    instance.task_at = utc_now()
    session.add(instance)


def _put_off(session: Session, instance: Instance, recycled: RecycledInstance, failure: Failure) -> None:
    """One in the recycle bin is deleted by the coordinator: it tries again, and tells that it could not."""
    recycled.failures += 1
    recycled.not_before = utc_now() + min(FIRST_PAUSE * 2 ** (recycled.failures - 1), LONGEST_PAUSE)
    session.add(recycled)
    record_event(
        session,
        "alarm.instance_not_purged",
        severity=Severity.ALARM,
        resource_type="instance",
        resource_id=instance.ecs_id,
        tenant_id=instance.tenant_id,
        node_id=instance.node_id,
        operation_id=instance.task_id,
        data={"reason": failure.message, "failures": recycled.failures, "notBefore": recycled.not_before.isoformat()},
    )


DELETE_INSTANCE = TaskKind(
    name="delete_instance",
    steps=(
        # There is no way back from a removed disk, and half an instance helps nobody: once begun it goes through.
        Step(
            "remove_domain",
            _remove_domain,
            before=_mark_terminating,
            weight=3,
            timeout_seconds=RELEASE_SECONDS,
            point_of_no_return=True,
        ),
        Step("remove_volumes", _remove_volumes, point_of_no_return=True),
        Step("remove_ports", _remove_ports, point_of_no_return=True),
        Step("release", _release, point_of_no_return=True),
    ),
    check=_check,
    on_success=_mark_deleted,
    on_failure=_show_reason,
    retry_seconds=RETRY_SECONDS,
)
