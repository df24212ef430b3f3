"""The engine's transactions. Each checks the fencing number first: a stale runner cannot commit.

The result of an act and the intent of the next one are one transaction, so a task of n steps costs n + 1 commits.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import CursorResult, Executable, delete, update
from sqlmodel import Session, col, select

from coordinator.domain.clock import Clock
from coordinator.domain.task import StepPhase, StepState, TaskState
from coordinator.store.database import Database
from coordinator.store.queries.task import (
    Candidate,
    find_cancel_requests,
    find_candidates,
    find_expired,
    list_steps,
    lock_free_task,
    lock_own_task,
)
from coordinator.store.tables.task import Task, TaskStep
from coordinator.tasks.fault import Fault, fault_of
from coordinator.tasks.model import Failure, StepResult, TaskKind
from coordinator.tasks.plan import Act, End, is_unwinding, next_act, progress_percent

LEASE_SECONDS: Final = 8.0
# As long as deletions wait for what they have to remove.
UNDO_SECONDS: Final = 7 * 24 * 3600.0
_FIRST_RETRY_SECONDS: Final = 0.5
_LAST_RETRY_SECONDS: Final = 15.0
_PRUNE_BATCH: Final = 200

OnCommit = Callable[[str], None]


class LeaseLost(Exception):
    """Another coordinator took the task over, or it has ended."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A task as the last commit left it, and the act whose intent that commit wrote down."""

    task: Task
    steps: list[TaskStep]
    kind: TaskKind
    act: Act | End

    @property
    def is_settled(self) -> bool:
        """Whether the task has ended or is parked."""
        return isinstance(self.act, End)


@dataclass(slots=True)
class _Transition:
    """One transaction over one task; `points` name for tests what it commits."""

    session: Session
    task: Task
    steps: list[TaskStep]
    kind: TaskKind
    points: list[str]

    def mark(self, place: str) -> None:
        self.points.append(f"{self.kind.name}.{place}")

    def lease(self, act: Act | End) -> Lease:
        return Lease(self.task, self.steps, self.kind, act)

    def try_hook(self, hook: Callable[..., None], *arguments: object) -> Fault | None:
        """Runs a kind's own code in a savepoint; what it changed is undone when it fails."""
        try:
            with self.session.begin_nested():
                hook(self.session, *arguments)
        except Exception as error:
            return fault_of(error)
        return None

    def fail(self, step: TaskStep, fault: Fault) -> None:
        """The step failed for good; the first failure is what the task is told to have failed of."""
        step.state = StepState.FAILED
        step.error = step.error or fault.message
        if not self.task.error_code:
            self.task.error_code = fault.code
            self.task.error_message = fault.message


class Ledger:
    """The tables of tasks, as one engine (`owner`) works on them. Blocking: call it from threads."""

    def __init__(self, database: Database, now: Clock, owner: str, on_commit: OnCommit) -> None:
        self._database = database
        self._now = now
        self._owner = owner
        self._on_commit = on_commit

    def find_work(
        self, kinds: Collection[str], running: Collection[str], limit: int
    ) -> tuple[list[Candidate], set[str]]:
        """Tasks that may be taken, and those of the running ones whose cancellation was asked for."""
        with self._database.read() as session:
            # Of those running here none counts as free, even if its lease could not be renewed in time.
            found = find_candidates(session, self._now(), kinds, limit + len(running))
            candidates = [candidate for candidate in found if candidate.id not in running][:limit]
            return candidates, find_cancel_requests(session, running) if running else set()

    def take(self, task_id: str, kind: TaskKind) -> Lease | None:
        """Leases a task and writes down the intent of its next act; None when another was faster."""
        points: list[str] = []
        with self._commit(points) as session:
            now = self._now()
            task = lock_free_task(session, task_id, now)
            if task is None:
                return None
            task.lease_owner = self._owner
            task.lease_expires_at = now + timedelta(seconds=LEASE_SECONDS)
            task.fencing += 1
            transition = _Transition(session, task, list_steps(session, task_id), kind, points)
            return transition.lease(self._proceed(transition))

    def record_done(self, lease: Lease, act: Act, result: StepResult) -> Lease:
        """The act succeeded: its result, the rows that it changes, and the intent of the next."""
        with self._transition(lease) as transition:
            step = self._finish_act(transition, act)
            fault = transition.try_hook(result.apply) if result.apply else None
            if fault:
                transition.fail(step, fault)
            else:
                step.state = StepState.DONE
                if act.phase == StepPhase.DO:
                    step.result = result.result
            return transition.lease(self._proceed(transition))

    def record_failed(self, lease: Lease, act: Act, fault: Fault) -> Lease:
        """The act failed for good: what was done is undone next, or a failed undo parks the task."""
        with self._transition(lease) as transition:
            self._fail_act(transition, act, fault)
            return transition.lease(self._proceed(transition))

    def record_canceled(self, lease: Lease, act: Act) -> Lease:
        """The act was interrupted because cancellation was asked for."""
        with self._transition(lease) as transition:
            step = self._finish_act(transition, act)
            step.state, step.error = StepState.FAILED, "canceled"
            return transition.lease(self._proceed(transition))

    def record_transient(self, lease: Lease, act: Act, fault: Fault, jitter: float) -> tuple[Lease, float | None]:
        """The act failed, but may succeed later: the task is let go until then.

        Answers the delay in seconds; None when the kind's patience is over, and the act counts as failed.
        """
        with self._transition(lease) as transition:
            task, now = transition.task, self._now()
            task.retrying_since = task.retrying_since or now
            if (now - task.retrying_since).total_seconds() >= _patience_seconds(lease.kind, act):
                self._fail_act(transition, act, fault)
                return transition.lease(self._proceed(transition)), None
            task.attempts += 1
            delay_seconds = jitter * min(_FIRST_RETRY_SECONDS * 2 ** (task.attempts - 1), _LAST_RETRY_SECONDS)
            task.not_before = now + timedelta(seconds=delay_seconds)
            task.message = f"{fault.message}; retrying, attempt {task.attempts + 1}"
            transition.mark(f"{transition.steps[act.seq].name}.retry")
            _let_go(task)
            return transition.lease(act), delay_seconds

    def record_deferred(self, lease: Lease, act: Act, message: str, delay_seconds: float) -> Lease:
        """The act cannot begin yet: the task is let go until then, however often."""
        with self._transition(lease) as transition:
            task = transition.task
            task.attempts, task.retrying_since = 0, None
            task.not_before = self._now() + timedelta(seconds=delay_seconds)
            task.message = message
            transition.mark(f"{transition.steps[act.seq].name}.retry")
            _let_go(task)
            return transition.lease(act)

    def report(self, lease: Lease, step_percent: int, message: str) -> None:
        """Shows progress within the running act. The step gets on: earlier transient failures are forgotten."""
        values: dict[str, Any] = {"message": message, "attempts": 0, "retrying_since": None}
        if isinstance(lease.act, Act) and lease.act.phase == StepPhase.DO:
            values["progress_percent"] = progress_percent(lease.kind, lease.steps, min(max(step_percent, 0), 100))
        self._update(
            update(Task)
            .where(
                col(Task.id) == lease.task.id,
                col(Task.fencing) == lease.task.fencing,
                col(Task.lease_owner) == self._owner,
            )
            .values(values)
        )

    def renew(self, task_ids: Collection[str]) -> set[str]:
        """Renews the leases of tasks that run here; answers those that are lost."""
        is_mine = (col(Task.lease_owner) == self._owner) & col(Task.id).in_(task_ids)
        with self._database.write() as session:
            expires_at = self._now() + timedelta(seconds=LEASE_SECONDS)
            session.execute(update(Task).where(is_mine).values(lease_expires_at=expires_at))
            kept = session.exec(select(Task.id).where(is_mine)).all()
            return set(task_ids).difference(kept)

    def release_all(self) -> None:
        """Lets go of everything, so that the next engine continues at once."""
        self._expire(col(Task.lease_owner) == self._owner)

    def expire_all(self) -> None:
        """Ends every lease: only for the sole user of a database, whose predecessor is known to be dead."""
        self._expire(col(Task.lease_owner) != "")

    def prune(self, retention: timedelta) -> int:
        """Deletes a batch of tasks that ended longer ago than that; answers how many."""
        with self._database.write() as session:
            expired = find_expired(session, self._now() - retention, _PRUNE_BATCH)
            session.execute(delete(TaskStep).where(col(TaskStep.task_id).in_(expired)))
            session.execute(delete(Task).where(col(Task.id).in_(expired)))
            return len(expired)

    def _expire(self, condition: Any) -> None:
        self._update(update(Task).where(condition).values(lease_owner="", lease_expires_at=None))

    def _update(self, statement: Executable) -> CursorResult[Any]:
        with self._database.write() as session:
            return session.connection().execute(statement)

    @contextmanager
    def _commit(self, points: list[str]) -> Iterator[Session]:
        """A write transaction; `points`, filled meanwhile, are announced before and after its commit."""
        with self._database.write() as session:
            yield session
            for point in points:
                self._on_commit(f"{point}.before")
        for point in points:
            self._on_commit(f"{point}.after")

    @contextmanager
    def _transition(self, lease: Lease) -> Iterator[_Transition]:
        """A transaction over the leased task as it is now; LeaseLost when it is not ours any more."""
        points: list[str] = []
        with self._commit(points) as session:
            task = lock_own_task(session, lease.task.id, lease.task.fencing, self._owner)
            if task is None:
                raise LeaseLost(lease.task.id)
            yield _Transition(session, task, list_steps(session, task.id), lease.kind, points)

    def _finish_act(self, transition: _Transition, act: Act) -> TaskStep:
        task, step = transition.task, transition.steps[act.seq]
        transition.mark(f"{step.name}.{'result' if act.phase == StepPhase.DO else 'undo'}")
        task.attempts, task.retrying_since, task.not_before = 0, None, None
        step.finished_at = self._now()
        return step

    def _fail_act(self, transition: _Transition, act: Act, fault: Fault) -> None:
        step = self._finish_act(transition, act)
        if act.phase == StepPhase.UNDO:
            transition.task.message = f"undoing {step.name} failed: {fault.message}"
        transition.fail(step, fault)

    def _proceed(self, transition: _Transition) -> Act | End:
        """Writes down the intent of the next act, or the end. A hook that fails changes what comes next."""
        while True:
            act = next_act(transition.kind, transition.task, transition.steps)
            begun = self._end(transition, act) if isinstance(act, End) else self._begin(transition, act)
            if begun:
                return act

    def _begin(self, transition: _Transition, act: Act) -> bool:
        """Whether the intent stands; False: the step failed before it began."""
        task, kind, step = transition.task, transition.kind, transition.steps[act.seq]
        unwinding = is_unwinding(kind, task, transition.steps)
        task.state = TaskState.CANCELING if unwinding and not task.error_code else TaskState.RUNNING
        transition.mark(f"{step.name}.intent")
        if step.phase == act.phase and step.state == StepState.RUNNING:
            return True  # taken over, or tried again: what showed the intent was committed then
        before = kind.steps[act.seq].before
        fault = transition.try_hook(before, task.args) if before and act.phase == StepPhase.DO else None
        if fault:
            transition.fail(step, fault)
            return False
        task.message = ""
        if not unwinding:
            task.progress_percent = progress_percent(kind, transition.steps)
        step.phase, step.state = act.phase, StepState.RUNNING
        step.started_at, step.finished_at = step.started_at or self._now(), None
        return True

    def _end(self, transition: _Transition, end: End) -> bool:
        """Whether the task has ended; False: its `on_success` failed, and it goes backwards."""
        task, kind = transition.task, transition.kind
        state = end.state
        if state == TaskState.SUCCEEDED:
            fault = transition.try_hook(kind.on_success, task.args)
            if fault:
                transition.fail(transition.steps[-1], fault)
                return False
            task.progress_percent = 100
        elif state != TaskState.NEEDS_OPERATOR:
            fault = transition.try_hook(kind.on_failure, task.args, _failure(transition))
            if fault:
                state = TaskState.NEEDS_OPERATOR
                task.message = f"the end of the task failed: {fault.message}"
        if state != TaskState.NEEDS_OPERATOR:
            task.message = ""
            task.finished_at = self._now()
        task.state = state
        transition.mark("end")
        _let_go(task)
        return True


def _patience_seconds(kind: TaskKind, act: Act) -> float:
    """Who gives up undoing leaves something behind for the operator: a node that is away comes back after days."""
    if act.phase == StepPhase.UNDO:
        return max(kind.retry_seconds, UNDO_SECONDS)
    own_seconds = kind.steps[act.seq].retry_seconds
    return kind.retry_seconds if own_seconds is None else own_seconds


def _let_go(task: Task) -> None:
    task.lease_owner, task.lease_expires_at = "", None


def _failure(transition: _Transition) -> Failure:
    task = transition.task
    failed = next((step.name for step in transition.steps if step.error), "")
    if task.error_code:
        return Failure(failed, task.error_code, task.error_message)
    return Failure(failed, "Canceled", "canceled on request", canceled=True)
