"""Follows operations to their end (`--wait`): bars on a terminal, one line a change anywhere else."""

import time
from collections.abc import Iterable
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from nwctl.client import Client
from nwctl.error import CoordinatorUnreachable, OperationFailed, WaitInterrupted, WaitTimedOut
from nwctl.output import plain

OPERATIONS = "/api/ecs/v1/operations"
FINISHED = {"Succeeded", "Failed", "Canceled", "NeedsOperator"}
FIRST_POLL_SECONDS = 0.2
LAST_POLL_SECONDS = 2.0

Operation = dict[str, Any]


class Display(Protocol):
    """Shows operations as they move."""

    def __enter__(self) -> "Display": ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, operation: Operation) -> None:
        """Shows the operation's present state."""


class Bars:
    """A bar an operation, for people."""

    def __init__(self, console: Console) -> None:
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[stage]}"),
            console=console,
        )

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, operation: Operation) -> None:
        """Moves the operation's bar."""
        key = operation["operationId"]
        if key not in self._bars:
            self._bars[key] = self._progress.add_task(title(operation), total=100, stage="")
        completed = operation.get("progress") or 0
        self._progress.update(self._bars[key], completed=completed, stage=stage(operation))


class Lines:
    """A line a change, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: dict[str, str] = {}

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, operation: Operation) -> None:
        """Prints the operation if it moved."""
        line = f"{operation['operationId']} {title(operation)}: {stage(operation)}"
        if self._shown.get(operation["operationId"]) != line:
            self._shown[operation["operationId"]] = line
            self._console.print(plain(line), soft_wrap=True)


def title(operation: Operation) -> str:
    """What is being done to what."""
    return f"{operation.get('kind') or 'operation'} {operation.get('resourceId') or ''}".strip()


def stage(operation: Operation) -> str:
    """The step that runs now, else the operation's state."""
    state = str(operation.get("state"))
    running = (step for step in operation.get("steps") or () if step.get("state") == "running")
    step = None if state in FINISHED else next(running, None)
    if step is None:
        return state
    return f"undo {step['name']}" if step.get("phase") == "undo" else str(step["name"])


def follow(client: Client, ids: Iterable[str], timeout_seconds: float, console: Console) -> list[Operation]:
    """The finished operations, in the order of `ids`; raises when time is up or the person presses Ctrl-C."""
    found: dict[str, Operation] = {key: {} for key in ids}
    deadline = time.monotonic() + timeout_seconds
    pause_seconds = FIRST_POLL_SECONDS
    try:
        with Bars(console) if console.is_terminal else Lines(console) as display:
            while True:
                poll(client, found, display)
                pending = [key for key, operation in found.items() if operation.get("state") not in FINISHED]
                if not pending:
                    return list(found.values())
                if time.monotonic() + pause_seconds > deadline:
                    raise WaitTimedOut(f"not finished after {timeout_seconds:g} s. {advice(pending)}")
                time.sleep(pause_seconds)
                pause_seconds = min(pause_seconds * 1.5, LAST_POLL_SECONDS)
    except KeyboardInterrupt:
        raise WaitInterrupted(advice(found)) from None


def poll(client: Client, found: dict[str, Operation], display: Display) -> None:
    """Reads every unfinished operation once; a coordinator that restarts meanwhile is asked again later."""
    for key, known in found.items():
        if known.get("state") in FINISHED:
            continue
        try:
            found[key] = client.get(f"{OPERATIONS}/{key}").data
        except CoordinatorUnreachable:
            continue
        display.show(found[key])


def advice(ids: Iterable[str]) -> str:
    """Says that the work goes on and how to come back to it."""
    names = " ".join(ids)
    return (
        f"The work goes on: follow it with `nwctl operation wait {names}`,"
        f" cancel it with `nwctl operation cancel {names}`."
    )


def require_success(operations: Iterable[Operation]) -> None:
    """Fails, naming every operation that did not succeed and its own error."""
    failures = [verdict(operation) for operation in operations if operation["state"] != "Succeeded"]
    if failures:
        raise OperationFailed("\n".join(failures))


def verdict(operation: Operation) -> str:
    """One line on an operation that did not succeed."""
    error = operation.get("error") or {}
    reason = ": ".join(str(part) for part in (error.get("code"), error.get("message")) if part)
    failed = next((step["name"] for step in operation.get("steps") or () if step.get("error")), "")
    place = f" in step {failed}" if failed else ""
    line = f"operation {operation['operationId']} ({title(operation)}) ended {operation['state']}{place}"
    return f"{line}: {reason}" if reason else line
