"""What leaves the agent when a call fails, and who may call it at all: over real gRPC and real TLS."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from agent.errors import DomainNotFound, DomainStopTimeout
from agent.rpc.interceptor import CODE_METADATA_KEY, ErrorInterceptor, RoleInterceptor
from protos.agent.v1 import domain_pb2, domain_pb2_grpc

Stub = domain_pb2_grpc.DomainServiceStub
SERVER_NAME = "node.example"


class _FailingServicer(domain_pb2_grpc.DomainServiceServicer):
    """Fails in the way that the name of the domain asks for."""

    async def Get(self, request: domain_pb2.GetDomainRequest, context: Any) -> domain_pb2.Domain:
        match request.uuid:
            case "absent":
                raise DomainNotFound("no domain has the UUID absent")
            case "defect":
                raise RuntimeError("secret of the agent")
            case "full" | "quota":
                number = errno.ENOSPC if request.uuid == "full" else errno.EDQUOT
                raise OSError(number, os.strerror(number), "/secret/path")
        return domain_pb2.Domain(uuid=request.uuid)

    async def EnsureStopped(
        self, request: domain_pb2.EnsureStoppedRequest, context: Any
    ) -> AsyncIterator[domain_pb2.StopProgress]:
        yield domain_pb2.StopProgress(method="acpi")
        raise DomainStopTimeout("the guest still runs")


@asynccontextmanager
async def _server(
    *interceptors: grpc.aio.ServerInterceptor,  # type: ignore[type-arg]
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncIterator[int]:
    server = grpc.aio.server(interceptors=interceptors)
    domain_pb2_grpc.add_DomainServiceServicer_to_server(_FailingServicer(), server)  # type: ignore[abstract]
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@asynccontextmanager
async def _failing() -> AsyncIterator[Any]:
    async with _server(ErrorInterceptor()) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Stub(channel)


async def _failure(call: Callable[[], Awaitable[object]]) -> tuple[grpc.StatusCode, str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call()
    trailers: Any = caught.value.trailing_metadata()
    codes = [str(value) for key, value in trailers if key == CODE_METADATA_KEY]
    return caught.value.code(), " ".join(codes), caught.value.details() or ""


async def test_an_error_arrives_with_its_status_its_code_and_its_message() -> None:
    async with _failing() as stub:
        failure = await _failure(lambda: stub.Get(domain_pb2.GetDomainRequest(uuid="absent")))
    assert failure == (grpc.StatusCode.NOT_FOUND, "DomainNotFound", "no domain has the UUID absent")


async def test_an_error_in_the_middle_of_a_stream_comes_after_what_was_sent() -> None:
    received = []

    async def read(stub: Any) -> None:
        async for progress in stub.EnsureStopped(domain_pb2.EnsureStoppedRequest()):
            received.append(progress.method)

    async with _failing() as stub:
        failure = await _failure(lambda: read(stub))
    assert received == ["acpi"]
    assert failure == (grpc.StatusCode.DEADLINE_EXCEEDED, "DomainStopTimeout", "the guest still runs")


async def test_a_defect_is_logged_and_tells_the_caller_nothing() -> None:
    with capture_logs() as logs:
        async with _failing() as stub:
            status, code, details = await _failure(lambda: stub.Get(domain_pb2.GetDomainRequest(uuid="defect")))
    assert (status, code) == (grpc.StatusCode.INTERNAL, "AgentError")
    assert "secret" not in details
    assert [entry for entry in logs if entry["event"] == "rpc.failed" and entry["log_level"] == "error"]


@pytest.mark.parametrize("reason", ["full", "quota"])
async def test_a_full_disk_is_told_wherever_it_strikes(reason: str) -> None:
    async with _failing() as stub:
        status, code, details = await _failure(lambda: stub.Get(domain_pb2.GetDomainRequest(uuid=reason)))
    assert (status, code) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "StorageExhausted")
    assert "file system of this node is full" in details
    assert "secret" not in details


async def test_a_call_that_succeeds_is_one_line_in_the_log() -> None:
    with capture_logs() as logs:
        async with _failing() as stub:
            await stub.Get(domain_pb2.GetDomainRequest(uuid="there"))
    assert [(entry["event"], entry["code"]) for entry in logs] == [("rpc.ended", "Success")]


@pytest.mark.parametrize("role", ["coordinator", "scheduler"])
async def test_coordinators_and_schedulers_are_admitted(role: str) -> None:
    assert await _call_as(f"urn:nodewright:role:{role}") == "there"


@pytest.mark.parametrize("name", ["urn:nodewright:role:agent", "urn:nodewright:node:coordinator", "urn:other"])
async def test_every_other_certificate_is_refused(name: str) -> None:
    status, code, _ = await _failure(lambda: _call_as(name))
    assert (status, code) == (grpc.StatusCode.PERMISSION_DENIED, "ClientRoleForbidden")


@dataclass(frozen=True)
class _Identity:
    certificate: bytes
    key: bytes


class _Authority:
    """A certificate authority for one test."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        certificate = self._builder(self._name, self._key).add_extension(constraints, critical=True)
        self.certificate = _pem(certificate.sign(self._key, hashes.SHA256()))

    def issue(self, name: x509.GeneralName) -> _Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")])
        builder = self._builder(subject, key).add_extension(x509.SubjectAlternativeName([name]), critical=False)
        return _Identity(
            _pem(builder.sign(self._key, hashes.SHA256())),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(hours=1))
        )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


async def _call_as(urn: str) -> str:
    """Calls a server that checks roles, with a client certificate of this name; answers what it answers."""
    authority = _Authority()
    server = authority.issue(x509.DNSName(SERVER_NAME))
    client = authority.issue(x509.UniformResourceIdentifier(urn))
    server_credentials = grpc.ssl_server_credentials(
        [(server.key, server.certificate)], authority.certificate, require_client_auth=True
    )
    client_credentials = grpc.ssl_channel_credentials(authority.certificate, client.key, client.certificate)
    options = [("grpc.ssl_target_name_override", SERVER_NAME)]
    async with (
        _server(ErrorInterceptor(), RoleInterceptor(), credentials=server_credentials) as port,
        grpc.aio.secure_channel(f"127.0.0.1:{port}", client_credentials, options) as channel,
    ):
        stub: Any = Stub(channel)
        answer: domain_pb2.Domain = await stub.Get(domain_pb2.GetDomainRequest(uuid="there"))
        return answer.uuid


async def test_health_and_reflection_work_behind_the_interceptors() -> None:
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    checks = health.aio.HealthServicer()  # type: ignore[attr-defined]  # not in the stubs
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection([health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            serving = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
            assert await stub.Check(health_pb2.HealthCheckRequest()) == serving
            assert await stub.Watch(health_pb2.HealthCheckRequest()).read() == serving
            reflected: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
            asked = reflection_pb2.ServerReflectionRequest(list_services="")
            answer = await reflected.ServerReflectionInfo(iter([asked])).read()
            names = {service.name for service in answer.list_services_response.service}
            assert names == {health.SERVICE_NAME, reflection.SERVICE_NAME}
    finally:
        await server.stop(None)
