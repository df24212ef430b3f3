"""A directory on a share whose server may not answer, or that may not be mounted.

A call that the kernel does not come back from keeps a thread of its own, and its caller gets an error in time: nothing
else of the agent waits. What is mounted is read from the kernel's list, which never asks the server.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from agent.devices.thread import run_to_end
from agent.errors import StorageFailed

# NFS asks its server again and again; a busy one takes seconds, not this.
PATIENCE_SECONDS: Final = 30.0
# So many calls may wait for a share; more would wait as well.
_MOST_WAITING: Final = 16
_OCTAL: Final = re.compile(r"\\([0-7]{3})")

P = ParamSpec("P")
T = TypeVar("T")


class Share:
    """Runs what blocks on a directory, in threads that nobody else uses."""

    def __init__(
        self,
        directory: Path,
        *,
        mount_point: Path | None = None,
        mounts: Path = Path("/proc/self/mountinfo"),
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """`mount_point`: what has to be mounted for anything to be done; None: the directory is as it should be."""
        self._directory = directory
        self._mount_point = mount_point
        self._mounts = mounts
        self._patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._waiting = 0

    def require_mounted(self) -> None:
        """Raises StorageFailed while nothing is mounted where the share should be. Never waits for a server."""
        if self._mount_point is not None and self._mount_point not in read_mount_points(self._mounts):
            raise StorageFailed(
                f"nothing is mounted at {self._mount_point}, where volumes_mount says that the storage of volumes is"
            )

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result. Raises StorageFailed when the share is not mounted, or does not answer in time."""
        self._check()
        return await self.finish(function, *args, **kwargs)

    async def finish(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for what has to be done in any case, as soon as the share answers."""
        try:
            return await run_to_end(self._patience_seconds, self._count(lambda: function(*args, **kwargs)))
        except TimeoutError:
            raise self._silence() from None

    def run_now(self, function: Callable[[], T]) -> T:
        """As `run`, for callers who may wait."""
        self._check()
        work = Future[T]()

        def complete() -> None:
            try:
                work.set_result(function())
            except BaseException as error:  # the waiter gets it, whatever it is
                work.set_exception(error)

        threading.Thread(target=self._count(complete), name="share", daemon=True).start()
        try:
            return work.result(self._patience_seconds)
        except TimeoutError:
            raise self._silence() from None

    def _check(self) -> None:
        self.require_mounted()
        if self._waiting >= _MOST_WAITING:
            raise StorageFailed(f"{self._directory} does not answer: {self._waiting} calls wait for it already")

    def _count(self, function: Callable[[], T]) -> Callable[[], T]:
        """The function, counted for as long as it has not come back."""
        with self._lock:
            self._waiting += 1

        def work() -> T:
            try:
                return function()
            finally:
                with self._lock:
                    self._waiting -= 1

        return work

    def _silence(self) -> StorageFailed:
        return StorageFailed(f"{self._directory} does not answer: waited {self._patience_seconds:g} s")


def read_mount_points(mounts: Path) -> set[Path]:
    """Where file systems are mounted. Source: proc_pid_mountinfo(5), the fifth field."""
    lines = mounts.read_text().splitlines()
    points = (line.split(" ")[4] for line in lines if line.count(" ") > 4)
    return {Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), point)) for point in points}
