"""Speaking with QEMU from outside: its monitor, and the guest agent of the node as a shell."""

from __future__ import annotations

import base64
import json
import socket
import time
from pathlib import Path
from typing import Any, Final

from tests.lab.waiting import wait_until

_ANSWER_SECONDS: Final = 60.0
_SHORTEST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5
_SENTINEL: Final = b"\xff"


class _Channel:
    """Requests and answers as lines of JSON."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_ANSWER_SECONDS)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def send(self, request: dict[str, Any], before: bytes = b"") -> None:
        self._socket.sendall(before + json.dumps(request).encode() + b"\n")

    def read_line(self) -> bytes:
        line = self._file.readline()
        if not line:
            raise ConnectionError("QEMU has closed the channel")
        return line

    def call(self, command: str, **arguments: Any) -> Any:
        """The answer; AssertionError with the words of a refusal."""
        self.send({"execute": command, "arguments": {key.replace("_", "-"): one for key, one in arguments.items()}})
        while True:
            answer = json.loads(self.read_line())
            if "error" in answer:
                raise AssertionError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]


class Monitor:
    """QEMU's own monitor."""

    def __init__(self, path: Path) -> None:
        self._channel = _Channel(path)
        self._channel.read_line()
        self._channel.call("qmp_capabilities")

    def close(self) -> None:
        """It cannot be asked any more."""
        self._channel.close()

    def execute(self, command: str, **arguments: Any) -> Any:
        """One command; underscores in the names of arguments stand for dashes."""
        return self._channel.call(command, **arguments)

    def say(self, line: str) -> str:
        """One line for people, with its answer."""
        return str(self._channel.call("human-monitor-command", command_line=line))


class Shell:
    """Commands in the node, by the guest agent in it."""

    def __init__(self, path: Path) -> None:
        self._channel = _Channel(path)

    def close(self) -> None:
        """Nothing can be run any more."""
        self._channel.close()

    def synchronize(self, timeout_seconds: float) -> None:
        """The guest agent answers."""
        token = time.monotonic_ns() % 2**31
        self._channel._socket.settimeout(timeout_seconds)
        self._channel.send({"execute": "guest-sync-delimited", "arguments": {"id": token}}, _SENTINEL)
        while True:
            line = self._channel.read_line().rpartition(_SENTINEL)[2]
            if line.strip() and json.loads(line).get("return") == token:
                break
        self._channel._socket.settimeout(_ANSWER_SECONDS)

    def run(self, script: str, timeout_seconds: float) -> tuple[int, str]:
        """Its exit status, and what it has said to both outputs."""
        argument = ["-c", f"exec 2>&1\n{script}"]
        pid = self._channel.call("guest-exec", path="/bin/bash", arg=argument, capture_output=True)["pid"]
        pause = _SHORTEST_PAUSE
        deadline = time.monotonic() + timeout_seconds
        while not (status := self._channel.call("guest-exec-status", pid=pid))["exited"]:
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout_seconds} s: {script}")
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        output = base64.b64decode(status.get("out-data", "")).decode(errors="replace")
        return status.get("exitcode", 128 + status.get("signal", 0)), output


def connect_shell(path: Path, timeout_seconds: float) -> Shell:
    """The shell of a node that is booting, as soon as it answers."""

    def connect() -> Shell:
        shell = Shell(path)
        try:
            shell.synchronize(2.0)
        except OSError:
            shell.close()
            raise
        return shell

    return wait_until(connect, "the node has booted", timeout_seconds=timeout_seconds)
