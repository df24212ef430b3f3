"""Whether the guest agents answer: asked when one appears, then rarely, so that what is reported about them is true.

A guest agent that opened its channel may still hang, so being connected is not enough. Few guests are asked at the same
time, and a silent one costs its own deadline only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Final

import structlog

from agent.errors import AgentError, DomainForeign, DomainNotFound, GuestAgentUnavailable, HypervisorUnavailable
from agent.hypervisor import events
from agent.hypervisor.description import GuestDescription, PowerState
from agent.hypervisor.events import DomainChange, DomainEvents
from agent.hypervisor.guest import Guests
from agent.hypervisor.guest_agent import GuestAgents
from agent.hypervisor.guest_monitor import read_monitor_version

# A guest agent that answers is asked rarely; one that does not is asked again sooner, as it may only be slow to start.
_HEALTHY_INTERVAL_SECONDS = 300.0
_SILENT_INTERVAL_SECONDS = 30.0
_PROBE_TIMEOUT_SECONDS = 5.0
_CONCURRENT_PROBES = 4
_ON_KINDS: Final = frozenset(("resumed", events.GUEST_AGENT_CONNECTED))
_OFF_KINDS: Final = frozenset(("stopped", "crashed", "undefined", events.GUEST_AGENT_DISCONNECTED))

log = structlog.get_logger(__name__)


class GuestAgentState(Enum):
    """What is known about a guest agent; the values are the words of the agent's API."""

    RUNNING = "RUNNING"
    NOT_RUNNING = "NOT_RUNNING"
    NOT_RESPONDING = "NOT_RESPONDING"


@dataclass(frozen=True)
class GuestAgentProbe:
    """The outcome of asking one guest agent."""

    state: GuestAgentState
    version: str
    probed_at: datetime
    # Of the monitoring helper in the guest; 0: none runs there, or nobody knows.
    monitor_version: int = 0


class GuestAgentProber:
    """Keeps the last probe of every domain."""

    def __init__(
        self,
        guests: Guests,
        guest_agents: GuestAgents,
        domain_events: DomainEvents,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._guests = guests
        self._guest_agents = guest_agents
        self._events = domain_events
        self._now = now
        self._probes: dict[str, GuestAgentProbe] = {}
        self._waiting: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_CONCURRENT_PROBES)

    def last(self, description: GuestDescription) -> GuestAgentProbe:
        """What is known about the domain's guest agent, without asking it."""
        known = self._probes.get(description.uuid)
        connected = description.power_state is PowerState.RUNNING and description.channel_connected
        if known is not None and connected == (known.state is not GuestAgentState.NOT_RUNNING):
            return known
        # Seen before the event that tells it, or before the probe that its coming causes has ended.
        state = GuestAgentState.NOT_RESPONDING if connected else GuestAgentState.NOT_RUNNING
        self._probes[description.uuid] = GuestAgentProbe(state, "", self._now())
        return self._probes[description.uuid]

    async def probe(self, uuid: str) -> GuestAgentProbe:
        """Asks the guest agent now; nothing is raised because of the guest.

        Raises DomainNotFound, DomainForeign and HypervisorUnavailable.
        """
        async with self._slots:
            outcome = await self._ask(uuid)
        known = self._probes.get(uuid)
        self._probes[uuid] = outcome
        if known is None or replace(known, probed_at=outcome.probed_at) != outcome:
            self._events.publish(DomainChange(uuid, "", events.GUEST_AGENT))
        return outcome

    async def run(self) -> None:
        """Probes until it is cancelled."""
        try:
            async with self._events.subscribe() as changes:
                await self._probe_all()
                while True:
                    await self._handle(await changes.get())
        finally:
            for task in self._waiting.values():
                task.cancel()

    async def _handle(self, change: DomainChange) -> None:
        if change.is_resync:
            await self._probe_all()
        elif change.kind in _ON_KINDS:
            self._schedule(change.uuid, 0.0)
        elif change.kind in _OFF_KINDS:
            self._forget(change)

    def _forget(self, change: DomainChange) -> None:
        self._cancel(change.uuid)
        if change.kind == "undefined":
            self._probes.pop(change.uuid, None)
        elif change.uuid in self._probes:
            self._probes[change.uuid] = GuestAgentProbe(GuestAgentState.NOT_RUNNING, "", self._now())

    async def _probe_all(self) -> None:
        try:
            descriptions = await self._guests.list()
        except AgentError as error:
            # A reconnect brings the next chance by itself.
            log.warning("prober.list_failed", code=error.code, reason=error.message)
            return
        for uuid in self._probes.keys() - {description.uuid for description in descriptions}:
            del self._probes[uuid]
        for description in descriptions:
            running = description.power_state is PowerState.RUNNING
            if running and description.channel_connected and not description.foreign:
                self._schedule(description.uuid, 0.0)

    def _schedule(self, uuid: str, delay_seconds: float) -> None:
        self._cancel(uuid)
        self._waiting[uuid] = asyncio.create_task(self._keep_probing(uuid, delay_seconds))

    def _cancel(self, uuid: str) -> None:
        if (task := self._waiting.pop(uuid, None)) is not None:
            task.cancel()

    async def _keep_probing(self, uuid: str, delay_seconds: float) -> None:
        with contextlib.suppress(DomainNotFound, DomainForeign, HypervisorUnavailable):
            while True:
                await asyncio.sleep(delay_seconds)
                outcome = await self.probe(uuid)
                if outcome.state is GuestAgentState.NOT_RUNNING:
                    return
                silent = outcome.state is GuestAgentState.NOT_RESPONDING
                delay_seconds = _SILENT_INTERVAL_SECONDS if silent else _HEALTHY_INTERVAL_SECONDS

    async def _ask(self, uuid: str) -> GuestAgentProbe:
        try:
            answer = await self._guest_agents.execute(uuid, "guest-info", timeout_seconds=_PROBE_TIMEOUT_SECONDS)
        except (DomainNotFound, DomainForeign, HypervisorUnavailable):
            raise
        except GuestAgentUnavailable:
            return GuestAgentProbe(GuestAgentState.NOT_RUNNING, "", self._now())
        except AgentError:
            return GuestAgentProbe(GuestAgentState.NOT_RESPONDING, "", self._now())
        version = answer.get("version", "") if isinstance(answer, dict) else ""
        monitor_version = await read_monitor_version(self._guest_agents, uuid)
        return GuestAgentProbe(GuestAgentState.RUNNING, str(version), self._now(), monitor_version)
