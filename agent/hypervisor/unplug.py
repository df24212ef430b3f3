"""What is on its way out of running guests: devices of the node, disks.

Pulling out is asynchronous: the guest is asked, and asked again, until libvirt's XML does not have the device. Nothing
else is believed: with no system in the guest that answers, libvirt says that a device was pulled out, and it stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from typing import Final

import libvirt
import structlog
from lxml import etree

from agent.domainxml.assignment import AssignedDomain
from agent.errors import DevicePlugUnsafe, DeviceStillAttached, DomainNotFound
from agent.hypervisor.connection import Connection
from agent.hypervisor.events import DEVICE_REMOVAL_FAILED, DEVICE_REMOVED, DomainChange, DomainEvents
from agent.hypervisor.guest import find_owned

# The elements of what is to go, in a document of the domain.
Find = Callable[[AssignedDomain], list[etree._Element]]

# libvirt by itself waits 5 s for a device to be gone.
TIMEOUT_SECONDS: Final = 120.0
_RETRY_SECONDS: Final = 5.0
# A guest that refuses at once is not asked again at once.
_REFUSED_SECONDS: Final = 1.0
_WAKING: Final = frozenset((DEVICE_REMOVED, DEVICE_REMOVAL_FAILED, "stopped", "crashed"))
# Such a guest, or such a device, never lets go while it runs.
_IMPOSSIBLE: Final = frozenset(
    (libvirt.VIR_ERR_OPERATION_UNSUPPORTED, libvirt.VIR_ERR_CONFIG_UNSUPPORTED, libvirt.VIR_ERR_NO_SUPPORT)
)

log = structlog.get_logger(__name__)


@dataclass
class Removal:
    """What is known of a device on its way out."""

    aliases: Set[str] = frozenset()
    is_refused: bool = False
    reasons: list[str] = field(default_factory=list)


class Unplugs:
    """Has guests let go of what they have, by libvirt's events and its XML."""

    def __init__(
        self, connection: Connection, events: DomainEvents, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection = connection
        self._events = events
        self._monotonic = monotonic

    async def unplug(self, uuid: str, find: Find, *, grace_seconds: float) -> None:
        """The guest was asked to let go of the device, and has, as it does when it ends.

        Raises DeviceStillAttached when it has not within the grace, DevicePlugUnsafe, DomainForeign.
        """
        removal = Removal()
        # What is told before the guest is asked is told to nobody else.
        async with self._events.subscribe() as changes:
            deadline = self._monotonic() + grace_seconds
            while True:
                await self._connection.call(
                    lambda handle: _request(handle, uuid, find, removal), timeout_seconds=TIMEOUT_SECONDS
                )
                if removal.aliases and await self._has(uuid, find):
                    await self._wait(changes, uuid, removal, deadline)
                if not await self._has(uuid, find):
                    return
                if self._monotonic() >= deadline:
                    raise DeviceStillAttached(_describe(removal, grace_seconds))

    async def _has(self, uuid: str, find: Find) -> bool:
        return bool(await self._connection.call(lambda handle: find_live(handle, uuid, find)))

    async def _wait(self, changes: asyncio.Queue[DomainChange], uuid: str, removal: Removal, deadline: float) -> None:
        """Returns when something is told of the device, or when it is time to ask again."""
        remaining = deadline - self._monotonic()
        if remaining <= 0:
            return
        removal.is_refused = await _wait_for_end(changes, uuid, removal.aliases, min(_RETRY_SECONDS, remaining))
        if removal.is_refused:
            await asyncio.sleep(min(_REFUSED_SECONDS, max(0.0, deadline - self._monotonic())))


def read_live(domain: libvirt.virDomain) -> AssignedDomain | None:
    """None while it is off."""
    return AssignedDomain(domain.XMLDesc(0)) if domain.isActive() else None


def find_live(handle: libvirt.virConnect, uuid: str, find: Find) -> list[etree._Element]:
    """The elements of a device in a running guest; none as well when that is off or gone."""
    with contextlib.suppress(DomainNotFound), unless_ended():
        live = read_live(find_owned(handle, uuid))
        return find(live) if live else []
    return []


@contextlib.contextmanager
def unless_ended() -> Iterator[None]:
    """A guest that has ended or is gone since it was looked at has nothing any more."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
            raise


def _request(handle: libvirt.virConnect, uuid: str, find: Find, removal: Removal) -> None:
    """The guest is asked once to let go of what it has of the device."""
    elements = find_live(handle, uuid, find)
    aliases = [element.find("alias") for element in elements]
    removal.aliases = frozenset(alias.get("name", "") for alias in aliases if alias is not None)
    if len(elements) > 1:
        raise DevicePlugUnsafe("a card of several functions can be taken from a guest only while it is off")
    for element in elements:
        document = etree.tostring(element, encoding="unicode", with_tail=False)
        try:
            find_owned(handle, uuid).detachDeviceFlags(document, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except libvirt.libvirtError as error:
            if error.get_error_code() in _IMPOSSIBLE:
                raise DevicePlugUnsafe(f"the device cannot be taken from a guest that runs: {error}") from error
            # It may be on its way out already, or the guest has just ended: the XML tells.
            log.info("device.unplug_refused", domain=uuid, aliases=sorted(removal.aliases), reason=str(error))
            removal.reasons.append(str(error))


async def _wait_for_end(changes: asyncio.Queue[DomainChange], uuid: str, aliases: Set[str], seconds: float) -> bool:
    """Returns when something is told of the device, or after the time given; whether the guest refuses it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                change = await changes.get()
                is_told_of = not change.device_alias or change.device_alias in aliases
                if change.is_resync or (change.uuid == uuid and change.kind in _WAKING and is_told_of):
                    return change.kind == DEVICE_REMOVAL_FAILED
    return False


def _describe(removal: Removal, grace_seconds: float) -> str:
    message = f"the guest still has the device {grace_seconds:g} s after it was asked to let go"
    if removal.is_refused:
        return f"{message}: it refuses"
    return f"{message}: {removal.reasons[-1]}" if removal.reasons else message
