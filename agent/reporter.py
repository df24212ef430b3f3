"""Tells the coordinator what this node is and what happens to its domains.

A session begins with everything that is known, and goes on with changes. Whatever breaks it (the coordinator was away
for longer than the lease, it does not know the session, libvirt came back, events were lost), the next one begins
with everything again. The agent serves on all the while. While libvirt is away the session goes on, for its lease says
that the agent lives; there is nothing to tell until libvirt comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog

from agent.configure.disk_limit import DiskLimit
from agent.coordinator_client import CoordinatorClient, CoordinatorRefused, CoordinatorUnavailable
from agent.devices.hostdev import describe_user
from agent.errors import AgentError, HypervisorUnavailable
from agent.facts.memory import Memory
from agent.hypervisor.description import absent
from agent.hypervisor.events import DomainChange, DomainEvents
from agent.hypervisor.guest import Guests
from agent.hypervisor.prober import GuestAgentProber
from agent.rpc.encoding import encode_domain, encode_duration, encode_time
from agent.self_fence import SelfFence
from agent.watchdog.record import FencedGuest
from protos.agent.v1.domain_pb2 import Domain, DomainEvent
from protos.agent.v1.host_pb2 import HostFacts, HostInventory, StoragePlace
from protos.coordinator.v1 import node_pb2

_FIRST_RETRY_SECONDS: Final = 0.5
_LAST_RETRY_SECONDS: Final = 15.0
_INVENTORY_SECONDS: Final = 30.0
_MOST_EVENTS: Final = 100
_HEARTBEAT_SECONDS: Final = 15.0
_HEARTBEATS_IN_TOLERANCE: Final = 6
# Free space changes with every byte that a guest writes; less than this is no news.
_STORAGE_STEP_BYTES: Final = 256 * 1024**2

log = structlog.get_logger(__name__)


class Host(Protocol):
    """The node's facts and inventory."""

    async def facts(self, memory: Memory | None = None, /) -> HostFacts:
        """Facts of the hardware and the software; without a memory of what is known all of it is read."""

    async def inventory(self, memory: Memory | None = None, /) -> HostInventory:
        """What the node offers to guests; the same."""


class Changes(Protocol):
    """What tells that the node's facts or inventory may have changed."""

    async def wait(self, seconds: float) -> Memory:
        """Returns when something has changed, or when the time is over: with what is known and has not changed."""

    def notice(self) -> None:
        """Something has changed."""


class SessionBroken(Exception):
    """What the coordinator knows may be wrong: tell it everything."""


class DomainView:
    """Domains as they are reported."""

    def __init__(self, guests: Guests, prober: GuestAgentProber) -> None:
        self._guests = guests
        self._prober = prober

    async def list_domains(self) -> list[Domain]:
        """All domains, foreign ones included."""
        return [
            encode_domain(description, None if description.foreign else self._prober.last(description))
            for description in await self._guests.list()
        ]

    async def describe(self, change: DomainChange) -> DomainEvent:
        """The domain after a change."""
        description = await self._guests.find(change.uuid) or absent(change.uuid, change.name)
        domain = encode_domain(description, None if description.foreign else self._prober.last(description))
        return DomainEvent(at=encode_time(change.at), domain=domain, kind=change.kind)


class Reporter:
    """Keeps sessions with the coordinator until it is cancelled."""

    def __init__(
        self,
        client: CoordinatorClient,
        host: Host,
        domains: DomainView,
        events: DomainEvents,
        self_fence: SelfFence,
        changes: Changes,
        *,
        advertise_address: Callable[[], str],
        zone: str,
        list_ended: Callable[[], Sequence[str]] = tuple,
        on_session: Callable[[bool], None] = lambda _: None,
        on_disk_limits: Callable[[Mapping[str, DiskLimit]], Awaitable[None]] | None = None,
    ) -> None:
        self._client = client
        self._host = host
        self._domains = domains
        self._events = events
        self._self_fence = self_fence
        self._changes = changes
        self._advertise_address = advertise_address
        self._zone = zone
        self._list_ended = list_ended
        self._on_session = on_session
        self._on_disk_limits = on_disk_limits

    async def run(self) -> None:
        """Never ends by itself, and never because of the coordinator or of libvirt."""
        async with self._events.subscribe() as changes:
            retry_seconds = _FIRST_RETRY_SECONDS
            while True:
                began = time.monotonic()
                # A task of its own: one whose task group failed stays marked as cancelled (until Python 3.13), and
                # a timeout in it would end it instead of what has taken too long.
                failures = await asyncio.create_task(self._hold_session(changes))
                self._on_session(False)
                reason = "; ".join(map(str, failures))
                if all(isinstance(failure, SessionBroken) for failure in failures):
                    # Nobody has failed: both sides are there, and the coordinator waits for what is true now.
                    log.info("coordinator.session_renewed", reason=reason)
                    retry_seconds = _FIRST_RETRY_SECONDS
                    continue
                if time.monotonic() - began > _LAST_RETRY_SECONDS:
                    retry_seconds = _FIRST_RETRY_SECONDS
                log.warning("coordinator.session_ended", reason=reason, retry_seconds=round(retry_seconds, 1))
                await _pause(changes, retry_seconds * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, no secret
                retry_seconds = min(retry_seconds * 2, self._longest_retry_seconds)

    @property
    def _longest_retry_seconds(self) -> float:
        """A coordinator that comes back in time is noticed before highly available guests end for want of it."""
        tolerance_seconds = self._self_fence.tolerance_seconds
        return min(_LAST_RETRY_SECONDS, tolerance_seconds / _HEARTBEATS_IN_TOLERANCE or _LAST_RETRY_SECONDS)

    async def _hold_session(self, changes: asyncio.Queue[DomainChange]) -> Sequence[BaseException]:
        """Registers and reports until something breaks; answers what."""
        failures: Sequence[BaseException] = ()
        try:
            session = await self._register(changes)
            self._on_session(True)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(session.send_heartbeats())
                tasks.create_task(session.send_events(changes))
                tasks.create_task(session.send_inventory())
        except* (CoordinatorUnavailable, CoordinatorRefused, SessionBroken, AgentError, OSError) as group:
            # OSError: for example no route to the coordinator yet, right after a boot.
            failures = group.exceptions
        return failures

    async def _register(self, changes: asyncio.Queue[DomainChange]) -> Session:
        # Changes from now on come after what is told here; those before are part of it.
        while not changes.empty():
            changes.get_nowait()
        facts, inventory = await self._host.facts(), await self._host.inventory()
        request = node_pb2.RegisterRequest(
            facts=facts,
            inventory=inventory,
            domains=await self._domains.list_domains(),
            advertise_address=await asyncio.to_thread(self._advertise_address),  # may ask a name server
            zone=self._zone,
            session_id=secrets.token_hex(16),
            self_fence=encode_self_fence(self._self_fence),
            fenced_domains=encode_fenced(self._self_fence.list_fenced()),
            ended_domain_uuids=await asyncio.to_thread(self._list_ended),
        )
        self._self_fence.note_sending(0)
        answer = await self._client.register(request)
        ha_guests = [domain.uuid for domain in request.domains if domain.ha_enabled]
        self._self_fence.begin(ha_guests, answer.ha_tolerance_seconds)
        self._self_fence.release(answer.released_domain_uuids)
        if self._on_disk_limits:
            await self._on_disk_limits({kind: decode_disk_limit(it) for kind, it in answer.disk_limits.items()})
        log.info("coordinator.registered", unexpected_domains=list(answer.unexpected_domain_uuids))
        return Session(self._client, self._host, self._domains, self._self_fence, self._changes, request, answer)


class Session:
    """Reports between one registration and the next. Every method raises when the session is over."""

    def __init__(
        self,
        client: CoordinatorClient,
        host: Host,
        domains: DomainView,
        self_fence: SelfFence,
        changes: Changes,
        beginning: node_pb2.RegisterRequest,
        terms: node_pb2.RegisterResponse,
    ) -> None:
        self._client = client
        self._host = host
        self._domains = domains
        self._self_fence = self_fence
        self._changes = changes
        self._session_id = beginning.session_id
        self._lease_seconds = terms.lease.ToTimedelta().total_seconds()
        self._interval_seconds = terms.heartbeat_interval.ToTimedelta().total_seconds()
        self._told = (beginning.facts, beginning.inventory)
        self._told_fenced = list(beginning.fenced_domains)
        self._last_sequence = 0
        self._heartbeats = 0

    async def send_heartbeats(self) -> None:
        """Renews the lease; gives up when it has ended for want of an answer."""
        answered = time.monotonic()
        while True:
            await asyncio.sleep(self._interval_seconds)
            try:
                await self._send_heartbeat()
                answered = time.monotonic()
            except CoordinatorUnavailable:
                if time.monotonic() - answered > self._lease_seconds:
                    raise

    async def _send_heartbeat(self) -> None:
        self._heartbeats += 1
        request = node_pb2.HeartbeatRequest(
            session_id=self._session_id,
            last_event_sequence=self._last_sequence,
            sequence=self._heartbeats,
            self_fence=encode_self_fence(self._self_fence),
        )
        # One answer that is lost must not cost the time of several.
        patience_seconds = max(self._interval_seconds, self._self_fence.tolerance_seconds / _HEARTBEATS_IN_TOLERANCE)
        self._self_fence.note_sending(self._heartbeats)
        answer = await self._client.heartbeat(request, min(_HEARTBEAT_SECONDS, patience_seconds or _HEARTBEAT_SECONDS))
        if answer.HasField("ha_terms"):
            self._self_fence.renew(answer.ha_terms.stored_heartbeat, answer.ha_terms.ha_tolerance_seconds)
            await self._look_for_fenced()

    async def _look_for_fenced(self) -> None:
        """Only a registration tells of what the watchdog has ended, and has it released: no guest starts before."""
        fenced = encode_fenced(await asyncio.to_thread(self._self_fence.list_fenced))
        if not self._self_fence.is_over and any(guest not in self._told_fenced for guest in fenced):
            raise SessionBroken("highly available guests were ended here while the session went on")

    async def send_events(self, changes: asyncio.Queue[DomainChange]) -> None:
        """Sends changes in order, each until it was stored."""
        async for batch in _batches(changes):
            if any(change.is_resync for change in batch):
                raise SessionBroken("events may be lost")
            try:
                events = [await self._domains.describe(change) for change in batch]
            except HypervisorUnavailable:  # its coming back is a change, after which everything is told
                continue
            numbered = [
                node_pb2.ReportedEvent(sequence=self._last_sequence + offset, event=event)
                for offset, event in enumerate(events, start=1)
            ]
            await self._deliver(numbered)
            self._notice_released(events)
            self._last_sequence += len(numbered)

    def _notice_released(self, events: Sequence[DomainEvent]) -> None:
        """What a domain had may be free now: that shall not wait for its turn."""
        _, told = self._told
        reasons = {describe_user(event.domain.name) for event in events}
        if any(device.withheld_reason in reasons for device in told.devices):
            self._changes.notice()

    async def send_inventory(self) -> None:
        """Sends facts and inventory when they have changed: soon where something tells of it, else after a while."""
        wait_seconds = _INVENTORY_SECONDS
        while True:
            known = await self._changes.wait(wait_seconds)
            wait_seconds = _INVENTORY_SECONDS
            try:
                facts, inventory = await self._host.facts(known), await self._host.inventory(known)
            except HypervisorUnavailable:
                continue
            if not self._is_news(facts, inventory):
                continue
            request = node_pb2.ReportInventoryRequest(session_id=self._session_id, facts=facts, inventory=inventory)
            try:
                await self._client.report_inventory(request)
                self._told = (facts, inventory)
            except CoordinatorUnavailable:  # still news the next time
                wait_seconds = min(_INVENTORY_SECONDS, _LAST_RETRY_SECONDS)

    async def _deliver(self, events: list[node_pb2.ReportedEvent]) -> None:
        retry_seconds = _FIRST_RETRY_SECONDS
        request = node_pb2.ReportEventsRequest(session_id=self._session_id, events=events)
        while True:
            # For how long to go on is decided by the heartbeats.
            with contextlib.suppress(CoordinatorUnavailable):
                acknowledged = await self._client.report_events(request)
                if acknowledged >= events[-1].sequence:
                    return
            await asyncio.sleep(retry_seconds)
            retry_seconds = min(retry_seconds * 2, _LAST_RETRY_SECONDS)

    def _is_news(self, facts: HostFacts, inventory: HostInventory) -> bool:
        told_facts, told = self._told
        drift_bytes = abs(told.storage_free_bytes - inventory.storage_free_bytes)
        others = HostInventory()
        others.CopyFrom(inventory)
        others.storage_free_bytes = told.storage_free_bytes
        if len(others.storage_places) == len(told.storage_places):
            for place, before in zip(others.storage_places, told.storage_places, strict=True):
                _forget_drift(place, before)
        return facts != told_facts or others != told or drift_bytes > _STORAGE_STEP_BYTES


def _forget_drift(place: StoragePlace, before: StoragePlace) -> None:
    """Makes the place what it was when only a little of its space has come or gone."""
    for name in ("free_bytes", "allocated_bytes", "virtual_bytes"):
        if abs(getattr(place, name) - getattr(before, name)) <= _STORAGE_STEP_BYTES:
            setattr(place, name, getattr(before, name))


def decode_disk_limit(limit: node_pb2.DiskLimit) -> DiskLimit:
    """What disks of one type may do at most."""
    return DiskLimit(**{field.name: getattr(limit, field.name) for field in fields(DiskLimit)})


def encode_self_fence(self_fence: SelfFence) -> node_pb2.SelfFence:
    """Whether and by which tolerance this node would end its highly available guests."""
    return node_pb2.SelfFence(armed=self_fence.is_armed, tolerance_seconds=self_fence.tolerance_seconds)


def encode_fenced(guests: Sequence[FencedGuest]) -> list[node_pb2.FencedDomain]:
    """What the watchdog has ended."""
    return [
        node_pb2.FencedDomain(
            uuid=guest.uuid,
            fenced_at=encode_time(datetime.fromtimestamp(guest.fenced_at, UTC)),
            silence=encode_duration(guest.silent_seconds),
        )
        for guest in guests
    ]


async def _pause(changes: asyncio.Queue[DomainChange], seconds: float) -> None:
    """Returns after the time given, or when libvirt has come back: its absence may have been what failed."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not (await changes.get()).is_resync:
                pass


async def _batches(changes: asyncio.Queue[DomainChange]) -> AsyncIterator[list[DomainChange]]:
    """What is there, at once; several changes only when they have piled up."""
    while True:
        batch = [await changes.get()]
        while not changes.empty() and len(batch) < _MOST_EVENTS:
            batch.append(changes.get_nowait())
        yield batch
