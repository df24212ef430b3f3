"""Runs durable tasks: takes them, acts, keeps the leases, and lets go when it ends.

There is no special path for recovery: what a dead coordinator held is taken over like any other task.
"""

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, ParamSpec, TypeVar
from uuid import uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError

from coordinator.runtime import Runtime
from coordinator.store.queries.task import Candidate
from coordinator.tasks import metric
from coordinator.tasks.ledger import Ledger, OnCommit
from coordinator.tasks.model import TaskKind
from coordinator.tasks.runner import Runner, Stop

POLL_SECONDS: Final = 1.0
RENEW_SECONDS: Final = 2.0
PRUNE_SECONDS: Final = 600.0
SHUTDOWN_SECONDS: Final = 5.0
# Tasks at once. Most of them wait for agents; those that wait for a node to come back do not count.
CONCURRENCY: Final = 256
# Threads for transactions; SQLite has one writer anyway.
_THREADS: Final = 8

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger(__name__)


def _ignore(point: str) -> None:
    """Nobody watches the commits."""


class TaskEngine:
    """Works on the tasks of `kinds` until it is stopped. Several engines may share a PostgreSQL database.

    `on_commit` is told of every commit, as "<kind>.<step>.<intent|result|undo|retry>.<before|after>" and
    "<kind>.end.<before|after>"; tests kill the process there. `concurrency` bounds the tasks that run at once.
    """

    def __init__(
        self,
        runtime: Runtime,
        kinds: Mapping[str, TaskKind],
        on_commit: OnCommit = _ignore,
        concurrency: int = CONCURRENCY,
    ) -> None:
        self._runtime = runtime
        self._kinds = kinds
        self._concurrency = concurrency
        self._ledger = Ledger(runtime.database, runtime.now, f"engine-{uuid4()}", on_commit)
        self._runners: dict[str, Runner] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="tasks")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakeup = asyncio.Event()
        self._is_stopping = False
        self._left_alone: set[str] = set()

    async def run(self) -> None:
        """Works until `stop` or cancellation; then lets go of all tasks, so that a successor continues at once.

        Raises DatabaseInUse when another coordinator works on the same SQLite database.
        """
        self._loop = asyncio.get_running_loop()
        self._runtime.wake_tasks = self.wake
        database = self._runtime.database
        database.claim_sole_use()
        if database.is_sqlite:
            await self._in_thread(self._ledger.expire_all)
        background = [asyncio.create_task(self._keep_leases()), asyncio.create_task(self._prune())]
        try:
            while not self._is_stopping:
                self._wakeup.clear()
                await self._sweep()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wakeup.wait(), POLL_SECONDS)
        finally:
            for task in background:
                task.cancel()
            await self._shut_down()

    def wake(self) -> None:
        """There is something to do: a task was committed, or a cancellation. Callable from any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended: so has the engine
                self._loop.call_soon_threadsafe(self._wakeup.set)

    def stop(self) -> None:
        """Ends `run` soon. Callable from any thread."""
        self._is_stopping = True
        self.wake()

    async def _sweep(self) -> None:
        """Starts what can be started and interrupts what is to be cancelled."""
        try:
            free = self._concurrency - len(self._runners)
            candidates, canceled = await self._in_thread(
                self._ledger.find_work, self._kinds.keys(), list(self._runners), max(free, 0)
            )
        except SQLAlchemyError as error:
            log.warning("task.sweep_failed", reason=str(error))
            return
        for task_id in canceled:
            if runner := self._runners.get(task_id):
                runner.stop(Stop.CANCELED)
        for candidate in candidates:
            self._start(candidate)

    def _start(self, candidate: Candidate) -> None:
        kind = self._kinds[candidate.kind]
        if candidate.schema_version not in {kind.schema_version, *kind.former_versions}:
            # Made by another version of this program, which may still be at work beside this one.
            if candidate.id not in self._left_alone:
                self._left_alone.add(candidate.id)
                log.warning("task.version_unknown", operationId=candidate.id, schemaVersion=candidate.schema_version)
            return
        runner = Runner(self._runtime, self._ledger, kind, candidate.id, self._in_thread)
        self._runners[candidate.id] = runner
        metric.RUNNING.inc()
        running = asyncio.create_task(runner.run(), name=f"task {candidate.id}")
        runner.running = running
        running.add_done_callback(lambda _done: self._ended(candidate.id, runner))

    def _ended(self, task_id: str, runner: Runner) -> None:
        del self._runners[task_id]
        metric.RUNNING.dec()
        if runner.retry_after_seconds is not None and self._loop is not None:
            self._loop.call_later(runner.retry_after_seconds, self._wakeup.set)
        # Its successor, or one that waited for a free place.
        self._wakeup.set()

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            running = list(self._runners)
            if not running:
                continue
            try:
                lost = await self._in_thread(self._ledger.renew, running)
            except (SQLAlchemyError, TimeoutError) as error:
                log.warning("task.lease_not_renewed", reason=str(error))
                continue
            for task_id in lost:
                if runner := self._runners.get(task_id):
                    runner.lose_lease()

    async def _prune(self) -> None:
        while True:
            pause_seconds = PRUNE_SECONDS
            try:
                if await self._in_thread(self._ledger.prune, self._runtime.settings.task_retention):
                    pause_seconds = 1  # a batch at a time, so that others can write in between
            except (SQLAlchemyError, TimeoutError) as error:
                log.warning("task.prune_failed", reason=str(error))
            await asyncio.sleep(pause_seconds)

    async def _shut_down(self) -> None:
        running = [runner.running for runner in self._runners.values() if runner.running]
        for runner in list(self._runners.values()):
            runner.stop(Stop.SHUTDOWN)
        if running:
            await asyncio.wait(running, timeout=SHUTDOWN_SECONDS)
        try:
            await self._in_thread(self._ledger.release_all)
        except (SQLAlchemyError, TimeoutError) as error:
            log.warning("task.leases_not_released", reason=str(error))
        self._threads.shutdown(wait=False)

    async def _in_thread(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's result, computed in one of the engine's own threads."""
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: context.run(function, *args, **kwargs))
