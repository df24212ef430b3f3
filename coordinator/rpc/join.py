"""JoinService: machines without a certificate, each with a one-time token."""

import asyncio
from urllib.parse import unquote

from coordinator.errors import CredentialsInvalid
from coordinator.rpc.attempt_limit import AttemptLimit
from coordinator.rpc.interceptor import Context
from coordinator.runtime import Runtime
from coordinator.services import enrolment
from coordinator.services.enrolment import JoinOrder
from protos.coordinator.v1 import join_pb2, join_pb2_grpc


class JoinServicer(join_pb2_grpc.JoinServiceServicer):
    """Decodes, holds back who guesses tokens, calls the service in a thread, encodes."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._limit = AttemptLimit()

    async def Join(self, request: join_pb2.JoinRequest, context: Context) -> join_pb2.JoinResponse:
        source = _address_of(context.peer())
        self._limit.check(source)
        order = JoinOrder(
            token=request.token,
            request_pem=request.certificate_request_pem.encode(),
            hostname=request.hostname,
            machine_uuid=request.machine_uuid,
        )
        try:
            membership = await asyncio.to_thread(enrolment.join_node, self._runtime, order)
        except CredentialsInvalid:
            self._limit.note_failure(source)
            raise
        response = join_pb2.JoinResponse(
            node_id=membership.node_id,
            certificate_pem=membership.certificate.certificate_pem.decode(),
            authority_pem=membership.authority_pem.decode(),
            grpc_address=enrolment.get_authority(self._runtime).grpc_address,
            region=self._runtime.settings.region,
        )
        response.certificate_expires_at.FromDatetime(membership.certificate.expires_at)
        return response


def _address_of(peer: str) -> str:
    """The address within gRPC's name of a peer: "ipv4:192.0.2.1:4711", "ipv6:%5B::1%5D:4711"."""
    return unquote(peer).rpartition(":")[0]
