"""What the monitoring helper tells inside of guests, read through their guest agents.

The helper, `nodewright-monitor` of the disc with the guest tools, keeps the file below while it runs. A guest may write
there whatever it likes: nothing of it is believed beyond its own figures.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final

from agent.errors import AgentError
from agent.hypervisor.guest_agent import GuestAgents

_PATH: Final = "/run/nodewright/monitor.json"
_MAXIMUM_BYTES: Final = 16 * 1024
_MAXIMUM_VERSION: Final = 1_000_000
_TIMEOUT_SECONDS: Final = 5.0


async def read_monitor_version(guest_agents: GuestAgents, uuid: str) -> int:
    """The version of the helper that runs in the guest; 0: none does, or the guest lets nobody read it."""
    try:
        figures = await _read(guest_agents, uuid)
    except (AgentError, LookupError, TypeError, ValueError, RecursionError):
        return 0
    version = figures.get("version") if isinstance(figures, dict) else None
    return version if type(version) is int and 0 < version <= _MAXIMUM_VERSION else 0


async def _read(guest_agents: GuestAgents, uuid: str) -> Any:
    handle = await _ask(guest_agents, uuid, "guest-file-open", path=_PATH, mode="r")
    try:
        answer = await _ask(guest_agents, uuid, "guest-file-read", handle=handle, count=_MAXIMUM_BYTES)
    finally:
        await _ask(guest_agents, uuid, "guest-file-close", handle=handle)
    try:
        return json.loads(base64.b64decode(answer["buf-b64"], validate=True))
    except binascii.Error as error:
        raise ValueError("not base64") from error


async def _ask(guest_agents: GuestAgents, uuid: str, command: str, **arguments: object) -> Any:
    return await guest_agents.execute(uuid, command, arguments, timeout_seconds=_TIMEOUT_SECONDS)
