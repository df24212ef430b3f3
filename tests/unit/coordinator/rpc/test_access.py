"""Who may call what: real certificates over real TLS."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from coordinator.domain.clock import utc_now
from coordinator.pki import Authority
from coordinator.store.tables import Node
from protos.coordinator.v1 import node_pb2, node_pb2_grpc, placement_pb2, placement_pb2_grpc
from tests.certificate import a_key_and_request
from tests.unit.coordinator.rpc.conftest import Cloud, code_of


@asynccontextmanager
async def refused(status: grpc.StatusCode) -> AsyncIterator[None]:
    """The call within fails with that status."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert caught.value.code() is status


async def renew(channel: grpc.aio.Channel) -> node_pb2.RenewCertificateResponse:
    request = node_pb2.RenewCertificateRequest(certificate_request_pem=a_key_and_request().request_pem.decode())
    answer: node_pb2.RenewCertificateResponse = await node_pb2_grpc.NodeServiceStub(channel).RenewCertificate(
        request, timeout=60
    )
    return answer


async def explain(channel: grpc.aio.Channel) -> None:
    await placement_pb2_grpc.PlacementServiceStub(channel).Explain(placement_pb2.ExplainRequest(), timeout=60)


async def test_without_a_certificate_there_is_no_connection(cloud: Cloud) -> None:
    async with (
        cloud.peer_channel() as channel,
        refused(grpc.StatusCode.UNAVAILABLE),
    ):
        await renew(channel)


async def test_certificate_of_another_authority_is_no_certificate(cloud: Cloud, tmp_path: Path) -> None:
    machine = a_key_and_request()
    forged = Authority.open(tmp_path / "stranger").sign_agent("node-abc", machine.request_pem)
    async with (
        cloud.peer_channel(machine.key_pem, forged.certificate_pem) as channel,
        refused(grpc.StatusCode.UNAVAILABLE),
    ):
        await renew(channel)


async def test_expired_certificate_is_no_certificate(cloud: Cloud) -> None:
    machine = a_key_and_request()
    long_ago = Authority.open(cloud.runtime.settings.pki_dir, lambda: utc_now() - timedelta(days=100))
    expired = long_ago.sign_agent("node-abc", machine.request_pem)
    async with (
        cloud.peer_channel(machine.key_pem, expired.certificate_pem) as channel,
        refused(grpc.StatusCode.UNAVAILABLE),
    ):
        await renew(channel)


async def test_agent_may_not_place(cloud: Cloud) -> None:
    member = await cloud.join()
    async with (
        cloud.peer_channel(member.key_pem, member.certificate_pem) as channel,
        refused(grpc.StatusCode.PERMISSION_DENIED),
    ):
        await explain(channel)


async def test_scheduler_may_not_speak_for_a_node(cloud: Cloud) -> None:
    issued = cloud.runtime.authority.issue_scheduler("batch")
    async with (
        cloud.peer_channel(issued.key_pem, issued.certificate_pem) as channel,
        refused(grpc.StatusCode.PERMISSION_DENIED),
    ):
        await renew(channel)


async def test_deleted_node_is_refused_whatever_its_certificate_says(cloud: Cloud) -> None:
    member = await cloud.join()
    with cloud.runtime.database.write() as session:
        session.delete(session.get_one(Node, member.node_id))
    async with (
        cloud.peer_channel(member.key_pem, member.certificate_pem) as channel,
        refused(grpc.StatusCode.UNAUTHENTICATED),
    ):
        await renew(channel)


async def test_agent_renews_its_certificate_and_uses_it(cloud: Cloud) -> None:
    member = await cloud.join()
    machine = a_key_and_request()
    request = node_pb2.RenewCertificateRequest(certificate_request_pem=machine.request_pem.decode())
    async with cloud.peer_channel(member.key_pem, member.certificate_pem) as channel:
        answer = await node_pb2_grpc.NodeServiceStub(channel).RenewCertificate(request, timeout=60)
    assert answer.authority_pem.encode() == cloud.runtime.authority.pem
    async with cloud.peer_channel(machine.key_pem, answer.certificate_pem.encode()) as channel:
        await renew(channel)


async def test_servers_show_a_renewed_certificate_without_a_restart(cloud: Cloud) -> None:
    before = await shown_certificate(cloud)
    cloud.identity_clock.forward(timedelta(days=61))
    assert cloud.identity.renew_when_due()
    after = await shown_certificate(cloud)
    assert before != after == cloud.identity.cert_pem.decode()


async def shown_certificate(cloud: Cloud) -> str:
    address = ("127.0.0.1", cloud.servers.join_port)
    return await asyncio.to_thread(ssl.get_server_certificate, address)


async def test_health_and_reflection_are_served_to_ordinary_tools(cloud: Cloud) -> None:
    async with cloud.join_channel() as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
        listing = reflection_pb2.ServerReflectionRequest(list_services="")
        stream = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([listing]), timeout=60)
        names = [service.name async for answer in stream for service in answer.list_services_response.service]
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert "nodewright.coordinator.v1.JoinService" in names
    assert "nodewright.coordinator.v1.NodeService" not in names


async def test_peers_are_served_health_and_reflection_too(cloud: Cloud) -> None:
    issued = cloud.runtime.authority.issue_scheduler("batch")
    async with cloud.peer_channel(issued.key_pem, issued.certificate_pem) as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert health.status == health_pb2.HealthCheckResponse.SERVING


async def test_failure_inside_is_told_without_its_details(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("coordinator.services.enrolment.renew_certificate", fail)
    member = await cloud.join()
    async with cloud.peer_channel(member.key_pem, member.certificate_pem) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await renew(channel)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret detail" not in (caught.value.details() or "")
    assert code_of(caught.value) == "ECS.InternalError"
