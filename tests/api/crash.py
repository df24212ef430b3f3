"""Deaths in the middle of operations, one at each commit and at each call of an agent, and what is there afterwards."""

import asyncio
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from sqlalchemy import update

from coordinator.agents.call import AgentCaller
from coordinator.agents.error import AgentCallError, NodeAway
from coordinator.domain.backup import BackupStatus
from coordinator.domain.instance import ERROR_STATUSES
from coordinator.domain.snapshot import SnapshotStatus
from coordinator.domain.task import TaskState
from coordinator.runtime import Runtime
from coordinator.services.domain_report import record_domain
from coordinator.store.tables import (
    Allocation,
    Image,
    Instance,
    IsoAttachment,
    Node,
    Port,
    RecycledInstance,
    Snapshot,
    SshKeyBinding,
    Task,
    Volume,
    VolumeAttachment,
    VolumeBackup,
    VolumeSnapshot,
)
from coordinator.tasks.runner import Runner
from coordinator.tasks.submission import request_cancel
from tests.api.client import Answer, Api
from tests.api.cloud import Cloud, finish
from tests.lab.waiting import wait_until
from tests.scripted_agent import ScriptedAgent

ENDED: Final = (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELED)
_ID: Final = re.compile(r"^ecs-[0-9a-z]+")
# Who wants an operation cancelled is heard within this time.
_HEARD_SECONDS: Final = 0.3

World = dict[str, list[Any]]


class Killed(BaseException):
    """The coordinator is dead: nobody catches that."""


@dataclass(frozen=True)
class Blow:
    """What happens once, at that commit or that call of an agent, counted by its name from 0.

    `what`: "dies" (the coordinator), "lost" (the agent, or its answer), "refused" (for good) or "canceled".
    Of a call "before" is before the agent has heard of it, and "after" before anybody heard its answer.
    """

    what: str
    place: str
    side: str
    number: int = 0

    def __str__(self) -> str:
        return f"{self.what} {self.side} {self.place} #{self.number}"


@dataclass
class Fate:
    """Watches commits and calls, and deals the blows that a test has in store, each once."""

    runtime: Runtime
    blows: list[Blow] = field(default_factory=list)
    dealt: list[Blow] = field(default_factory=list)
    # What went by, in its order: commits, and calls.
    commits: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    operation_id: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, *blows: Blow) -> None:
        """Forgets what was, and watches an operation anew."""
        self.blows, self.dealt, self.commits, self.calls, self.operation_id = list(blows), [], [], [], ""

    @property
    def is_over(self) -> bool:
        return not self.blows

    def __call__(self, point: str) -> None:
        """`on_commit` of a task engine."""
        place, _, side = point.rpartition(".")
        if side == "before":
            self.commits.append(place)
        if self._take(place, side, self.commits):
            raise Killed(point)

    async def hit(self, call: str, side: str) -> None:
        """A call of an agent is to be made, or was."""
        blow = self._take(call, side, self.calls)
        if blow is None:
            return
        if blow.what == "dies":
            raise Killed(call)
        if blow.what == "lost":
            raise NodeAway("injected: the agent died")
        if blow.what == "refused":
            raise AgentCallError("HypervisorFailed", "injected: it cannot be done", transient=False)
        await asyncio.to_thread(self._cancel)
        await asyncio.sleep(_HEARD_SECONDS)

    def _take(self, place: str, side: str, passed: Sequence[str]) -> Blow | None:
        with self._lock:
            blow = self.blows[0] if self.blows else None
            if blow is None or (blow.place, blow.side, blow.number) != (place, side, passed.count(place) - 1):
                return None
            self.dealt.append(self.blows.pop(0))
            return blow

    def _cancel(self) -> None:
        with self.runtime.database.write() as session:
            request_cancel(session, self.operation_id)
        self.runtime.wake_tasks()


def watch_calls(monkeypatch: pytest.MonkeyPatch, fate: Fate) -> None:
    """All calls of agents go by `fate`, and whom it kills is buried."""
    call, follow, run = AgentCaller._call, AgentCaller._follow_any, Runner.run

    async def buried(self: Runner) -> None:
        with suppress(Killed):
            await run(self)

    def watched(made: Callable[..., Any]) -> Callable[..., Any]:
        async def around(self: AgentCaller, method: Any, request: Any, *rest: Any) -> Any:
            name = type(request).__name__.removesuffix("Request")
            fate.calls.append(name)
            await fate.hit(name, "before")
            answer = await made(self, method, request, *rest)
            await fate.hit(name, "after")
            return answer

        return around

    monkeypatch.setattr(Runner, "run", buried)
    monkeypatch.setattr(AgentCaller, "_call", watched(call))
    monkeypatch.setattr(AgentCaller, "_follow_any", watched(follow))


def await_end(api: Api, cloud: Cloud, fate: Fate, answer: Answer) -> str:
    """How the operation ended, in whichever coordinator's hands."""
    fate.operation_id = answer.headers["x-operation-id"].split(",")[-1]
    if any(blow.what == "dies" for blow in (*fate.blows, *fate.dealt)):
        wait_until(lambda: fate.is_over or _has_ended(cloud, fate), f"it comes to {fate.blows}", interval_seconds=0.02)
        take_over(cloud)
    state = str(finish(api, answer)["state"])
    settle(cloud)
    return state


def _has_ended(cloud: Cloud, fate: Fate) -> bool:
    with cloud.runtime.database.read() as session:
        return session.get_one(Task, fate.operation_id).state in (*ENDED, TaskState.NEEDS_OPERATOR)


def take_over(cloud: Cloud) -> None:
    """The leases of the dead coordinator are over."""
    with cloud.runtime.database.write() as session:
        session.execute(update(Task).values(lease_owner="", lease_expires_at=None))
    cloud.runtime.wake_tasks()


def settle(cloud: Cloud) -> None:
    """Waits for what the operation left to others."""

    def open_tasks() -> list[Task]:
        return [task for task in cloud.rows(Task) if task.state not in (*ENDED, TaskState.NEEDS_OPERATOR)]

    def has_settled() -> bool:
        if any(task.lease_owner == "" for task in open_tasks()):
            cloud.runtime.wake_tasks()
        return not open_tasks()

    wait_until(has_settled, "all tasks have ended", interval_seconds=0.02)


def hear(cloud: Cloud, agents: Mapping[str, ScriptedAgent]) -> None:
    """What nodes say by themselves of their guests; `agents` are by ids of nodes."""
    with cloud.runtime.database.write() as session:
        for node_id, agent in agents.items():
            for domain in agent.domains.values():
                record_domain(session, session.get_one(Node, node_id), domain, cloud.runtime.now())


def read_world(cloud: Cloud, agents: Sequence[ScriptedAgent]) -> World:
    """What there is, without ids: what was ordered, what is held, what the nodes have.

    A snapshot, image or instance that could not be made stays to tell why: it holds nothing, and is left out.
    """
    rows = {table: cloud.rows(table) for table in _TABLES}
    living = [row for row in rows[Instance] if row.deleted_at is None and not _is_shell(row)]
    order = {row.id: number for number, row in enumerate(sorted(living, key=lambda it: it.id))}
    names: dict[Any, str] = {row.id: _ID.sub("", row.name) for row in rows[Volume]}
    names |= {row.uuid: names[row.id] for row in rows[Volume]}
    parts = {row.snapshot_id for row in rows[VolumeSnapshot]}
    world: World = {
        "instances": [_instance(row) for row in living],
        "volumes": [
            (names[it.id], it.status, it.size_gib, it.is_os_disk, order.get(it.instance_id), it.node_id, it.image_id)
            for it in rows[Volume]
        ],
        "snapshots": [
            (it.name, it.status, it.consistency, it.deleted_at is None)
            for it in rows[Snapshot]
            if it.status != SnapshotStatus.ERROR or it.id in parts
        ],
        "parts": [(names[it.volume_id], it.size_gib, it.allocated_bytes) for it in rows[VolumeSnapshot]],
        "backups": [
            (names.get(it.volume_uuid, ""), it.status, it.parent_id != "", it.holds_state, it.file_bytes)
            for it in rows[VolumeBackup]
            if it.status != BackupStatus.ERROR or it.holds_state
        ],
        "allocations": [(it.node_id, it.resource_class, it.amount) for it in rows[Allocation]],
        "ports": [order.get(it.instance_id) for it in rows[Port]],
        "images": [(it.name, it.status) for it in rows[Image] if it.deleted_at is None and it.status != "Error"],
        "bindings": [(it.state, it.password_auth) for it in rows[SshKeyBinding]],
        "sharers": [(order.get(it.instance_id), it.status) for it in rows[VolumeAttachment]],
        "isos": [(it.number, it.state) for it in rows[IsoAttachment]],
        "bin": [it.status_before for it in rows[RecycledInstance]],
        "files": [path.stat().st_size for path in cloud.runtime.settings.images_dir.glob("*")],
    }
    for number, agent in enumerate(agents):
        world |= {f"node{number}.{name}": found for name, found in _held(agent).items()}
    return {name: sorted(found, key=repr) for name, found in world.items()}


_TABLES: Final = (
    Instance,
    Volume,
    VolumeBackup,
    Snapshot,
    VolumeSnapshot,
    Allocation,
    Port,
    Image,
    SshKeyBinding,
    VolumeAttachment,
    IsoAttachment,
    RecycledInstance,
)


def _is_shell(row: Instance) -> bool:
    return row.node_id is None and row.status in ERROR_STATUSES


def _instance(row: Instance) -> tuple[Any, ...]:
    size = (row.vcpus, row.memory_bytes, row.flavor_id)
    return (row.display_name, row.status, row.power_state, row.node_id, row.task_id, row.image_id, *size)


def _held(agent: ScriptedAgent) -> World:
    """What a node has. A definition counts with what was plugged in since."""
    guests = []
    for uuid, domain in agent.domains.items():
        spec = agent.specs[uuid]
        disks = {disk.volume_uuid for disk in spec.disks} | set(agent.disks.get(uuid, ()))
        media = sorted(filter(None, agent.media.get(uuid, {}).values()))
        guests.append((domain.power_state, spec.vcpus, spec.memory_bytes, len(spec.nics), len(disks), media))
    return {
        "guests": guests,
        "volumes": [(size, agent.contents.get(uuid)) for uuid, size in agent.volumes.items()],
        "snapshots": [agent.kept.get((uuid, name)) for uuid, names in agent.snapshots.items() for name in names],
        "ports": ["" for _ in agent.ports],
        "exports": ["" for _ in agent.exports],
    }


def difference(found: World, wanted: World) -> dict[str, tuple[list[Any], list[Any]]]:
    """Where the worlds differ: by part, what is there and what should be."""
    return {name: (found[name], wanted[name]) for name in wanted if found[name] != wanted[name]}


def error_of(cloud: Cloud) -> list[str]:
    """What instances say went wrong."""
    return [row.error_message for row in cloud.rows(Instance) if row.deleted_at is None and row.error_message]
