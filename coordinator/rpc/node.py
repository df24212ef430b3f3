"""NodeService: what agents tell. The node is known from the certificate, never from a field."""

import asyncio

from coordinator.domain.lease import HaTerms, Heartbeat, NodeSession
from coordinator.domain.unit import MIB
from coordinator.domain.volume import VolumeLimit
from coordinator.rpc.interceptor import Context
from coordinator.rpc.peer import read_peer
from coordinator.runtime import Runtime
from coordinator.services import enrolment, node_report
from coordinator.services.node_report import Registration, SequencedEvent
from protos.coordinator.v1 import node_pb2, node_pb2_grpc


class NodeServicer(node_pb2_grpc.NodeServiceServicer):
    """Decodes, calls a service in a thread, encodes."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def Register(self, request: node_pb2.RegisterRequest, context: Context) -> node_pb2.RegisterResponse:
        report = Registration(
            session_id=request.session_id,
            address=request.advertise_address,
            zone=request.zone,
            facts=request.facts,
            inventory=request.inventory,
            domains=request.domains,
            self_fence=request.self_fence,
            fenced_domains=request.fenced_domains,
            ended_domains=request.ended_domain_uuids,
        )
        answer = await asyncio.to_thread(node_report.register_node, self._runtime, read_peer(context).node_id, report)
        response = node_pb2.RegisterResponse(
            unexpected_domain_uuids=answer.unexpected,
            released_domain_uuids=answer.released,
            ha_tolerance_seconds=answer.tolerance_seconds,
            disk_limits={kind: _encode_limit(limit) for kind, limit in self._runtime.settings.volume_limits.items()},
        )
        response.lease.FromTimedelta(self._runtime.settings.node_lease)
        response.heartbeat_interval.FromTimedelta(self._runtime.settings.heartbeat_interval)
        return response

    async def Heartbeat(self, request: node_pb2.HeartbeatRequest, context: Context) -> node_pb2.HeartbeatResponse:
        node = _session(context, request.session_id)
        heartbeat = Heartbeat(
            at=self._runtime.now(),
            sequence=request.sequence,
            self_fence=node_report.is_fencing(request.self_fence),
            tolerance_seconds=request.self_fence.tolerance_seconds,
        )
        # In the common case only memory is touched: no thread is needed.
        heard = self._runtime.leases.renew(node, heartbeat)
        if heard is not None:
            return _encode_terms(heard.told)
        return _encode_terms(await asyncio.to_thread(node_report.renew_lease, self._runtime, node, heartbeat))

    async def ReportInventory(
        self, request: node_pb2.ReportInventoryRequest, context: Context
    ) -> node_pb2.ReportInventoryResponse:
        node = _session(context, request.session_id)
        await asyncio.to_thread(node_report.record_inventory, self._runtime, node, request.facts, request.inventory)
        return node_pb2.ReportInventoryResponse()

    async def ReportEvents(
        self, request: node_pb2.ReportEventsRequest, context: Context
    ) -> node_pb2.ReportEventsResponse:
        node = _session(context, request.session_id)
        events = [SequencedEvent(reported.sequence, reported.event.domain) for reported in request.events]
        acknowledged = await asyncio.to_thread(node_report.record_events, self._runtime, node, events)
        return node_pb2.ReportEventsResponse(acknowledged_sequence=acknowledged)

    async def RenewCertificate(
        self, request: node_pb2.RenewCertificateRequest, context: Context
    ) -> node_pb2.RenewCertificateResponse:
        membership = await asyncio.to_thread(
            enrolment.renew_certificate,
            self._runtime,
            read_peer(context).node_id,
            request.certificate_request_pem.encode(),
        )
        response = node_pb2.RenewCertificateResponse(
            certificate_pem=membership.certificate.certificate_pem.decode(),
            authority_pem=membership.authority_pem.decode(),
        )
        response.certificate_expires_at.FromDatetime(membership.certificate.expires_at)
        return response


def _encode_terms(terms: HaTerms | None) -> node_pb2.HeartbeatResponse:
    if terms is None:
        return node_pb2.HeartbeatResponse()
    return node_pb2.HeartbeatResponse(
        ha_terms=node_pb2.HaTerms(stored_heartbeat=terms.stored_heartbeat, ha_tolerance_seconds=terms.tolerance_seconds)
    )


def _encode_limit(limit: VolumeLimit) -> node_pb2.DiskLimit:
    return node_pb2.DiskLimit(
        total_iops=limit.total_iops,
        read_iops=limit.read_iops,
        write_iops=limit.write_iops,
        total_bytes_per_second=limit.total_mib_per_second * MIB,
        read_bytes_per_second=limit.read_mib_per_second * MIB,
        write_bytes_per_second=limit.write_mib_per_second * MIB,
        burst_factor=limit.burst_factor,
        burst_seconds=limit.burst_seconds,
    )


def _session(context: Context, session_id: str) -> NodeSession:
    return NodeSession(read_peer(context).node_id, session_id)
