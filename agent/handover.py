"""Giving things to guests and taking them back: one call at a time for each, and nobody else waits for the guest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol
from weakref import WeakValueDictionary

from agent.devices.thread import finish
from agent.domain_lock import DomainLocks
from agent.errors import DeviceStillAttached


class Unplug(Protocol):
    """Has the running guest let go; raises DeviceStillAttached when it does not."""

    def __call__(self, *, grace_seconds: float) -> Awaitable[None]: ...


class Handovers:
    """While something is on its way out of a guest it is not plugged in, but the guest can be stopped."""

    def __init__(self, locks: DomainLocks) -> None:
        self._locks = locks
        self._device_locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def lock(self, domain_uuid: str, device_uuid: str) -> asyncio.Lock:
        """Held while the guest gets the device or loses it."""
        return self._device_locks.setdefault((domain_uuid, device_uuid), asyncio.Lock())

    async def attach(self, domain_uuid: str, device_uuid: str, plug: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """The guest gets it, whatever becomes of who asked for it: libvirt goes on, and who takes it back must find it.

        Raises what `plug` raises.
        """
        async with self.lock(domain_uuid, device_uuid), self._locks.of(domain_uuid):
            await finish(asyncio.ensure_future(plug()))

    async def detach(
        self,
        domain_uuid: str,
        device_uuid: str,
        *,
        grace_seconds: float,
        unplug: Unplug,
        forget: Callable[[], Awaitable[bool]],
    ) -> None:
        """The guest does not have the device, nor will have it after a start. Raises DeviceStillAttached.

        `forget` takes it from the definition, and answers False while the running guest has it.
        """
        deadline = time.monotonic() + grace_seconds
        async with self.lock(domain_uuid, device_uuid):
            while True:
                remaining = deadline - time.monotonic()
                await unplug(grace_seconds=max(0.0, remaining))
                async with self._locks.of(domain_uuid):
                    if await forget():
                        return
                # It was off for a moment, and has been started with the device.
                if remaining <= 0:
                    raise DeviceStillAttached("the guest was started anew while the device was taken from it")
