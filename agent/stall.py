"""Guests that QEMU has paused because the node had no room for what they wrote: they go on as soon as there is some.

QEMU keeps such a write and does it again when the guest goes on, so that nothing is lost. libvirt knows why a guest is
paused, also after a restart of the agent; one whose disk failed in another way is left to a person.
Source: https://libvirt.org/formatdomain.html, error_policy.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import libvirt
import structlog
from lxml import etree

from agent.domain_lock import DomainLocks
from agent.errors import AgentError, HypervisorUnavailable
from agent.hypervisor.connection import Connection
from agent.hypervisor.description import GuestDescription, PowerState
from agent.hypervisor.events import DomainEvents
from agent.hypervisor.guest import Guests, find_owned

# How often it is looked whether there is room again, and the longest pause for a guest that stalls at once again.
_LOOK_SECONDS: Final = 2.0
_LONGEST_SECONDS: Final = 60.0
# With less room a guest would stall again before anybody sees it run.
_ROOM_BYTES: Final = 16 * 1024**2
_IO_ERROR: Final = "ioerror"

log = structlog.get_logger(__name__)


class StallWatch:
    """Lets guests go on that were out of space."""

    def __init__(
        self,
        connection: Connection,
        guests: Guests,
        events: DomainEvents,
        locks: DomainLocks,
        *,
        free_bytes: Callable[[Path], int] | None = None,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._connection = connection
        self._guests = guests
        self._events = events
        self._locks = locks
        self._free_bytes = free_bytes or _free_bytes
        self._look_seconds = look_seconds
        # By guest: when it is looked at again, and the pause after that.
        self._due: dict[str, tuple[float, float]] = {}

    async def run(self) -> None:
        """Looks after each pause of a guest, and all the while one lacks space, until it is cancelled."""
        async with self._events.subscribe() as changes:
            while True:
                pause_seconds = await self._look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_seconds):
                        while (change := await changes.get()).kind != "suspended" and not change.is_resync:
                            pass

    async def _look(self) -> float | None:
        """When it is to be looked again if nothing happens; None: no guest is stalled."""
        try:
            stalled = [guest for guest in await self._guests.list() if _is_stalled(guest)]
        except HypervisorUnavailable:
            # All is read again when it is back.
            return None
        except AgentError as error:
            log.warning("guest.stall_not_seen", reason=str(error))
            return self._look_seconds
        uuids = {guest.uuid for guest in stalled}
        now = time.monotonic()
        # Who went on a while ago begins anew.
        self._due = {uuid: due for uuid, due in self._due.items() if uuid in uuids or due[0] + _LONGEST_SECONDS > now}
        lacking = [await self._help(guest, now) for guest in stalled]
        if any(lacking):
            return self._look_seconds
        return _LONGEST_SECONDS if stalled else None

    async def _help(self, guest: GuestDescription, now: float) -> bool:
        """Whether space is what it needs, as far as is known."""
        at, pause_seconds = self._due.get(guest.uuid, (0.0, 0.0))
        if not pause_seconds:
            log.warning("guest.stalled", uuid=guest.uuid, name=guest.name)
        if now < at:
            return True
        self._due[guest.uuid] = (now, pause_seconds or self._look_seconds)
        try:
            files = await self._find_files(guest.uuid)
            # Not under the lock: a file system may take long to answer.
            if not files or not await asyncio.to_thread(self._have_space, files):
                return bool(files)
            async with self._locks.of(guest.uuid):
                # Whoever had the lock may have paused it for another reason.
                if not await self._find_files(guest.uuid):
                    return False
                await self._guests.resume(guest.uuid)
        except (AgentError, OSError) as error:
            log.warning("guest.not_resumed", uuid=guest.uuid, reason=str(error))
            return True
        pause_seconds = self._due[guest.uuid][1]
        self._due[guest.uuid] = (now + pause_seconds, min(2 * pause_seconds, _LONGEST_SECONDS))
        log.info("guest.resumed", uuid=guest.uuid, name=guest.name)
        return True

    async def _find_files(self, uuid: str) -> list[Path]:
        return await self._connection.call(lambda handle: _find_full_disks(find_owned(handle, uuid)))

    def _have_space(self, files: Sequence[Path]) -> bool:
        # What is not of a file system of this node tells by itself: the guest is paused again.
        return all(not path.is_file() or self._free_bytes(path) >= _ROOM_BYTES for path in files)


def _is_stalled(guest: GuestDescription) -> bool:
    return not guest.foreign and guest.power_state is PowerState.PAUSED and guest.power_state_reason == _IO_ERROR


def _find_full_disks(domain: libvirt.virDomain) -> list[Path]:
    """Files or devices of the disks that had no room; none when a disk failed otherwise, or the guest runs by now."""
    state, reason = domain.state()
    if (state, reason) != (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR):
        return []
    errors = domain.diskErrors()
    if any(error != libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE for error in errors.values()):
        return []
    found = []
    for disk in etree.fromstring(domain.XMLDesc(0)).iterfind("devices/disk"):
        target, source = disk.find("target"), disk.find("source")
        if target is not None and source is not None and target.get("dev") in errors:
            found.append(Path(source.get("file") or source.get("dev") or source.get("name") or "/"))
    return found


def _free_bytes(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
