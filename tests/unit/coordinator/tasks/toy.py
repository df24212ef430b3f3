"""A kind of task whose world is a directory: each step ensures a file, each undo removes it.

What a task did can be seen from outside and survives a killed process, as a guest on a node would.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from sqlmodel import Session

from coordinator.agents.client import AgentCallError, AgentClients
from coordinator.config import Settings
from coordinator.domain.clock import utc_now
from coordinator.domain.task import FINISHED_STATES, TaskState
from coordinator.errors import StatusUnsupported
from coordinator.runtime import Runtime
from coordinator.secret import SecretBox
from coordinator.store.database import Database
from coordinator.store.queries.task import list_steps
from coordinator.store.tables.network import Vpc
from coordinator.store.tables.task import Task, TaskStep
from coordinator.tasks.engine import TaskEngine
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.submission import submit_task
from tests.builders import a_vpc, credentials

STEPS = ("lay", "raise", "roof")
# What stands in the directory when all is done.
WHOLE = dict.fromkeys(sorted(STEPS), "whole")

Behaviour = Callable[[StepContext], Awaitable[None]]


def world(args: Mapping[str, Any]) -> Path:
    """Where the files are."""
    return Path(args["world"])


def _note(session: Session, args: Mapping[str, Any], text: str) -> None:
    vpc = session.get_one(Vpc, args["vpc_id"])
    vpc.name = text
    session.add(vpc)


def make_step(name: str, behaviour: Behaviour | None = None, undo_behaviour: Behaviour | None = None) -> Step:
    """A step that ensures the file `name`, after whatever `behaviour` does."""

    async def do(context: StepContext) -> StepResult:
        if name in context.args.get("half_acts", ()):
            (world(context.args) / name).write_text("half")
        if name == context.args.get("fails_at"):
            raise StatusUnsupported(f"{name} cannot be done", f"无法执行 {name}")
        if behaviour:
            await behaviour(context)
        (world(context.args) / name).write_text("whole")
        return StepResult({"made": name}, lambda session: _note(session, context.args, f"after {name}"))

    async def undo(context: StepContext) -> StepResult:
        if undo_behaviour:
            await undo_behaviour(context)
        (world(context.args) / name).unlink(missing_ok=True)
        return StepResult(apply=lambda session: _note(session, context.args, f"without {name}"))

    return Step(name, do, undo, before=lambda session, args: _note(session, args, f"before {name}"))


def _check(session: Session, args: Mapping[str, Any]) -> None:
    if session.get_one(Vpc, args["vpc_id"]).name == "forbidden":
        raise StatusUnsupported("it is forbidden", "禁止")


def _fail(session: Session, args: Mapping[str, Any], failure: Failure) -> None:
    _note(session, args, f"{'canceled' if failure.canceled else 'failed'} at {failure.step}: {failure.code}")


BUILD = TaskKind(
    name="build",
    steps=tuple(make_step(name) for name in STEPS),
    check=_check,
    on_success=lambda session, args: _note(session, args, "built"),
    on_failure=_fail,
)


def build_with(
    name: str, behaviour: Behaviour | None = None, undo: Behaviour | None = None, **changes: Any
) -> TaskKind:
    """BUILD, but with one step that behaves differently."""
    steps = tuple(make_step(name, behaviour, undo) if step.name == name else step for step in BUILD.steps)
    return replace(BUILD, steps=steps, **changes)


async def away(_context: StepContext) -> None:
    """A node that cannot be reached."""
    raise AgentCallError("NodeAway", "node n1 is away", transient=True)


async def broken(_context: StepContext) -> None:
    """An agent that refuses for good."""
    raise AgentCallError("DomainForeign", "not ours", transient=False)


async def forever(_context: StepContext) -> None:
    """A step that does not end by itself."""
    await asyncio.sleep(3600)


@dataclass
class Site:
    """A database, a directory, and the engine that works on them."""

    runtime: Runtime
    directory: Path
    kind: TaskKind = BUILD
    points: list[str] = field(default_factory=list)

    def submit(self, after: str | None = None, kind: TaskKind | None = None, **args: Any) -> str:
        """A new task with its own row and directory; its id."""
        with self.runtime.database.write() as session:
            vpc = a_vpc()
            session.add(vpc)
            session.flush()
            directory = self.directory / vpc.id
            directory.mkdir()
            task = submit_task(
                session,
                self.runtime,
                kind or self.kind,
                args={"world": str(directory), "vpc_id": vpc.id, **args},
                tenant_id=None,
                resource_id=vpc.id,
                request_id="",
                after_task_id=after,
            )
        self.runtime.wake_tasks()
        return task.id

    def engine(self) -> TaskEngine:
        """An engine for the site's kind that notes its commits."""
        return TaskEngine(self.runtime, {self.kind.name: self.kind}, self.points.append)

    def task(self, task_id: str) -> Task:
        """The task as stored."""
        with self.runtime.database.read() as session:
            return session.get_one(Task, task_id)

    def steps(self, task_id: str) -> list[TaskStep]:
        """Its steps as stored."""
        with self.runtime.database.read() as session:
            return list_steps(session, task_id)

    def note(self, task_id: str) -> str:
        """What the hooks last wrote into the row."""
        with self.runtime.database.read() as session:
            return session.get_one(Vpc, self.task(task_id).resource_id).name

    def files(self, task_id: str) -> dict[str, str]:
        """What stands in the task's directory."""
        directory = world(self.task(task_id).args)
        return {path.name: path.read_text() for path in sorted(directory.iterdir())}

    async def wait(self, task_id: str, *states: TaskState, seconds: float = 60) -> Task:
        """The task once it is in one of `states` (by default: ended)."""
        awaited = states or (*FINISHED_STATES, TaskState.NEEDS_OPERATOR)
        async with asyncio.timeout(seconds):
            while True:
                task = await asyncio.to_thread(self.task, task_id)
                if task.state in awaited:
                    return task
                await asyncio.sleep(0.01)

    async def wait_for_step(self, task_id: str, name: str) -> None:
        """Until the step has begun."""
        async with asyncio.timeout(60):
            while not any(
                step.name == name and step.started_at for step in await asyncio.to_thread(self.steps, task_id)
            ):
                await asyncio.sleep(0.01)


def make_runtime(database: Database, directory: Path, ahead: timedelta = timedelta()) -> Runtime:
    """A process whose clock is ahead by that much."""

    def now() -> datetime:
        return utc_now() + ahead

    return Runtime(
        settings=Settings(state_dir=directory, database_url=database.url),
        database=database,
        secrets=SecretBox(Fernet.generate_key()),
        agents=AgentClients(database, credentials()),
        now=now,
    )


def run_to_end(url: str, directory: Path, task_id: str, kill_at: str, ahead_seconds: int) -> None:
    """A coordinator in its own process: works until the task has ended, or is killed at a commit."""

    def on_commit(point: str) -> None:
        if point == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    async def work() -> None:
        database = Database(url)
        site = Site(make_runtime(database, directory, timedelta(seconds=ahead_seconds)), directory)
        engine = TaskEngine(site.runtime, {BUILD.name: BUILD}, on_commit)
        running = asyncio.create_task(engine.run())
        await site.wait(task_id)
        engine.stop()
        await running
        database.close()

    asyncio.run(work())
