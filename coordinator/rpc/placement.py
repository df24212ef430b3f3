"""Placement for other schedulers: the same claims that instances of the REST facade get."""

import asyncio
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from coordinator.domain.message import Message
from coordinator.domain.placement import Consumer, Decision, PlacementRequest, ResourceClass, Verdict
from coordinator.domain.unit import GIB, MIB
from coordinator.errors import CapacityInsufficient, ParameterInvalid, StatusUnsupported
from coordinator.placement.cache import HostCache
from coordinator.placement.claim import claim, explain, release
from coordinator.placement.summary import summarize
from coordinator.store.database import Database
from coordinator.store.queries.placement import read_allocations
from protos.agent.v1 import host_pb2
from protos.coordinator.v1 import placement_pb2, placement_pb2_grpc

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MAX_CONSUMERS: Final = 1000

_ARCHITECTURES: Final = {
    host_pb2.ARCHITECTURE_UNSPECIFIED: "",
    host_pb2.ARCHITECTURE_X86_64: "x86",
    host_pb2.ARCHITECTURE_AARCH64: "arm",
}


class PlacementServicer(placement_pb2_grpc.PlacementServiceServicer):
    """Raises CoordinatorErrors; the server's interceptor admits the callers and answers the statuses."""

    def __init__(self, database: Database, hosts: HostCache) -> None:
        self._database = database
        self._hosts = hosts

    async def Claim(self, request: placement_pb2.ClaimRequest, context: Any) -> placement_pb2.ClaimResponse:
        """Allocates for all consumers, or for none."""
        wanted = _parse_request(request.consumers, request.requirements)
        decision = await asyncio.to_thread(self._claim, wanted)
        if not decision.placed:
            summary = summarize(decision)
            raise CapacityInsufficient(summary.en, summary.zh)
        return placement_pb2.ClaimResponse(placements=_render_placements(wanted, decision))

    async def Release(self, request: placement_pb2.ReleaseRequest, context: Any) -> placement_pb2.ReleaseResponse:
        """Frees what other schedulers claimed."""
        consumer_uuids = [_parse_uuid(uuid, "consumer_uuids") for uuid in request.consumer_uuids]
        await asyncio.to_thread(self._release, consumer_uuids)
        return placement_pb2.ReleaseResponse()

    async def Explain(self, request: placement_pb2.ExplainRequest, context: Any) -> placement_pb2.ExplainResponse:
        """Tells what Claim would do now, and why."""
        wanted = _parse_request(request.consumers, request.requirements)
        decision = await asyncio.to_thread(self._explain, wanted)
        return placement_pb2.ExplainResponse(
            placements=_render_placements(wanted, decision),
            hosts=[_render_verdict(verdict) for verdict in decision.verdicts],
            summary=summarize(decision).en,
        )

    def _claim(self, wanted: PlacementRequest) -> Decision:
        with self._database.write() as session:
            return claim(session, self._hosts, wanted, external=True)

    def _release(self, consumer_uuids: Sequence[str]) -> None:
        with self._database.write() as session:
            for consumer_uuid, allocations in read_allocations(session, consumer_uuids).items():
                if not all(allocation.external for allocation in allocations):
                    message = _own_instance(consumer_uuid)
                    raise StatusUnsupported(message.en, message.zh)
            release(session, consumer_uuids)

    def _explain(self, wanted: PlacementRequest) -> Decision:
        with self._database.read() as session:
            return explain(session, wanted)


def _own_instance(consumer_uuid: str) -> Message:
    return Message(
        f"consumer {consumer_uuid} is an instance: delete the instance instead",
        f"消费者 {consumer_uuid} 是云主机：请删除该云主机",
    )


def _parse_request(
    consumers: Sequence[placement_pb2.Consumer], requirements: placement_pb2.Requirements
) -> PlacementRequest:
    if not 1 <= len(consumers) <= _MAX_CONSUMERS:
        raise ParameterInvalid("consumers", f"must be 1 to {_MAX_CONSUMERS}", f"数量须为 1 到 {_MAX_CONSUMERS}")
    if len({consumer.uuid for consumer in consumers}) < len(consumers):
        raise ParameterInvalid("consumers", "a uuid occurs twice", "uuid 重复")
    if requirements.architecture not in _ARCHITECTURES:
        raise ParameterInvalid("requirements.architecture", "is not known", "未知架构")
    return PlacementRequest(
        consumers=tuple(_parse_consumer(consumer) for consumer in consumers),
        architecture=_ARCHITECTURES[requirements.architecture],
        zone=requirements.zone,
        node_id=requirements.node_id,
        traits=frozenset(requirements.traits),
    )


def _parse_consumer(consumer: placement_pb2.Consumer) -> Consumer:
    """Amounts are rounded up to whole units: what was promised must be there."""
    if consumer.vcpus < 1 or consumer.memory_bytes < 1:
        raise ParameterInvalid(
            "consumers", "vcpus and memory_bytes must be at least 1", "vcpus 与 memory_bytes 至少为 1"
        )
    return Consumer(
        _parse_uuid(consumer.uuid, "consumers.uuid"),
        {
            ResourceClass.VCPU: consumer.vcpus,
            ResourceClass.MEMORY_MIB: -(-consumer.memory_bytes // MIB),
            ResourceClass.STORAGE_GIB: -(-consumer.storage_bytes // GIB),
        },
    )


def _parse_uuid(text: str, field: str) -> str:
    if not _UUID.fullmatch(text):
        raise ParameterInvalid(field, f"must be a lower-case UUID, not {text[:64]!r}", f"须为小写 UUID：{text[:64]!r}")
    return text


def _render_placements(wanted: PlacementRequest, decision: Decision) -> Iterable[placement_pb2.Placement]:
    if not decision.placed:
        return []
    return [
        placement_pb2.Placement(consumer_uuid=consumer.uuid, node_id=host.node_id, node_name=host.name)
        for consumer, host in zip(wanted.consumers, decision.assignments, strict=True)
    ]


def _render_verdict(verdict: Verdict) -> placement_pb2.HostVerdict:
    rejection = verdict.rejection
    rendered = placement_pb2.HostVerdict(
        node_id=verdict.node_id, node_name=verdict.node_name, accepted=rejection is None
    )
    if rejection:
        rendered.filter = rejection.filter
        rendered.reason = f"{rejection.reason}: wanted {rejection.wanted}, available {rejection.available}"
    return rendered
