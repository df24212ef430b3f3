"""The guest agent inside a guest: one command at a time for each guest, and never without a deadline."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from math import ceil
from typing import Any
from weakref import WeakValueDictionary

import libvirt
import libvirt_qemu

from agent.errors import (
    DomainForeign,
    GuestAgentCommandFailed,
    GuestAgentCommandForbidden,
    GuestAgentTimeout,
    GuestAgentUnavailable,
    HypervisorTimeout,
    RequestInvalid,
)
from agent.hypervisor.connection import Connection
from agent.hypervisor.description import PowerState, describe

# libvirt's own timeout comes first; the thread is given up only when that one does not hold.
_THREAD_MARGIN_SECONDS = 10.0
# libvirt waits that long for the guest to begin.
_SHUTDOWN_SECONDS = 60.0
_TURN_SECONDS = 5.0
_EVERYTHING = ("guest-*",)


class GuestAgents:
    """The guest agents of all domains of one node."""

    def __init__(self, connection: Connection, *, allowed_commands: tuple[str, ...] = _EVERYTHING) -> None:
        """`allowed_commands` are shell patterns of commands that may be passed on by `run_foreign`."""
        self._connection = connection
        self._allowed_commands = allowed_commands
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # Turns of guests that are frozen: nobody else is heard before they are thawed.
        self._frozen: dict[str, asyncio.Lock] = {}

    async def pass_command(self, uuid: str, command_json: str, *, timeout_seconds: float) -> str:
        """Passes a caller's command on and answers the JSON of its "return" member.

        Raises RequestInvalid, GuestAgentCommandForbidden and what `execute` raises.
        """
        command = _parse_command(command_json)
        name = command["execute"]
        if not any(fnmatchcase(name, pattern) for pattern in self._allowed_commands):
            raise GuestAgentCommandForbidden(f"this node does not allow {name}")
        answer = await self.execute(uuid, name, command.get("arguments"), timeout_seconds=timeout_seconds)
        return json.dumps(answer, ensure_ascii=False)

    async def execute(
        self, uuid: str, name: str, arguments: dict[str, Any] | None = None, *, timeout_seconds: float
    ) -> Any:
        """Runs one command in the guest and answers its "return" member.

        Raises DomainNotFound, DomainForeign, GuestAgentUnavailable, GuestAgentTimeout, GuestAgentCommandFailed.
        """
        command = {"execute": name} if arguments is None else {"execute": name, "arguments": arguments}
        async with self._turn(uuid, timeout_seconds):
            return await self._execute(uuid, command, timeout_seconds)

    async def freeze(self, uuid: str, *, timeout_seconds: float) -> int:
        """The guest's file systems are frozen, and no other command is passed to the guest until `release`.

        Answers how many: some, such as FAT, cannot be, and are passed over.

        A guest that fails to answer may freeze later: `thaw` it while it `is_held`. Raises what `execute` raises.
        """
        if uuid in self._frozen:
            raise GuestAgentTimeout("the guest is being frozen already")
        lock = self._locks.setdefault(uuid, asyncio.Lock())
        await _acquire(lock, timeout_seconds)
        self._frozen[uuid] = lock
        try:
            answer = await self._execute(uuid, {"execute": "guest-fsfreeze-freeze"}, timeout_seconds)
        except GuestAgentUnavailable:
            # Nothing has reached the guest.
            self.release(uuid)
            raise
        return answer if isinstance(answer, int) else 0

    async def thaw(self, uuid: str, *, timeout_seconds: float) -> None:
        """No file system of the guest is frozen. Waits for no turn. Raises what `execute` raises."""
        await self._execute(uuid, {"execute": "guest-fsfreeze-thaw"}, timeout_seconds)

    def is_held(self, uuid: str) -> bool:
        """Whether the guest is frozen, or may be."""
        return uuid in self._frozen

    def release(self, uuid: str) -> None:
        """Other commands are passed to the guest again; without effect when they were all the time."""
        if lock := self._frozen.pop(uuid, None):
            lock.release()

    async def _execute(self, uuid: str, command: dict[str, Any], timeout_seconds: float) -> Any:
        document = json.dumps(command)
        try:
            answer = await self._connection.call_guest_agent(
                lambda handle: _execute(handle, uuid, document, ceil(timeout_seconds)),
                timeout_seconds=ceil(timeout_seconds) + _THREAD_MARGIN_SECONDS,
            )
        except HypervisorTimeout as error:
            raise GuestAgentTimeout("the guest agent did not answer in time") from error
        return json.loads(answer).get("return")

    async def shut_down(self, uuid: str) -> None:
        """Asks the guest agent to shut the guest down; returns when the guest has begun to.

        Raises what `execute` raises. A command of its own in libvirt, since a guest agent that obeys does not answer.
        """
        async with self._turn(uuid, _TURN_SECONDS):
            await self._connection.call_guest_agent(
                lambda handle: _shut_down(handle, uuid), timeout_seconds=_SHUTDOWN_SECONDS + _THREAD_MARGIN_SECONDS
            )

    @asynccontextmanager
    async def _turn(self, uuid: str, timeout_seconds: float) -> AsyncIterator[None]:
        """Waits until no other command runs in this guest, for as long as the command itself may take."""
        lock = self._locks.setdefault(uuid, asyncio.Lock())
        await _acquire(lock, timeout_seconds)
        try:
            yield
        finally:
            lock.release()


async def _acquire(lock: asyncio.Lock, timeout_seconds: float) -> None:
    try:
        await asyncio.wait_for(lock.acquire(), timeout_seconds)
    except TimeoutError:
        raise GuestAgentTimeout("the guest agent is still busy with another command") from None


def _parse_command(command_json: str) -> dict[str, Any]:
    try:
        command = json.loads(command_json)
    except ValueError as error:
        raise RequestInvalid(f"command_json: not JSON: {error}") from error
    if not isinstance(command, dict) or not isinstance(command.get("execute"), str):
        raise RequestInvalid('command_json: not an object with a string "execute"')
    if not isinstance(command.get("arguments", {}), dict):
        raise RequestInvalid('command_json: "arguments" is not an object')
    return command


def _execute(handle: libvirt.virConnect, uuid: str, document: str, timeout_seconds: int) -> str:
    domain = _find_ready(handle, uuid)
    try:
        answer: str = libvirt_qemu.qemuAgentCommand(domain, document, timeout_seconds, 0)
    except libvirt.libvirtError as error:
        number = error.get_error_code()
        if number == libvirt.VIR_ERR_AGENT_UNRESPONSIVE:
            raise GuestAgentTimeout(error.get_error_message()) from error
        # The guest agent's own errors have no number of their own in libvirt of before 9.1.
        if number == libvirt.VIR_ERR_INTERNAL_ERROR and domain.isActive():
            raise GuestAgentCommandFailed(error.get_error_message()) from error
        raise
    return answer


def _shut_down(handle: libvirt.virConnect, uuid: str) -> None:
    _find_ready(handle, uuid).shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT)


def _find_ready(handle: libvirt.virConnect, uuid: str) -> libvirt.virDomain:
    """The domain, when it is ours, runs, and its guest agent is there."""
    domain = handle.lookupByUUIDString(uuid)
    description = describe(domain)
    if description.foreign:
        raise DomainForeign(f"domain {description.name} was not created by Nodewright")
    if description.power_state is not PowerState.RUNNING:
        raise GuestAgentUnavailable(f"the domain is {description.power_state.value}")
    if not description.channel_connected:
        raise GuestAgentUnavailable("no guest agent has opened its channel in the guest")
    return domain
