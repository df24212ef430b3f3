"""Placement for other schedulers: the same claims that instances of the REST facade get."""

import asyncio
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from coordinator.domain.cell import CellWish
from coordinator.domain.device import WHOLE_MILLI, DeviceWish
from coordinator.domain.message import Message
from coordinator.domain.placement import Assignment, Consumer, Decision, PlacementRequest, ResourceClass, Verdict
from coordinator.domain.space import ANY_TYPE, SpaceWish
from coordinator.domain.unit import GIB, KIB, MIB
from coordinator.errors import CapacityInsufficient, ParameterInvalid, StatusUnsupported
from coordinator.placement.cache import HostCache
from coordinator.placement.claim import claim, explain, release
from coordinator.placement.summary import summarize
from coordinator.store.database import Database
from coordinator.store.queries.placement import read_held
from protos.agent.v1 import host_pb2
from protos.coordinator.v1 import placement_pb2, placement_pb2_grpc

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MAX_CONSUMERS: Final = 1000
_MAX_WISHES: Final = 32
# Traits, pools, attributes of a device and values of one: each is told again for each host that lacks it.
_MAX_NAMES: Final = 64
_MAX_NAME_LENGTH: Final = 255

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
        if len(request.consumer_uuids) > _MAX_CONSUMERS:
            raise ParameterInvalid(
                "consumer_uuids", f"must be at most {_MAX_CONSUMERS}", f"数量最多为 {_MAX_CONSUMERS}"
            )
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
            for consumer_uuid, held in read_held(session, consumer_uuids).items():
                if not held.external:
                    message = _own_instance(consumer_uuid)
                    raise StatusUnsupported(message.en, message.zh)
            release(session, consumer_uuids)

    def _explain(self, wanted: PlacementRequest) -> Decision:
        with self._database.read() as session:
            return explain(session, self._hosts, wanted)


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
        traits=_parse_names(requirements.traits, "requirements.traits"),
        pool_ids=_parse_names(requirements.pool_ids, "requirements.pool_ids"),
        group_id=requirements.host_group_id,
    )


def _parse_consumer(consumer: placement_pb2.Consumer) -> Consumer:
    """Amounts are rounded up to whole units: what was promised must be there."""
    if len(consumer.devices) > _MAX_WISHES:
        raise ParameterInvalid("consumers.devices", f"must be at most {_MAX_WISHES}", f"最多 {_MAX_WISHES} 个")
    if consumer.vcpus < 1 or consumer.memory_bytes < 1:
        raise ParameterInvalid(
            "consumers", "vcpus and memory_bytes must be at least 1", "vcpus 与 memory_bytes 至少为 1"
        )
    if consumer.huge_page_bytes % KIB:
        raise ParameterInvalid("consumers.huge_page_bytes", "must be whole KiB", "须为整 KiB")
    memory_mib, storage_gib = -(-consumer.memory_bytes // MIB), -(-consumer.storage_bytes // GIB)
    is_celled = consumer.numa or consumer.dedicated_cpus or consumer.huge_page_bytes > 0
    cells = CellWish(consumer.vcpus, memory_mib, consumer.huge_page_bytes // KIB, consumer.dedicated_cpus)
    return Consumer(
        _parse_uuid(consumer.uuid, "consumers.uuid"),
        {
            ResourceClass.DEDICATED_VCPU if consumer.dedicated_cpus else ResourceClass.VCPU: consumer.vcpus,
            ResourceClass.MEMORY_MIB: 0 if consumer.huge_page_bytes else memory_mib,
            ResourceClass.STORAGE_GIB: storage_gib,
            ResourceClass.LOCAL_STORAGE_GIB: -(-consumer.local_storage_bytes // GIB),
        },
        tuple(map(_parse_wish, consumer.devices)),
        cells if is_celled else None,
        (SpaceWish(ANY_TYPE, storage_gib),) if storage_gib else (),
    )


def _parse_wish(wish: placement_pb2.DeviceWish) -> DeviceWish:
    if not wish.kind:
        raise ParameterInvalid("consumers.devices.kind", "must be named", "不能为空")
    _parse_names([wish.kind], "consumers.devices.kind")
    _parse_names(wish.attributes, "consumers.devices.attributes")
    try:
        return DeviceWish(
            kind=wish.kind,
            count=wish.count or 1,
            milli=wish.milli or WHOLE_MILLI,
            attributes={
                name: _parse_names(values.values, f"consumers.devices.attributes.{name}")
                for name, values in wish.attributes.items()
            },
            least_bytes=wish.least_bytes,
        )
    except ValueError as error:
        raise ParameterInvalid("consumers.devices", str(error), "设备数量或份额无效") from None


def _parse_names(names: Iterable[str], field: str) -> frozenset[str]:
    parsed = frozenset(names)
    if len(parsed) > _MAX_NAMES or any(len(name) > _MAX_NAME_LENGTH for name in parsed):
        raise ParameterInvalid(
            field,
            f"must be at most {_MAX_NAMES}, of at most {_MAX_NAME_LENGTH} characters each",
            f"最多 {_MAX_NAMES} 个，每个最长 {_MAX_NAME_LENGTH} 个字符",
        )
    return parsed


def _parse_uuid(text: str, field: str) -> str:
    if not _UUID.fullmatch(text):
        raise ParameterInvalid(field, f"must be a lower-case UUID, not {text[:64]!r}", f"须为小写 UUID：{text[:64]!r}")
    return text


def _render_placements(wanted: PlacementRequest, decision: Decision) -> Iterable[placement_pb2.Placement]:
    if not decision.placed:
        return []
    return [
        _render_placement(consumer, assignment)
        for consumer, assignment in zip(wanted.consumers, decision.assignments, strict=True)
    ]


def _render_placement(consumer: Consumer, assignment: Assignment) -> placement_pb2.Placement:
    return placement_pb2.Placement(
        consumer_uuid=consumer.uuid,
        node_id=assignment.host.node_id,
        node_name=assignment.host.name,
        cells=[
            placement_pb2.CellShare(
                cell=share.cell,
                vcpus=share.vcpus,
                memory_bytes=share.memory_mib * MIB,
                pinned_cpu_ids=share.cpus,
            )
            for share in assignment.cells
        ],
        devices=[
            placement_pb2.DeviceShare(device_id=share.device_id, milli=share.milli) for share in assignment.devices
        ],
    )


def _render_verdict(verdict: Verdict) -> placement_pb2.HostVerdict:
    rejection = verdict.rejection
    rendered = placement_pb2.HostVerdict(
        node_id=verdict.node_id, node_name=verdict.node_name, accepted=rejection is None
    )
    if rejection:
        rendered.filter = rejection.filter
        rendered.reason = f"{rejection.reason}: wanted {rejection.wanted}, available {rejection.available}"
    return rendered
