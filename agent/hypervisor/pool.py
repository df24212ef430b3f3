"""Threads for calls that block: a bounded number of them, where one that is stuck is replaced."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

# How many stuck threads a pool keeps waiting for, as a multiple of its size, before it stops replacing them.
STUCK_FACTOR = 4


@dataclass(eq=False)
class _Job:
    function: Callable[[], Any]
    finish: Callable[[_Job, Any, BaseException | None], None]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    worker: _Worker | None = None
    # Runs on when the waiter is cancelled, so that a thread that is stuck is still found.
    timer: asyncio.TimerHandle | None = None
    expired: bool = False


@dataclass(eq=False)
class _Worker:
    jobs: queue.SimpleQueue[_Job | None]
    returned: Callable[[_Worker], None]
    replaced: bool = False

    def start(self, name: str) -> None:
        # A daemon: a thread that hangs in libvirt must not keep the agent from ending.
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while not self.replaced:
            job = self.jobs.get()
            if job is None:
                return
            # What nobody waits for any more is not begun.
            if not (job.expired or job.future.cancelled()):
                job.worker = self
                self._run(job)
                job.worker = None
        self.returned(self)

    def _run(self, job: _Job) -> None:
        result, error = None, None
        try:
            result = job.function()
        except BaseException as failure:  # the waiter gets it, whatever it is
            error = failure
        try:
            job.loop.call_soon_threadsafe(job.finish, job, result, error)
        except RuntimeError:
            return  # the loop is closed: the agent is ending


class WorkerPool:
    """Runs blocking functions in up to `size` threads for the waiters of one event loop."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._started = 0
        self._working = 0
        self._unfinished = 0
        self._stuck: set[_Worker] = set()

    def stop(self) -> None:
        """Asks the threads to end after the work that is queued; waits for none."""
        for _ in range(self._working):
            self._jobs.put(None)
        self._working = 0

    @property
    def stuck_count(self) -> int:
        """Threads that have been replaced and have not come back."""
        return len(self._stuck)

    async def run(self, function: Callable[[], T], *, timeout_seconds: float) -> T:
        """Answers what the function returns or raises; TimeoutError when that takes too long."""
        loop = asyncio.get_running_loop()
        job = _Job(function, self._finish, loop, loop.create_future())
        job.timer = loop.call_later(timeout_seconds, self._expire, job)
        self._unfinished += 1
        self._ensure_worker()
        self._jobs.put(job)
        result: T = await job.future
        return result

    def _finish(self, job: _Job, result: Any, error: BaseException | None) -> None:
        """Hands the outcome to the waiter, unless nobody waits any more."""
        if job.expired:
            return
        self._unfinished -= 1
        if job.timer is not None:
            job.timer.cancel()
        if job.future.done():
            return
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)

    def _expire(self, job: _Job) -> None:
        job.expired = True
        self._unfinished -= 1
        worker = job.worker
        if worker is not None and not worker.replaced and len(self._stuck) < self._size * STUCK_FACTOR:
            self._stuck.add(worker)
            worker.replaced = True
            self._working -= 1
            self._ensure_worker()
        if not job.future.done():
            job.future.set_exception(TimeoutError())

    def _ensure_worker(self) -> None:
        """Threads are started when there is work for them: most nodes never need more than a few."""
        if self._unfinished > self._working and self._working < self._size:
            self._working += 1
            self._started += 1
            _Worker(self._jobs, self._stuck.discard).start(f"{self._name}-{self._started}")
