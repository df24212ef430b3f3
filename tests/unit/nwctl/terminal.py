"""`nwctl` in a process of its own, with a person's terminal or with pipes."""

import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

PATIENCE_SECONDS = 90


@dataclass(frozen=True)
class Outcome:
    """How it ended and everything that the terminal showed."""

    exit_status: int
    shown: str


def start(*arguments: str, environment: Mapping[str, str | None], **streams: int) -> subprocess.Popen[str]:
    """Starts the command; `environment` adds to this process's."""
    given = {name: value for name, value in environment.items() if value is not None}
    inherited = {name: value for name, value in os.environ.items() if name not in environment}
    command = [sys.executable, "-m", "nwctl", *arguments]
    # Tests that run in the background ignore Ctrl-C, and what they start would, too.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        # In a session of its own it cannot reach for the terminal that the tests run at.
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            command, env={**inherited, **given}, text=True, start_new_session=True, **streams
        )
    finally:
        signal.signal(signal.SIGINT, previous)


def converse(*arguments: str, environment: Mapping[str, str | None], dialogue: Mapping[str, str] = {}) -> Outcome:
    """Runs the command at a terminal; to each prompt of `dialogue`, in that order, its answer is typed."""
    primary, secondary = pty.openpty()
    at_terminal = {**environment, "TERM": "xterm", "COLUMNS": "120", "NO_COLOR": "1"}
    process = start(*arguments, environment=at_terminal, stdin=secondary, stdout=secondary, stderr=secondary)
    os.close(secondary)
    shown = ""
    for prompt, answer in dialogue.items():
        while prompt not in shown:
            shown += read(primary)
        os.write(primary, f"{answer}\n".encode())
    while more := read(primary):
        shown += more
    os.close(primary)
    return Outcome(process.wait(timeout=PATIENCE_SECONDS), shown)


def read(primary: int) -> str:
    """What the terminal shows next, nothing once its last writer is gone."""
    assert select.select([primary], [], [], PATIENCE_SECONDS)[0], "the terminal stays silent"
    try:
        return os.read(primary, 65536).decode()
    except OSError:  # How Linux says that the other end is closed.
        return ""
