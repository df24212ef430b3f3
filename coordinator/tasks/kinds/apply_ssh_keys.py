"""Brings a running guest to what the bindings of its instance say.

`args["action"]` is "bind" or "unbind" for a caller's wish, which then concerns `args["keyPairId"]` and counts only when
the guest took it, or "apply" for what is still to be told from before. Whatever half reached the guest stays an open
binding, which is told again when the guest agent next answers: so no guest is needed to undo anything.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlmodel import Session

from coordinator.agents.guest import GuestSession
from coordinator.domain.clock import utc_now
from coordinator.domain.event import Severity
from coordinator.domain.instance import InstanceStatus, PowerState, status_of
from coordinator.domain.ssh_key import OPEN_STATES, BindingState, blob_of
from coordinator.store.queries import ssh_key as queries
from coordinator.store.queries.event import record_event
from coordinator.store.tables.instance import Instance
from coordinator.store.tables.ssh_key import SshKeyBinding
from coordinator.tasks.blueprint import Blueprint
from coordinator.tasks.guest_access import apply_change, plan_change
from coordinator.tasks.instance_step import Args, admit, agent_of, blueprint_of, load_instance, rest
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind

_FIRST_PAUSE: Final = timedelta(seconds=5)
_ALARMING_FAILURES: Final = 5
_CHANGE: Final = "change_guest"


async def _ask(context: StepContext) -> StepResult:
    """Nothing is changed yet: a guest without an agent leaves everything as it was."""
    guest = open_guest(context, await blueprint_of(context))
    await guest.call("guest-ping")
    return StepResult()


async def _change(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    bindings = await asyncio.to_thread(_read_bindings, context, blueprint.instance.id)
    await apply_change(open_guest(context, blueprint), plan_change(bindings))
    return StepResult()


def open_guest(context: StepContext, blueprint: Blueprint) -> GuestSession:
    """The guest agent of the task's instance."""
    return GuestSession(agent_of(context, blueprint), blueprint.instance.uuid)


def rest_unchanged(session: Session, instance: Instance) -> None:
    """No task works on the instance any more. A guest that does not do as it is told is not unwell for that."""
    rest(session, instance, status_of(PowerState(instance.power_state)), instance.error_message)


def drop_inline_key(instance: Instance, line: str) -> None:
    """A key that was also given when the instance was ordered opens it no more."""
    kept = [other for other in instance.ssh_public_keys if blob_of(other) != blob_of(line)]
    if kept != instance.ssh_public_keys:
        instance.ssh_public_keys = kept


def _read_bindings(context: StepContext, instance_id: int | None) -> Sequence[SshKeyBinding]:
    with context.runtime.database.read() as session:
        return queries.list_bindings(session, instance_id)


def _settle(session: Session, args: Args) -> None:
    """Nobody else changes bindings while the task works on their instance: all that are open were told."""
    instance = load_instance(session, args)
    for binding in queries.list_bindings(session, instance.id):
        if binding.state == BindingState.REMOVING:
            drop_inline_key(instance, binding.public_key)
            session.delete(binding)
            continue
        binding.state = BindingState.BOUND
        binding.failures, binding.not_before = 0, None
        session.add(binding)
    rest_unchanged(session, instance)


def _settle_failure(session: Session, args: Args, failure: Failure) -> None:
    instance = load_instance(session, args)
    is_touched = failure.step == _CHANGE
    if args["action"] != "apply":
        binding = queries.find_binding(session, instance.id, args["keyPairId"])
        if binding is not None:
            is_inline = blob_of(binding.public_key) in map(blob_of, instance.ssh_public_keys)
            # A key that came with the order as well opened the instance before.
            _take_back(session, binding, args["previous"], is_touched=is_touched and not is_inline)
    for binding in queries.list_bindings(session, instance.id):
        if binding.state in OPEN_STATES:
            _put_off(binding)
            session.add(binding)
            if binding.failures == _ALARMING_FAILURES:
                _raise_alarm(session, instance, binding, failure)
    rest_unchanged(session, instance)


def _raise_alarm(session: Session, instance: Instance, binding: SshKeyBinding, failure: Failure) -> None:
    """A key that shall open a guest no more, and still does, is nothing to be found out by chance."""
    record_event(
        session,
        "alarm.ssh_key_not_applied",
        severity=Severity.ALARM,
        resource_type="instance",
        resource_id=instance.ecs_id,
        tenant_id=instance.tenant_id,
        node_id=instance.node_id,
        data={"keyPairId": binding.ssh_key_id, "wanted": binding.state, "reason": failure.message},
    )


def _take_back(session: Session, binding: SshKeyBinding, previous: dict[str, Any] | None, *, is_touched: bool) -> None:
    """The binding as it was before the wish; open if the guest may have heard of it."""
    if previous is None:
        if is_touched:
            binding.state = BindingState.REMOVING
            session.add(binding)
        else:
            session.delete(binding)
            session.flush()
        return
    binding.password_auth = previous["passwordAuth"]
    binding.bound_at = datetime.fromisoformat(previous["boundAt"])
    was = BindingState(previous["state"])
    binding.state = BindingState.PENDING if is_touched and was == BindingState.BOUND else was
    session.add(binding)


def _put_off(binding: SshKeyBinding) -> None:
    binding.failures += 1
    pause = _FIRST_PAUSE * 2 ** min(binding.failures - 1, 10)
    binding.not_before = utc_now() + min(pause, queries.LONGEST_PAUSE)


APPLY_SSH_KEYS = TaskKind(
    name="apply_ssh_keys",
    steps=(Step("ask_guest", _ask), Step(_CHANGE, _change, weight=4)),
    check=admit("change SSH keys", InstanceStatus.RUNNING),
    on_success=_settle,
    on_failure=_settle_failure,
    retry_seconds=120.0,
)
