"""What the task engine itself costs: five steps that do nothing, on SQLite with synchronous=FULL.

python -m tests.bench.tasks [DIRECTORY]        (default: a temporary directory; give one on the disk in question)
"""

import asyncio
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
from sqlmodel import Session

from coordinator.domain.task import TaskState
from coordinator.store.database import Database
from coordinator.store.migration import migrate
from coordinator.store.tables.task import Task
from coordinator.tasks.engine import TaskEngine
from coordinator.tasks.model import Step, StepContext, StepResult, TaskKind
from coordinator.tasks.submission import submit_task
from tests.unit.coordinator.tasks.toy import make_runtime

STEP_COUNT = 5
SEQUENTIAL_TASKS = 60
PARALLEL_TASKS = 200


async def _do(_context: StepContext) -> StepResult:
    return StepResult({"done": True})


def _nothing(_session: Session, _args: Mapping[str, Any], *_rest: object) -> None:
    """No rows to change."""


NOTHING = TaskKind(
    name="nothing",
    steps=tuple(Step(f"step_{number}", _do, before=_nothing) for number in range(STEP_COUNT)),
    check=_nothing,
    on_success=_nothing,
    on_failure=_nothing,
)


class Bench:
    """An engine at work on an empty database."""

    def __init__(self, directory: Path) -> None:
        self.database = Database(f"sqlite:///{directory / 'coordinator.db'}")
        migrate(self.database)
        self.runtime = make_runtime(self.database, directory)
        self.ended = asyncio.Event()
        self.ends = 0

    def on_commit(self, point: str) -> None:
        """Counts the tasks that have ended."""
        if point == "nothing.end.after":
            self.ends += 1
            self.loop.call_soon_threadsafe(self.ended.set)

    def submit(self) -> str:
        """One more task."""
        with self.database.write() as session:
            task = submit_task(session, self.runtime, NOTHING, args={}, tenant_id=None, resource_id="", request_id="")
        self.runtime.wake_tasks()
        return task.id

    async def run(self) -> None:
        """Measures and prints."""
        self.loop = asyncio.get_running_loop()
        engine = TaskEngine(self.runtime, {NOTHING.name: NOTHING}, self.on_commit)
        working = asyncio.create_task(engine.run())
        await asyncio.sleep(0.5)
        seconds = [await self._time_one() for _ in range(SEQUENTIAL_TASKS)]
        self._print("one at a time", statistics.median(seconds))
        began, self.ends = time.perf_counter(), 0
        task_ids = [await asyncio.to_thread(self.submit) for _ in range(PARALLEL_TASKS)]
        while self.ends < PARALLEL_TASKS:
            self.ended.clear()
            await self.ended.wait()
        self._print(f"{PARALLEL_TASKS} at once", (time.perf_counter() - began) / PARALLEL_TASKS)
        engine.stop()
        await working
        with self.database.read() as session:
            assert all(session.get_one(Task, task_id).state == TaskState.SUCCEEDED for task_id in task_ids)
        self.database.close()

    async def _time_one(self) -> float:
        self.ended.clear()
        await asyncio.to_thread(self.submit)
        began = time.perf_counter()
        await self.ended.wait()
        return time.perf_counter() - began

    def _print(self, label: str, task_seconds: float) -> None:
        print(f"{label}: {task_seconds * 1000:.1f} ms a task, {task_seconds * 1000 / STEP_COUNT:.2f} ms a step")


def main() -> None:
    """Runs the bench in the directory given."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as directory:
        asyncio.run(Bench(Path(directory)).run())


if __name__ == "__main__":
    main()
