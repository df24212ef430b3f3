"""Talking to the guest agent of one guest, beyond single commands: what it can do, and programs run to their end."""

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from coordinator.agents.client import AgentCallError, AgentClient
from coordinator.errors import CoordinatorError, GuestAgentUnavailable, GuestCommandFailed, NodeDisconnected

COMMAND_SECONDS: Final = 10.0
PROGRAM_SECONDS: Final = 60.0
_FIRST_POLL_SECONDS: Final = 0.05
_LAST_POLL_SECONDS: Final = 1.0
_TOLD_CHARACTERS: Final = 300
_UNAVAILABLE_CODES: Final = frozenset({"GuestAgentUnavailable", "GuestAgentTimeout"})
_FORBIDDEN_CODE: Final = "GuestAgentCommandForbidden"


@dataclass(frozen=True, slots=True)
class ProgramEnd:
    """How a program in the guest ended."""

    exit_code: int
    output: str
    errors: str

    @property
    def reason(self) -> str:
        """What it said last, for people."""
        said = (self.errors or self.output).strip()[-_TOLD_CHARACTERS:]
        return said or f"exit code {self.exit_code}"


class GuestSession:
    """The guest agent of one running guest.

    Every method raises GuestAgentUnavailable and GuestCommandFailed; an AgentCallError only when the same call may
    succeed later, since the node's agent is away.
    """

    def __init__(self, agent: AgentClient, uuid: str) -> None:
        self._agent = agent
        self._uuid = uuid

    async def call(
        self, name: str, arguments: dict[str, Any] | None = None, *, timeout_seconds: float = COMMAND_SECONDS
    ) -> Any:
        """The return value of one command."""
        request = {"execute": name, **({"arguments": arguments} if arguments else {})}
        try:
            answer = await self._agent.run_guest_command(self._uuid, json.dumps(request), timeout_seconds)
        except AgentCallError as error:
            if error.transient:
                raise
            raise explain_guest_error(error, name) from error
        return json.loads(answer, parse_constant=str) if answer else None

    async def list_commands(self) -> frozenset[str]:
        """The commands that the guest agent knows and that are switched on in it."""
        info = await self.call("guest-info")
        with making_sense("guest-info"):
            return frozenset(str(command["name"]) for command in info["supported_commands"] if command.get("enabled"))

    async def run(self, script: str, *arguments: str, stdin: str = "") -> ProgramEnd:
        """Runs a shell script to its end; `stdin` reaches it without being seen in the guest's list of processes."""
        started = await self.call(
            "guest-exec",
            {
                "path": "/bin/sh",
                "arg": ["-c", script, "nodewright", *arguments],
                "input-data": base64.b64encode(stdin.encode()).decode(),
                "capture-output": True,
            },
        )
        with making_sense("guest-exec"):
            status = await self._await_end(started["pid"])
            output, errors = (_decode(status.get(name, "")) for name in ("out-data", "err-data"))
            # What a signal ended has no exit code.
            return ProgramEnd(int(status.get("exitcode", 128 + int(status.get("signal", 0)))), output, errors)

    async def _await_end(self, pid: int) -> dict[str, Any]:
        deadline = time.monotonic() + PROGRAM_SECONDS
        pause_seconds = _FIRST_POLL_SECONDS
        while True:
            status: dict[str, Any] = await self.call("guest-exec-status", {"pid": pid})
            if status.get("exited"):
                return status
            if time.monotonic() > deadline:
                raise GuestCommandFailed(
                    f"a program in the guest still runs after {PROGRAM_SECONDS:g} s",
                    f"虚机内的程序在{PROGRAM_SECONDS:g}秒后仍未结束",
                )
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 2, _LAST_POLL_SECONDS)


@contextmanager
def making_sense(command: str) -> Iterator[None]:
    """Around reading an answer: whoever has the guest can have it answer anything. Raises GuestCommandFailed."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise GuestCommandFailed(
            f"the guest agent answered {command} in a way that makes no sense", f"虚机内的QGA对{command}的应答无法识别"
        ) from error


def explain_guest_error(error: AgentCallError, command: str) -> CoordinatorError:
    """What a failed call to a guest agent means for who asked for it."""
    if error.code in _UNAVAILABLE_CODES:
        return GuestAgentUnavailable(f"the guest agent does not answer: {error.message}", "虚机内的QGA服务不可用")
    if error.transient:
        return NodeDisconnected(f"the instance's node cannot be reached: {error.message}", "实例所在节点失去连接")
    if error.code == _FORBIDDEN_CODE:
        return GuestCommandFailed(
            f"the setting guest_commands of the node's agent does not admit {command}: {error.message}",
            f"节点agent的guest_commands配置不允许执行{command}：{error.message}",
        )
    return GuestCommandFailed(f"the guest agent refused: {error.message}", f"通过vmtools执行命令失败：{error.message}")


def _decode(encoded: str) -> str:
    return base64.b64decode(encoded).decode(errors="replace")
