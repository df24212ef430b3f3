"""DomainService: guests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import grpc

from agent.attachment import DiskAttachments
from agent.configure.check import check_disk, check_optical_drive, check_uuid
from agent.definition import Definitions
from agent.domain_lock import DomainLocks
from agent.errors import HypervisorUnavailable
from agent.hypervisor.description import GuestDescription, absent
from agent.hypervisor.events import DomainChange, DomainEvents
from agent.hypervisor.growth import Growths, Size
from agent.hypervisor.guest import Guests
from agent.hypervisor.hibernation import Hibernations
from agent.hypervisor.prober import GuestAgentProber
from agent.hypervisor.reboot import Reboots
from agent.hypervisor.stop import StopProgress, Stops
from agent.rpc.encoding import (
    DEFAULT_GRACE_SECONDS,
    LET_GO_SECONDS,
    decode_seconds,
    encode_domain,
    encode_duration,
    encode_time,
)
from protos.agent.v1 import domain_pb2 as messages
from protos.agent.v1 import domain_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class DomainServicer(domain_pb2_grpc.DomainServiceServicer):
    """Every change of one domain waits for the one before; waiting for a guest holds up nobody."""

    def __init__(
        self,
        guests: Guests,
        definitions: Definitions,
        stops: Stops,
        reboots: Reboots,
        events: DomainEvents,
        prober: GuestAgentProber,
        locks: DomainLocks,
        attachments: DiskAttachments,
        growths: Growths,
        hibernations: Hibernations,
    ) -> None:
        self._guests = guests
        self._definitions = definitions
        self._stops = stops
        self._reboots = reboots
        self._events = events
        self._prober = prober
        self._locks = locks
        self._attachments = attachments
        self._growths = growths
        self._hibernations = hibernations

    async def EnsureDefined(self, request: messages.EnsureDefinedRequest, context: Context) -> messages.Domain:
        """The domain has this definition and its seed."""
        async with self._locks.of(request.spec.uuid, "spec.uuid"):
            return self._encode(await self._definitions.ensure_defined(request.spec))

    async def EnsureRunning(self, request: messages.EnsureRunningRequest, context: Context) -> messages.Domain:
        """The domain runs."""
        async with self._locks.of(request.uuid):
            await self._definitions.check_startable(request.uuid)
            return self._encode(await self._hibernations.start(request.uuid))

    async def EnsurePaused(self, request: messages.EnsurePausedRequest, context: Context) -> messages.Domain:
        """The vCPUs are paused."""
        async with self._locks.of(request.uuid):
            return self._encode(await self._guests.suspend(request.uuid))

    async def EnsureResumed(self, request: messages.EnsureResumedRequest, context: Context) -> messages.Domain:
        """The vCPUs run."""
        async with self._locks.of(request.uuid):
            return self._encode(await self._guests.resume(request.uuid))

    async def EnsureGrown(self, request: messages.EnsureGrownRequest, context: Context) -> messages.Domain:
        """The running domain has, and uses, as much."""
        async with self._locks.of(request.uuid):
            size = Size(request.vcpus, request.memory_bytes)
            return self._encode(await self._growths.ensure_grown(request.uuid, size))

    async def EnsureHibernated(
        self, request: messages.EnsureHibernatedRequest, context: Context
    ) -> AsyncIterator[messages.HibernateProgress]:
        """The domain is off, and its memory on disk. Waits without the lock: whoever cancels shall get through."""
        check_uuid(request.uuid, "uuid")
        async with aclosing(self._hibernations.ensure_hibernated(request.uuid)) as steps:
            async for step in steps:
                yield messages.HibernateProgress(done_bytes=step.done_bytes, total_bytes=step.total_bytes)
        yield messages.HibernateProgress(domain=self._encode(await self._guests.get(request.uuid)))

    async def CancelHibernation(self, request: messages.CancelHibernationRequest, context: Context) -> messages.Domain:
        """The domain runs."""
        async with self._locks.of(request.uuid):
            return self._encode(await self._hibernations.cancel(request.uuid))

    async def EnsureRemoved(
        self, request: messages.EnsureRemovedRequest, context: Context
    ) -> messages.EnsureRemovedResponse:
        """Nothing of the domain is left."""
        async with self._locks.of(request.uuid):
            await self._definitions.ensure_removed(request.uuid)
            return messages.EnsureRemovedResponse()

    async def EnsureDiskAttached(
        self, request: messages.EnsureDiskAttachedRequest, context: Context
    ) -> messages.EnsureDiskAttachedResponse:
        """The domain has the disk."""
        check_uuid(request.domain_uuid, "domain_uuid")
        check_disk(request.disk, "disk")
        await self._attachments.attach(request.domain_uuid, request.disk)
        return messages.EnsureDiskAttachedResponse()

    async def EnsureDiskDetached(
        self, request: messages.EnsureDiskDetachedRequest, context: Context
    ) -> messages.EnsureDiskDetachedResponse:
        """The domain does not have the disk any more."""
        check_uuid(request.domain_uuid, "domain_uuid")
        check_uuid(request.volume_uuid, "volume_uuid")
        grace_seconds = decode_seconds(request, "grace", default=LET_GO_SECONDS)
        await self._attachments.detach(request.domain_uuid, request.volume_uuid, grace_seconds=grace_seconds)
        return messages.EnsureDiskDetachedResponse()

    async def EnsureMedium(
        self, request: messages.EnsureMediumRequest, context: Context
    ) -> messages.EnsureMediumResponse:
        """The drive has this image in it, or nothing."""
        check_uuid(request.domain_uuid, "domain_uuid")
        check_optical_drive(request.drive, "drive")
        await self._attachments.insert(request.domain_uuid, request.drive, force=request.force)
        return messages.EnsureMediumResponse()

    async def EnsureStopped(
        self, request: messages.EnsureStoppedRequest, context: Context
    ) -> AsyncIterator[messages.StopProgress]:
        """The domain is off."""
        check_uuid(request.uuid, "uuid")
        grace_seconds = decode_seconds(request, "grace", default=DEFAULT_GRACE_SECONDS)
        stop = (
            self._force(request.uuid) if request.force else self._stops.ask(request.uuid, grace_seconds=grace_seconds)
        )
        last = StopProgress(0.0, "")
        async with aclosing(stop) as steps:
            async for last in steps:
                yield messages.StopProgress(elapsed=encode_duration(last.elapsed_seconds), method=last.method)
        yield messages.StopProgress(
            elapsed=encode_duration(last.elapsed_seconds),
            method=last.method,
            domain=self._encode(await self._guests.get(request.uuid)),
        )

    async def Reboot(self, request: messages.RebootRequest, context: Context) -> AsyncIterator[messages.RebootProgress]:
        """The guest was rebooted once for this operation."""
        check_uuid(request.uuid, "uuid")
        grace_seconds = decode_seconds(request, "grace", default=DEFAULT_GRACE_SECONDS)
        last = StopProgress(0.0, "")
        reboot = self._reboots.reboot(
            request.uuid, request.operation_id, force=request.force, grace_seconds=grace_seconds
        )
        async with aclosing(reboot) as steps:
            async for last in steps:
                yield messages.RebootProgress(elapsed=encode_duration(last.elapsed_seconds), method=last.method)
        yield messages.RebootProgress(
            elapsed=encode_duration(last.elapsed_seconds),
            method=last.method,
            domain=self._encode(await self._guests.get(request.uuid)),
        )

    async def Get(self, request: messages.GetDomainRequest, context: Context) -> messages.Domain:
        """One domain."""
        check_uuid(request.uuid, "uuid")
        return self._encode(await self._guests.get(request.uuid))

    async def List(self, request: messages.ListDomainsRequest, context: Context) -> messages.ListDomainsResponse:
        """All domains."""
        return messages.ListDomainsResponse(domains=map(self._encode, await self._guests.list()))

    async def WatchEvents(
        self, request: messages.WatchEventsRequest, context: Context
    ) -> AsyncIterator[messages.DomainEvent]:
        """Every domain as it is, then each change; when changes were lost, every domain again."""
        async with self._events.subscribe() as changes:
            for event in await self._sweep():
                yield event
            while True:
                change = await changes.get()
                for event in await self._sweep() if change.is_resync else await self._changed(change):
                    yield event

    async def _sweep(self) -> list[messages.DomainEvent]:
        try:
            descriptions = await self._guests.list()
        except HypervisorUnavailable:
            # Its coming back is a change, and brings the sweep.
            return []
        at = encode_time(datetime.now(UTC))
        return [messages.DomainEvent(at=at, domain=self._encode(description)) for description in descriptions]

    async def _changed(self, change: DomainChange) -> list[messages.DomainEvent]:
        try:
            description = await self._guests.find(change.uuid) or absent(change.uuid, change.name)
        except HypervisorUnavailable:
            return []
        domain = self._encode(description)
        return [messages.DomainEvent(at=encode_time(change.at), domain=domain, kind=change.kind)]

    async def _force(self, uuid: str) -> AsyncGenerator[StopProgress]:
        async with self._locks.of(uuid):
            async for progress in self._stops.force(uuid):
                yield progress

    def _encode(self, description: GuestDescription) -> messages.Domain:
        return encode_domain(description, None if description.foreign else self._prober.last(description))
