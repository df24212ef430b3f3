"""MigrationService: guests that leave and guests that come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from agent.configure.check import check_uuid
from agent.definition import Definitions
from agent.errors import RequestInvalid
from agent.hypervisor.migration import MigrationOrder, inspect_outgoing
from agent.hypervisor.migration_job import MigrationProgress, Migrations
from agent.hypervisor.migration_journal import MigrationEntry
from agent.incoming import IncomingGuests, IncomingOrder
from agent.peer import Peers, name_node
from agent.rpc.encoding import encode_elapsed
from agent.rpc.field import parse_id, parse_node_address
from protos.agent.v1 import migration_pb2 as messages
from protos.agent.v1 import migration_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_STALLED_ITERATIONS = 5
_MOST_ITERATIONS = 50


class MigrationServicer(migration_pb2_grpc.MigrationServiceServicer):
    """Both sides of a migration."""

    def __init__(
        self, migrations: Migrations, incoming: IncomingGuests, definitions: Definitions, peers: Peers
    ) -> None:
        self._migrations = migrations
        self._incoming = incoming
        self._definitions = definitions
        self._peers = peers

    async def InspectOutgoing(
        self, request: messages.InspectOutgoingRequest, context: Context
    ) -> messages.OutgoingGuest:
        """What a target has to know."""
        check_uuid(request.uuid, "uuid")
        host = await self._definitions.read_profile()
        guest = await inspect_outgoing(self._migrations.connection, request.uuid, host)
        blockers = (messages.MigrationBlocker(code=code, detail=detail) for code, detail in guest.blockers)
        return messages.OutgoingGuest(machine=guest.machine, cpu_xml=guest.cpu_xml, blockers=blockers)

    async def PrepareIncoming(
        self, request: messages.PrepareIncomingRequest, context: Context
    ) -> messages.IncomingGuest:
        """The guest can come."""
        parse_id(request.migration_id, "migration_id")
        order = IncomingOrder(request.spec, request.machine, request.cpu_xml, request.network_role)
        guest = await self._incoming.prepare(order)
        return messages.IncomingGuest(
            definition_xml=guest.definition_xml,
            node_id=guest.node_id,
            control_address=guest.control_address,
            data_address=guest.data_address,
        )

    async def Migrate(
        self, request: messages.MigrateRequest, context: Context
    ) -> AsyncIterator[messages.MigrationProgress]:
        """The guest is moved once for this id."""
        check_uuid(request.uuid, "uuid")
        async with aclosing(await self._begin(request)) as looks:
            async for look in looks:
                yield _encode_progress(look, self._migrations.journal.now())

    async def _begin(self, request: messages.MigrateRequest) -> AsyncGenerator[MigrationProgress]:
        if not request.HasField("target"):
            return self._migrations.follow(request.uuid, parse_id(request.migration_id, "migration_id"))
        order = _decode_order(request, self._peers)
        # Where it was before is not asked: the latest caller knows best.
        await asyncio.to_thread(self._peers.ensure_name, request.target.node_id, request.target.control_address)
        return self._migrations.migrate(order)

    async def Cancel(self, request: messages.CancelMigrationRequest, context: Context) -> messages.MigrationOutcome:
        """It is over."""
        check_uuid(request.uuid, "uuid")
        entry = await self._migrations.cancel(request.uuid, request.migration_id)
        return _encode_outcome(entry, self._migrations.journal.now())

    async def GetOutcome(
        self, request: messages.GetMigrationOutcomeRequest, context: Context
    ) -> messages.MigrationOutcome:
        """How it ended, or that it runs."""
        entry, _ = await self._migrations.outcome(request.migration_id)
        return _encode_outcome(entry, self._migrations.journal.now())

    async def EnsureIncomingRemoved(
        self, request: messages.EnsureIncomingRemovedRequest, context: Context
    ) -> messages.EnsureIncomingRemovedResponse:
        """Nothing is left of a guest that has not come."""
        check_uuid(request.uuid, "uuid")
        parse_id(request.migration_id, "migration_id")
        await self._incoming.ensure_removed(request.uuid)
        return messages.EnsureIncomingRemovedResponse()


def _decode_order(request: messages.MigrateRequest, peers: Peers) -> MigrationOrder:
    target = request.target
    for field in ("control_address", "data_address"):
        parse_node_address(getattr(target, field), f"target.{field}")
    if not target.definition_xml:
        raise RequestInvalid("target.definition_xml: what PrepareIncoming answered")
    if request.allow_post_copy and request.multifd_channels:
        raise RequestInvalid("multifd_channels: not together with allow_post_copy")
    for uuid in request.copied_volume_uuids:
        check_uuid(uuid, "copied_volume_uuids")
    return MigrationOrder(
        uuid=request.uuid,
        migration_id=request.migration_id,
        uri=peers.uri(target.node_id),
        certificate_name=name_node(target.node_id),
        data_address=target.data_address,
        definition_xml=target.definition_xml,
        copied_volume_uuids=tuple(request.copied_volume_uuids),
        tls=request.tls,
        bandwidth_mib_per_second=request.bandwidth_mib_per_second,
        max_downtime_ms=request.max_downtime_ms,
        most_downtime_ms=request.most_downtime_ms,
        auto_converge=request.auto_converge,
        allow_post_copy=request.allow_post_copy,
        multifd_channels=request.multifd_channels,
        stalled_iterations=request.stalled_iterations or _STALLED_ITERATIONS,
        most_iterations=request.most_iterations or _MOST_ITERATIONS,
    )


def _encode_progress(look: MigrationProgress, now: float) -> messages.MigrationProgress:
    stats = look.stats
    return messages.MigrationProgress(
        elapsed=encode_elapsed(look.entry.started_at, look.entry.ended_at, now),
        phase=f"MIGRATION_PHASE_{look.phase.upper().replace('-', '_')}",
        memory_total_bytes=stats.memory_total_bytes,
        memory_done_bytes=stats.memory_done_bytes,
        memory_remaining_bytes=stats.memory_remaining_bytes,
        disk_total_bytes=stats.disk_total_bytes,
        disk_done_bytes=stats.disk_done_bytes,
        disk_remaining_bytes=stats.disk_remaining_bytes,
        bytes_per_second=stats.bytes_per_second,
        iteration=stats.memory_iteration,
        dirty_bytes_per_second=stats.dirty_bytes_per_second,
        expected_downtime_ms=stats.expected_downtime_ms,
        throttle_percent=stats.throttle_percent,
        outcome=None if look.entry.state == "running" else _encode_outcome(look.entry, now),
    )


def _encode_outcome(entry: MigrationEntry, now: float) -> messages.MigrationOutcome:
    return messages.MigrationOutcome(
        migration_id=entry.migration_id,
        uuid=entry.uuid,
        state=f"MIGRATION_STATE_{entry.state.upper()}",
        reason=entry.reason,
        elapsed=encode_elapsed(entry.started_at, entry.ended_at, now),
    )
