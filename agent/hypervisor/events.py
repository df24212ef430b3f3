"""What happens to domains, for everybody in the agent who wants to know.

libvirt's callbacks run in a thread of its own and only hand a plain value to the event loop. After a reconnect, and for
a subscriber that was too slow, the one change that is delivered is RESYNC: events were lost, so read everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import libvirt

from agent.hypervisor.connection import Connection, ConnectionState

_QUEUE_LENGTH = 1024

_LIFECYCLE_KINDS: Final = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: "defined",
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: "undefined",
    libvirt.VIR_DOMAIN_EVENT_STARTED: "started",
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: "suspended",
    libvirt.VIR_DOMAIN_EVENT_RESUMED: "resumed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED: "stopped",
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: "shutdown",
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: "pmsuspended",
    libvirt.VIR_DOMAIN_EVENT_CRASHED: "crashed",
}
GUEST_AGENT_CONNECTED: Final = "guest-agent-connected"
GUEST_AGENT_DISCONNECTED: Final = "guest-agent-disconnected"
# Published by the prober: what is known about a guest agent has changed.
GUEST_AGENT: Final = "guest-agent"
REBOOTED: Final = "rebooted"
# A device was pulled out of a guest, or the guest does not let it go.
DEVICE_REMOVED: Final = "device-removed"
DEVICE_REMOVAL_FAILED: Final = "device-removal-failed"
# Told by the agent after what it did to a guest itself, and by libvirt of what has no word here.
CHANGED: Final = "changed"


@dataclass(frozen=True)
class DomainChange:
    """Something that happened to a domain; with an empty UUID: to all of them, as far as anybody knows."""

    uuid: str
    name: str
    kind: str
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    # Of what is told of a device: its alias.
    device_alias: str = ""

    @property
    def is_resync(self) -> bool:
        """Whether changes were lost, so that everything must be read again."""
        return not self.uuid


class DomainEvents:
    """The one place where libvirt's domain events arrive."""

    def __init__(self, connection: Connection) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._subscribers: set[asyncio.Queue[DomainChange]] = set()
        connection.add_setup(self._register)
        connection.add_listener(self._on_connection)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[asyncio.Queue[DomainChange]]:
        """A queue that gets every change from now on."""
        self._loop = asyncio.get_running_loop()
        subscriber: asyncio.Queue[DomainChange] = asyncio.Queue(_QUEUE_LENGTH)
        self._subscribers.add(subscriber)
        try:
            yield subscriber
        finally:
            self._subscribers.discard(subscriber)

    def publish(self, change: DomainChange) -> None:
        """Hands a change to all subscribers; call it in the event loop."""
        for subscriber in self._subscribers:
            if subscriber.full():
                while not subscriber.empty():
                    subscriber.get_nowait()
                subscriber.put_nowait(_resync())
            subscriber.put_nowait(change)

    def announce(self, domain: libvirt.virDomain, kind: str, *, device_alias: str = "") -> None:
        """Hands a change of this domain to all subscribers; call it in any thread."""
        change = DomainChange(domain.UUIDString(), domain.name(), kind, device_alias=device_alias)
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self.publish, change)

    def _on_connection(self, state: ConnectionState) -> None:
        if state is ConnectionState.OPEN:
            self.publish(_resync())

    def _register(self, handle: libvirt.virConnect) -> None:
        for event_id, callback in (
            (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle),
            (libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, self._on_reboot),
            (libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, self._on_agent_lifecycle),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self.on_device_removed),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, self.on_device_removal_failed),
        ):
            handle.domainEventRegisterAny(None, event_id, callback, None)

    def _on_lifecycle(
        self, _handle: libvirt.virConnect, domain: libvirt.virDomain, event: int, detail: int, _opaque: Any
    ) -> None:
        kind = _LIFECYCLE_KINDS.get(event, CHANGED)
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED and detail == libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED:
            kind = "crashed"
        self.announce(domain, kind)

    def _on_reboot(self, _handle: libvirt.virConnect, domain: libvirt.virDomain, _opaque: Any) -> None:
        self.announce(domain, REBOOTED)

    def _on_agent_lifecycle(
        self, _handle: libvirt.virConnect, domain: libvirt.virDomain, state: int, _reason: int, _opaque: Any
    ) -> None:
        connected = state == libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED
        self.announce(domain, GUEST_AGENT_CONNECTED if connected else GUEST_AGENT_DISCONNECTED)

    def on_device_removed(
        self, _handle: libvirt.virConnect, domain: libvirt.virDomain, alias: str, _opaque: Any
    ) -> None:
        """libvirt's callback: the guest has let go."""
        self.announce(domain, DEVICE_REMOVED, device_alias=alias)

    def on_device_removal_failed(
        self, _handle: libvirt.virConnect, domain: libvirt.virDomain, alias: str, _opaque: Any
    ) -> None:
        """libvirt's callback: the guest refuses, for now."""
        self.announce(domain, DEVICE_REMOVAL_FAILED, device_alias=alias)


def _resync() -> DomainChange:
    return DomainChange("", "", "")
