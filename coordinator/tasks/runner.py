"""One task being worked on."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import structlog

from coordinator.agents.client import AgentCallError
from coordinator.domain.task import StepPhase, StepState
from coordinator.runtime import Runtime
from coordinator.tasks import metric
from coordinator.tasks.fault import Fault, fault_of, is_transient
from coordinator.tasks.ledger import Lease, LeaseLost, Ledger
from coordinator.tasks.model import Step, StepCanceled, StepContext, StepDeferred, StepResult, TaskKind
from coordinator.tasks.plan import Act, is_past_return, is_settling_cancellation

REPORT_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)


class Stop(Enum):
    """Why a runner is told to stop."""

    CANCELED = auto()
    SHUTDOWN = auto()
    LEASE_LOST = auto()


@dataclass(frozen=True, slots=True)
class _Transient:
    """The act failed, but the same act may succeed later."""

    fault: Fault


# What came of an attempt; None: it was interrupted.
_Outcome = StepResult | Fault | _Transient | StepDeferred | StepCanceled | None


class Runner:
    """Takes one task and acts until it has ended, waits for another attempt, or is not to be run here any more."""

    def __init__(
        self,
        runtime: Runtime,
        ledger: Ledger,
        kind: TaskKind,
        task_id: str,
        in_thread: Callable[..., Awaitable[Any]],
    ) -> None:
        self.running: asyncio.Task[None] | None = None
        # Set at the end when the task waits for another attempt.
        self.retry_after_seconds: float | None = None
        self._runtime = runtime
        self._ledger = ledger
        self._kind = kind
        self._task_id = task_id
        self._in_thread = in_thread
        self._lease: Lease | None = None
        self._attempt: asyncio.Task[StepResult] | None = None
        self._stop: Stop | None = None
        self._reported_at = 0.0

    def stop(self, reason: Stop) -> None:
        """Interrupts the present attempt, where `reason` admits it; transactions are never interrupted."""
        if self._stop in (None, Stop.CANCELED):
            self._stop = reason
        if self._attempt and self._is_interruptible():
            self._attempt.cancel()

    def lose_lease(self) -> None:
        """Another engine has the task now. Without effect before this one got it."""
        if self._lease:
            self.stop(Stop.LEASE_LOST)

    async def run(self) -> None:
        """Never raises: what cannot be committed is left to whoever takes the task over."""
        with structlog.contextvars.bound_contextvars(operationId=self._task_id, kind=self._kind.name):
            try:
                await self._work()
            except LeaseLost:
                log.info("task.lost")
            except Exception:
                # Whether the last commit counted is not known: the lease expires, and the task is read anew.
                log.exception("task.abandoned")

    async def _work(self) -> None:
        lease: Lease | None = await self._in_thread(self._ledger.take, self._task_id, self._kind)
        if lease is None:
            return
        structlog.contextvars.bind_contextvars(requestId=lease.task.request_id)
        while isinstance(lease.act, Act) and self._stop in (None, Stop.CANCELED):
            self._lease = lease
            outcome = await self._perform(lease, lease.act)
            if outcome is None and self._stop is not Stop.CANCELED:
                return
            lease = await self._record(lease, lease.act, outcome)
            if self.retry_after_seconds is not None:
                return
        if lease.is_settled:
            self._tell_end(lease)

    async def _perform(self, lease: Lease, act: Act) -> _Outcome:
        """One attempt, ended early by `stop`."""
        if self._stop is Stop.CANCELED and self._is_interruptible():
            return None
        step = self._kind.steps[act.seq]
        self._attempt = asyncio.create_task(self._call(step, lease, act))
        with metric.STEP_SECONDS.labels(self._kind.name, step.name).time():
            await asyncio.wait([self._attempt])
        attempt, self._attempt = self._attempt, None
        if attempt.cancelled():
            if self._stop and self._is_interruptible():
                return None
            # Not asked for here: the transport gave the call up.
            return _Transient(Fault("AgentCallFailed", "the call was interrupted"))
        error = attempt.exception()
        if error is None:
            return attempt.result()
        if not isinstance(error, Exception):
            raise error
        if isinstance(error, StepDeferred | StepCanceled):
            return error
        return _Transient(fault_of(error)) if is_transient(error) else fault_of(error)

    async def _call(self, step: Step, lease: Lease, act: Act) -> StepResult:
        run = step.do if act.phase == StepPhase.DO else step.undo
        assert run is not None  # noqa: S101 - the plan undoes only what has an undo
        try:
            async with asyncio.timeout(step.timeout_seconds) as timeout:
                return await run(self._context(lease))
        except TimeoutError:
            if not timeout.expired():
                raise
            raise AgentCallError(
                "StepTimeout", f"{step.name} took longer than {step.timeout_seconds:g} s", transient=False
            ) from None

    async def _record(self, lease: Lease, act: Act, outcome: _Outcome) -> Lease:
        """Commits what came of an attempt, with the intent of the next act."""
        step = self._kind.steps[act.seq].name
        match outcome:
            case StepResult():
                recorded: Lease = await self._in_thread(self._ledger.record_done, lease, act, outcome)
            case _Transient(fault):
                log.info("task.retry", step=step, code=fault.code, reason=fault.message)
                metric.RETRIES.labels(self._kind.name, step).inc()
                jitter = random.uniform(0.75, 1.25)  # noqa: S311 - nothing secret
                recorded, self.retry_after_seconds = await self._in_thread(
                    self._ledger.record_transient, lease, act, fault, jitter
                )
            case StepDeferred(message=message, delay_seconds=delay_seconds):
                recorded = await self._in_thread(self._ledger.record_deferred, lease, act, message, delay_seconds)
                self.retry_after_seconds = delay_seconds
            case Fault():
                log.warning("task.step_failed", step=step, phase=act.phase, code=outcome.code, reason=outcome.message)
                recorded = await self._in_thread(self._ledger.record_failed, lease, act, outcome)
            case StepCanceled() | None:
                recorded = await self._in_thread(self._ledger.record_canceled, lease, act)
        return recorded

    def _context(self, lease: Lease) -> StepContext:
        async def report(percent: int, message: str) -> None:
            now = asyncio.get_running_loop().time()
            if now - self._reported_at >= REPORT_SECONDS:
                self._reported_at = now
                await self._in_thread(self._ledger.report, lease, percent, message)

        return StepContext(
            task_id=lease.task.id,
            args=lease.task.args,
            results={step.name: step.result for step in lease.steps if step.state != StepState.PENDING},
            runtime=self._runtime,
            report_progress=report,
            is_cancel_requested=lambda: self._stop is Stop.CANCELED or lease.task.cancel_requested,
        )

    def _is_interruptible(self) -> bool:
        """Cancellation spares undoing, what is past the point of no return, and steps that settle it themselves."""
        if self._stop is not Stop.CANCELED or self._lease is None:
            return True
        act = self._lease.act
        if isinstance(act, Act) and is_settling_cancellation(self._kind, self._lease.steps[act.seq]):
            return False
        is_undoing = isinstance(act, Act) and act.phase == StepPhase.UNDO
        return not is_undoing and not is_past_return(self._kind, self._lease.steps)

    def _tell_end(self, lease: Lease) -> None:
        task = lease.task
        seconds = (self._runtime.now() - task.created_at).total_seconds()
        metric.TASK_SECONDS.labels(self._kind.name, task.state).observe(seconds)
        log.info("task.ended", state=task.state, seconds=round(seconds, 3), code=task.error_code)
