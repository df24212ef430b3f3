"""What guests' monitoring helpers tell, and what guests without one, or with bad intent, do."""

import base64
import json
from typing import Any

import pytest

from agent.errors import AgentError, GuestAgentCommandFailed, GuestAgentTimeout
from agent.hypervisor.guest_agent import GuestAgents
from agent.hypervisor.guest_monitor import read_monitor_version

UUID = "0f1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d12"


class AGuest(GuestAgents):
    """One with that content in the helper's file, or an agent that fails at that command."""

    def __init__(self, content: bytes = b"", failures: dict[str, AgentError] | None = None) -> None:
        self.content, self.failures = content, failures or {}
        self.asked: list[str] = []

    async def execute(
        self, uuid: str, name: str, arguments: dict[str, Any] | None = None, *, timeout_seconds: float
    ) -> Any:
        self.asked.append(name)
        if error := self.failures.get(name):
            raise error
        read = {"count": len(self.content), "buf-b64": base64.b64encode(self.content).decode(), "eof": True}
        return {"guest-file-open": 1000, "guest-file-read": read}.get(name, {})


@pytest.mark.parametrize(
    ("content", "version"),
    [
        (json.dumps({"version": 1, "load": [0, 0, 0]}).encode(), 1),
        (b"", 0),
        (b"\xff", 0),
        (b"[" * 10_000, 0),
        (b"[1]", 0),
        (b'{"version": "1"}', 0),
        (b'{"version": -1}', 0),
        (b'{"version": true}', 0),
        (b'{"version": 1e400}', 0),
        (b'{"version": ' + b"9" * 300 + b"}", 0),
        (b'{"version": ' + b"9" * 9000 + b"}", 0),
    ],
)
async def test_only_a_version_is_a_version(content: bytes, version: int) -> None:
    guest = AGuest(content)
    assert await read_monitor_version(guest, UUID) == version
    assert guest.asked == ["guest-file-open", "guest-file-read", "guest-file-close"]


@pytest.mark.parametrize("command", ["guest-file-open", "guest-file-read", "guest-file-close"])
@pytest.mark.parametrize("error", [GuestAgentCommandFailed("disabled"), GuestAgentTimeout("silent")])
async def test_a_guest_that_cannot_be_read_has_none(command: str, error: AgentError) -> None:
    guest = AGuest(b'{"version": 1}', {command: error})
    assert await read_monitor_version(guest, UUID) == 0
    assert ("guest-file-close" in guest.asked) == (command != "guest-file-open")
