"""What snapshot policies are due for is taken: each once, some at a time.

When a policy is due its instances are marked, in the transaction that moves it on to its next time; each mark goes in
the transaction that begins its snapshot. So nothing is taken twice, and what a crash interrupts is taken afterwards.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from sqlmodel import Session

from coordinator.domain.caller import Caller, Role
from coordinator.domain.event import Severity
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.snapshot import MAXIMUM_SNAPSHOT_NAME, SnapshotOrder, SnapshotStatus, SnapshotType
from coordinator.errors import CoordinatorError, ServiceUnavailable, StatusUnsupported
from coordinator.runtime import Runtime
from coordinator.services.due_time import DueSweep, last_due, next_due
from coordinator.services.instance import find_own_batch
from coordinator.services.slots import choose
from coordinator.services.snapshot import begin_snapshot
from coordinator.services.snapshot_policy import times_of
from coordinator.store.queries import snapshot_policy as queries
from coordinator.store.queries.event import record_event
from coordinator.store.queries.instance import lock_tasks_of
from coordinator.store.tables import Instance, SnapshotPolicy, SnapshotPolicyBinding

# However many are due at midnight: a snapshot stops writes for a moment, and nodes have other work.
MOST_AT_ONCE: Final = 16
MOST_OF_NODE: Final = 2
# An instance that is busy, or being started, is asked again then.
_BUSY_PAUSE: Final = timedelta(seconds=30)
_SELF: Final = Caller("snapshot-policy", Role.OPERATOR)

log = structlog.get_logger(__name__)


class SnapshotPolicySweep(DueSweep):
    """The repeated look at snapshot policies. Answers the ids of instances whose snapshot was begun."""

    noun = "snapshot_policy"

    def find_due(self, session: Session, now: datetime) -> Sequence[str]:
        """Ids of policies that are due."""
        return queries.find_due(session, now)

    def run_due(self, session: Session, due_id: str) -> bool:
        """Marks the policy's instances."""
        return mark_due(session, self._runtime, due_id)

    def __call__(self) -> list[str]:
        """Begins the snapshots whose turn it is."""
        if not self._runtime.database.lead():
            return []
        self._give_up()
        super().__call__()
        begun = [ecs_id for ecs_id in self._find_next() if self._begin_safely(ecs_id)]
        if begun:
            self._runtime.wake_tasks()
        return begun

    def _give_up(self) -> None:
        before = self._runtime.now() - self._runtime.settings.schedule_catch_up
        with self._runtime.database.read() as session:
            overdue = queries.find_overdue(session, before)
        for ecs_id in overdue:
            with self._runtime.database.write() as session:
                taken = _lock(session, ecs_id)
                if taken is not None:
                    instance, binding = taken
                    _fail(session, instance, binding)

    def _find_next(self) -> list[str]:
        with self._runtime.database.read() as session:
            waiting = queries.find_waiting(session, self._runtime.now())
            running = queries.count_in_status(session, SnapshotStatus.CREATING) if waiting else {}
        return choose(self._setbacks.pass_over(waiting), running, most=MOST_AT_ONCE, most_of_node=MOST_OF_NODE)

    def _begin_safely(self, ecs_id: str) -> bool:
        with self._setbacks.noting(ecs_id, "snapshot_policy.failed"):
            return self._begin(ecs_id)
        return False

    def _begin(self, ecs_id: str) -> bool:
        try:
            with self._runtime.database.write() as session:
                return begin_due(session, self._runtime, ecs_id)
        except CoordinatorError as error:
            # What the refused snapshot had written is undone; that it was refused is kept.
            with self._runtime.database.write() as session:
                _note_refusal(session, self._runtime, ecs_id, error)
            return False


def mark_due(session: Session, runtime: Runtime, policy_id: str) -> bool:
    """Marks the instances of a policy that is due, and moves it on to its next time; False when it is not due."""
    row, now = queries.lock_policy(session, policy_id), runtime.now()
    if row is None or not row.enabled or row.next_at is None or row.next_at > now:
        return False
    times = times_of(row)
    due_at = last_due(times, row.next_at, now, runtime.settings.schedule_catch_up)
    if due_at is None:
        _tell_policy(session, row, "snapshot_policy.missed", Severity.WARNING, dueAt=row.next_at.isoformat())
    else:
        for instance, binding in queries.list_pending(session, row):
            # Two at once help nobody.
            _fail(session, instance, binding)
        session.flush()
        count = queries.mark_due(session, row, due_at)
        _tell_policy(session, row, "snapshot_policy.ran", Severity.INFO, dueAt=due_at.isoformat(), instances=count)
    row.next_at = next_due(times, now, None)
    session.add(row)
    return True


def begin_due(session: Session, runtime: Runtime, ecs_id: str) -> bool:
    """Begins the snapshot that is due of an instance; False when none is any more."""
    taken = _lock(session, ecs_id)
    if taken is None:
        return False
    instance, binding = taken
    if instance.status == InstanceStatus.SOFT_DELETED:
        binding.due_at = None
        return False
    policy = session.get_one(SnapshotPolicy, binding.policy_id)
    created = begin_snapshot(session, runtime, _SELF, instance, _order(runtime, policy, binding))
    binding.last_due_at, binding.due_at, binding.not_before = binding.due_at, None, None
    binding.last_snapshot_id, binding.last_error = created.row.snapshot_id, ""
    session.add(binding)
    log.info("snapshot_policy.begun", ecsId=ecs_id, operationId=created.operation_id)
    return True


def _order(runtime: Runtime, policy: SnapshotPolicy, binding: SnapshotPolicyBinding) -> SnapshotOrder:
    due_at = binding.due_at or runtime.now()
    suffix = due_at.astimezone(times_of(policy).zone).strftime("-%Y%m%d-%H%M")
    keeps = timedelta(minutes=policy.keep_minutes)
    return SnapshotOrder(
        name=policy.name[: MAXIMUM_SNAPSHOT_NAME - len(suffix)].rstrip() + suffix,
        type=SnapshotType.AUTO,
        expires_at=runtime.now() + keeps if keeps else None,
    )


def _lock(session: Session, ecs_id: str) -> tuple[Instance, SnapshotPolicyBinding] | None:
    """The instance and its binding, if a snapshot is due."""
    # Tasks are locked before instances, as the engine does it.
    lock_tasks_of(session, [ecs_id])
    try:
        [instance] = find_own_batch(session, _SELF, [ecs_id], recycled=True)
    except CoordinatorError:
        return None
    binding = queries.find_binding(session, instance.id)
    return None if binding is None or binding.due_at is None else (instance, binding)


def _note_refusal(session: Session, runtime: Runtime, ecs_id: str, error: CoordinatorError) -> None:
    taken = _lock(session, ecs_id)
    if taken is None:
        return
    instance, binding = taken
    if isinstance(error, StatusUnsupported | ServiceUnavailable):
        binding.not_before, binding.last_error = runtime.now() + _BUSY_PAUSE, error.message.en
        session.add(binding)
    else:
        _fail(session, instance, binding, error.message.en)


def _fail(session: Session, instance: Instance, binding: SnapshotPolicyBinding, reason: str = "") -> None:
    """The instance goes without this one; the next time it is its turn again."""
    due_at = binding.due_at
    reason = reason or binding.last_error or "its turn did not come: its node was away or busy, or itself"
    binding.last_due_at, binding.due_at, binding.not_before = due_at, None, None
    binding.last_snapshot_id, binding.last_error = "", reason
    session.add(binding)
    if instance.status != InstanceStatus.SOFT_DELETED:
        record_event(
            session,
            "snapshot_policy.failed",
            severity=Severity.WARNING,
            resource_type="instance",
            resource_id=instance.ecs_id,
            tenant_id=instance.tenant_id,
            node_id=instance.node_id,
            data={"dueAt": due_at.isoformat() if due_at else "", "reason": reason},
        )


def _tell_policy(session: Session, row: SnapshotPolicy, kind: str, severity: Severity, **data: Any) -> None:
    record_event(
        session,
        kind,
        severity=severity,
        resource_type="snapshot_policy",
        resource_id=row.policy_id,
        tenant_id=row.tenant_id,
        data={"name": row.name, **data},
    )
