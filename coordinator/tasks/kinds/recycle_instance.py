"""Puts an instance into the recycle bin: shut off, with everything that it has, out of everybody's way."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from sqlmodel import Session

from coordinator.agents.client import AgentCallError
from coordinator.domain.clock import utc_now
from coordinator.domain.event import Severity
from coordinator.domain.instance import InstanceStatus, PowerState, status_of
from coordinator.store.queries.event import record_event
from coordinator.store.queries.recycle_setting import read_recycle_config
from coordinator.store.tables import Instance, RecycledInstance
from coordinator.tasks.instance_step import (
    GUEST_TIMEOUT_SECONDS,
    Args,
    agent_of,
    blueprint_of,
    load_instance,
    record_power_state,
    report_wait,
    rest,
    show_status,
)
from coordinator.tasks.kinds.delete_instance import RETRY_SECONDS
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.shared_volume_step import keep_what_was_coming

# Guests that are not asked, or did not listen.
_NOT_ASKED: Final = frozenset({"DomainStopTimeout", "DomainStateConflict"})
_ABSENT: Final = "DomainNotFound"


async def _stop(context: StepContext) -> StepResult:
    """The guest is off: asked first, ended when it does not obey. One that its node does not have is off, too."""
    blueprint = await blueprint_of(context)
    agent, uuid = agent_of(context, blueprint), blueprint.instance.uuid
    grace_seconds = context.runtime.settings.stop_grace.total_seconds()
    try:
        domain = await agent.ensure_stopped(uuid, False, grace_seconds, report_wait(context, grace_seconds))
    except AgentCallError as error:
        if error.code == _ABSENT:
            return StepResult(apply=_record_absence(context.args))
        if error.code not in _NOT_ASKED:
            raise
        domain = await agent.ensure_stopped(uuid, True, 0)
    return StepResult(apply=record_power_state(context.args, domain))


def _record_absence(args: Args) -> Callable[[Session], None]:
    def apply(session: Session) -> None:
        instance = load_instance(session, args)
        instance.power_state = PowerState.ABSENT
        session.add(instance)

    return apply


def _check(session: Session, args: Args) -> None:
    load_instance(session, args)


def _keep(session: Session, args: Args) -> None:
    """From now on it is in the bin, for as long as the configuration says at this moment."""
    instance, now = load_instance(session, args), utc_now()
    assert instance.id is not None  # noqa: S101 (it is stored)
    recycled = RecycledInstance(
        instance_id=instance.id,
        recycled_at=now,
        purge_at=now + timedelta(days=read_recycle_config(session).freeze_days),
        status_before=args["statusBefore"],
    )
    session.add(recycled)
    keep_what_was_coming(session, instance)
    _tell(session, instance, recycled)
    instance.status = InstanceStatus.SOFT_DELETED
    instance.error_message = ""
    instance.task_id = None
    instance.task_at = now
    session.add(instance)


def _tell(session: Session, instance: Instance, recycled: RecycledInstance) -> None:
    record_event(
        session,
        "instance.recycled",
        severity=Severity.INFO,
        resource_type="instance",
        resource_id=instance.ecs_id,
        tenant_id=instance.tenant_id,
        node_id=instance.node_id,
        operation_id=instance.task_id,
        data={"purgeAt": recycled.purge_at.isoformat()},
    )


def _show_reason(session: Session, args: Args, failure: Failure) -> None:
    """It is where it was, off perhaps; who still wants it gone asks again."""
    instance = load_instance(session, args)
    keep_what_was_coming(session, instance)
    instance.status = status_of(PowerState(instance.power_state))
    rest(session, instance, instance.status, "deletion canceled" if failure.canceled else failure.message)


RECYCLE_INSTANCE = TaskKind(
    name="recycle_instance",
    steps=(Step("stop", _stop, before=show_status(InstanceStatus.TERMINATING), timeout_seconds=GUEST_TIMEOUT_SECONDS),),
    check=_check,
    on_success=_keep,
    on_failure=_show_reason,
    retry_seconds=RETRY_SECONDS,
)
