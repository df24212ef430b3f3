"""Ending guests: asked for by the guest agent, then by ACPI, or at once. Asking never turns into forcing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final

from agent.errors import AgentError, DomainForeign, DomainStateConflict, DomainStopTimeout
from agent.hypervisor.description import GuestDescription, PowerState
from agent.hypervisor.events import DomainChange, DomainEvents
from agent.hypervisor.guest import Guests
from agent.hypervisor.guest_agent import GuestAgents

OFF_STATES: Final = frozenset((PowerState.SHUTOFF, PowerState.CRASHED, PowerState.HIBERNATED))
# These guests execute nothing, so that they cannot answer.
_DEAF_STATES: Final = frozenset((PowerState.PAUSED, PowerState.SUSPENDED))

_PROGRESS_SECONDS: Final = 1.0
# After this long a guest agent that took the request, and did nothing, is helped by ACPI.
_GUEST_AGENT_SECONDS: Final = 20.0
# A guest that is still starting loses the press of a button: it is pressed again.
_PRESS_INTERVAL_SECONDS: Final = 10.0


@dataclass(frozen=True)
class StopProgress:
    """How long the guest has been asked, and by what: "guest-agent", "acpi" or "destroy"."""

    elapsed_seconds: float
    method: str


class Stops:
    """Ends guests."""

    def __init__(
        self,
        guests: Guests,
        guest_agents: GuestAgents,
        events: DomainEvents,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._guests = guests
        self._guest_agents = guest_agents
        self._events = events
        self._monotonic = monotonic

    async def force(self, uuid: str) -> AsyncGenerator[StopProgress]:
        """Ends the guest at once."""
        started = self._monotonic()
        await self._guests.destroy(uuid)
        yield StopProgress(self._monotonic() - started, "destroy")

    async def ask(self, uuid: str, *, grace_seconds: float) -> AsyncGenerator[StopProgress]:
        """Asks the guest to shut down and waits until it has, telling progress.

        Raises DomainStopTimeout after the grace, the guest running on; DomainStateConflict when it is paused.
        """
        async with self._events.subscribe() as changes, contextlib.AsyncExitStack() as stack:
            description = await self._guests.get(uuid)
            _check_askable(description)
            if description.power_state in OFF_STATES:
                return
            request = stack.enter_context(_Request(self._guests, self._guest_agents, description))
            started = self._monotonic()
            while (elapsed := self._monotonic() - started) < grace_seconds:
                await request.advance(elapsed)
                yield StopProgress(elapsed, request.method)
                await _wait_for_change(changes, uuid, min(_PROGRESS_SECONDS, grace_seconds - elapsed))
                if (await self._guests.get(uuid)).power_state in OFF_STATES:
                    return
        raise DomainStopTimeout(f"the guest still runs {grace_seconds:g} s after it was asked to shut down")


class _Request(contextlib.AbstractContextManager["_Request"]):
    """The request to one guest, repeated and made stronger as time passes."""

    def __init__(self, guests: Guests, guest_agents: GuestAgents, description: GuestDescription) -> None:
        self._guests = guests
        self._uuid = description.uuid
        self._presses = 0
        self.method = "guest-agent" if description.channel_connected else "acpi"
        # It waits for the guest, which may never answer: not longer than somebody waits for it.
        self._shutdown: asyncio.Task[None] | None = None
        if description.channel_connected:
            self._shutdown = asyncio.create_task(guest_agents.shut_down(self._uuid))

    def __exit__(self, *_: object) -> None:
        if self._shutdown is not None:
            self._shutdown.cancel()

    async def advance(self, elapsed_seconds: float) -> None:
        """Does what is due by now."""
        if self.method == "guest-agent" and (self._has_failed() or elapsed_seconds >= _GUEST_AGENT_SECONDS):
            self.method = "acpi"
        if self.method == "acpi" and elapsed_seconds >= self._presses * _PRESS_INTERVAL_SECONDS:
            self._presses = int(elapsed_seconds // _PRESS_INTERVAL_SECONDS) + 1
            # Between two looks the guest may have ended, which is what was wanted.
            with contextlib.suppress(DomainStateConflict):
                await self._guests.press_power_button(self._uuid)

    def _has_failed(self) -> bool:
        task = self._shutdown
        return task is not None and task.done() and isinstance(task.exception(), AgentError)


def _check_askable(description: GuestDescription) -> None:
    if description.foreign:
        raise DomainForeign(f"domain {description.name} was not created by Nodewright")
    if description.power_state in _DEAF_STATES:
        raise DomainStateConflict(
            f"domain {description.name} is {description.power_state.value}: it cannot shut down before it is resumed"
        )


async def _wait_for_change(changes: asyncio.Queue[DomainChange], uuid: str, timeout_seconds: float) -> None:
    """Returns at the next change of the domain, or after the time given."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            while (await changes.get()).uuid not in ("", uuid):
                pass
