"""Metrics and health over real HTTP, and what is counted of real calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from agent import metric as metric_module
from agent.errors import DomainNotFound
from agent.metric import MetricInterceptor, Metrics, MetricServer
from agent.rpc.deadline import DeadlineInterceptor
from agent.rpc.interceptor import ErrorInterceptor
from agent.server import build_interceptors
from protos.agent.v1 import domain_pb2, domain_pb2_grpc

METHOD = "/nodewright.agent.v1.DomainService/Get"


class Site:
    """A server, and a client that says what it likes."""

    def __init__(self) -> None:
        self.parts = {"libvirt": True, "coordinator": True}
        self.metrics = Metrics()
        self.server = MetricServer(self.metrics, lambda: self.parts)
        self.port = 0

    async def send(self, request: bytes) -> bytes:
        """What comes until the server closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        try:
            return await asyncio.wait_for(reader.read(), 60)
        finally:
            writer.close()

    async def get(self, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
        """Status, headers and body."""
        answer = await self.send(f"{method} {path} HTTP/1.1\r\nHost: here\r\nAccept: */*\r\n\r\n".encode())
        head, _, body = answer.decode().partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    site.port = await site.server.start("127.0.0.1", 0)
    yield site
    await site.server.stop()


async def test_health_says_that_the_process_answers(site: Site) -> None:
    site.parts["libvirt"] = False
    status, headers, body = await site.get("/healthz")
    assert (status, body) == (200, "ok\n")
    assert headers["Content-Length"] == "3"
    assert headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("libvirt", "coordinator", "status", "body"),
    [
        (True, True, 200, "libvirt: ok\ncoordinator: ok\n"),
        (False, True, 503, "libvirt: away\ncoordinator: ok\n"),
        (True, False, 503, "libvirt: ok\ncoordinator: away\n"),
    ],
)
async def test_readiness_names_what_is_away(
    site: Site, libvirt: bool, coordinator: bool, status: int, body: str
) -> None:
    site.parts = {"libvirt": libvirt, "coordinator": coordinator}
    assert (await site.get("/readyz"))[::2] == (status, body)


async def test_metrics_are_those_of_the_moment(site: Site) -> None:
    site.metrics.certificate_expires.set(1_800_000_000)
    site.parts["coordinator"] = False
    status, headers, body = await site.get("/metrics?name=all")
    assert status == 200
    assert headers["Content-Length"] == str(len(body))
    lines = body.splitlines()
    assert "nodewright_agent_certificate_expires_timestamp_seconds 1.8e+09" in lines
    assert 'nodewright_agent_ready{part="libvirt"} 1.0' in lines
    assert 'nodewright_agent_ready{part="coordinator"} 0.0' in lines
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)


async def test_a_head_request_gets_the_head_alone(site: Site) -> None:
    _, whole, _ = await site.get("/healthz")
    assert await site.get("/healthz", method="HEAD") == (200, whole, "")


@pytest.mark.parametrize(("request_line", "status"), [("GET /", 404), ("GET /metricsx", 404), ("POST /healthz", 405)])
async def test_other_requests_are_refused(site: Site, request_line: str, status: int) -> None:
    method, path = request_line.split()
    assert (await site.get(path, method))[0] == status


@pytest.mark.parametrize("request_bytes", [b"GET /healthz\r\n\r\n", b"\r\n\r\n", b"\xff\xfe \x00\r\n\r\n"])
async def test_what_is_no_request_is_refused(site: Site, request_bytes: bytes) -> None:
    assert b" 405 " in await site.send(request_bytes)


@pytest.mark.parametrize(
    "request_bytes",
    [b"x" * 40_000, b"x" * 40_000 + b"\r\n\r\n", b"GET /healthz HTTP/1.1\r\nA: " + b"x" * 40_000 + b"\r\n\r\n"],
    ids=["endless", "line", "header"],
)
async def test_who_sends_too_much_is_hung_up_on(site: Site, request_bytes: bytes) -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
    try:
        answer = await site.send(request_bytes)
    except ConnectionResetError:
        answer = b""
    assert answer == b""
    assert failures == []
    assert (await site.get("/healthz"))[0] == 200


async def test_who_sends_nothing_is_hung_up_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_module, "_REQUEST_SECONDS", 0.05)
    assert await site.send(b"GET /healthz HTTP/1.1\r\n") == b""


async def test_a_stopped_server_listens_no_more(site: Site) -> None:
    await site.server.stop()
    with pytest.raises(ConnectionRefusedError):
        await site.get("/healthz")


class _Servicer(domain_pb2_grpc.DomainServiceServicer):
    """Fails in the way that the name of the domain asks for."""

    async def Get(self, request: domain_pb2.GetDomainRequest, context: Any) -> domain_pb2.Domain:
        match request.uuid:
            case "absent":
                raise DomainNotFound("no such domain")
            case "slow":
                await asyncio.sleep(60)
        return domain_pb2.Domain(uuid=request.uuid)

    async def WatchEvents(self, request: Any, context: Any) -> AsyncIterator[domain_pb2.DomainEvent]:
        yield domain_pb2.DomainEvent(kind="started")


@asynccontextmanager
async def serving(directory: Path, *interceptors: Any) -> AsyncIterator[Any]:
    server = grpc.aio.server(interceptors=interceptors)
    domain_pb2_grpc.add_DomainServiceServicer_to_server(_Servicer(), server)  # type: ignore[abstract]
    address = f"unix:{directory}/agent.sock"
    server.add_insecure_port(address)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield domain_pb2_grpc.DomainServiceStub(channel)
    finally:
        await server.stop(None)


def calls(metrics: Metrics) -> dict[str, float]:
    """How many calls of "Get" ended with which code."""
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    return {
        sample.labels["code"]: sample.value
        for sample in samples
        if sample.name == "nodewright_agent_calls_total" and sample.labels["method"] == METHOD
    }


async def test_calls_are_counted_by_how_they_ended(tmp_path: Path) -> None:
    metrics = Metrics()
    async with serving(tmp_path, MetricInterceptor(metrics), ErrorInterceptor()) as stub:
        for uuid in ("there", "absent", "there"):
            with contextlib.suppress(grpc.aio.AioRpcError):
                await stub.Get(domain_pb2.GetDomainRequest(uuid=uuid))
        with pytest.raises(grpc.aio.AioRpcError, match="DEADLINE_EXCEEDED"):
            await stub.Get(domain_pb2.GetDomainRequest(uuid="slow"), timeout=0.05)
        async with asyncio.timeout(60):
            while "CANCELLED" not in calls(metrics):
                await asyncio.sleep(0.01)
    assert calls(metrics) == {"OK": 2, "NOT_FOUND": 1, "CANCELLED": 1}
    measured = metrics.registry.get_sample_value("nodewright_agent_call_seconds_count", {"method": METHOD})
    assert measured == 4
    total = metrics.registry.get_sample_value("nodewright_agent_call_seconds_sum", {"method": METHOD})
    assert total is not None
    assert 0.04 < total < 60


async def test_streams_are_not_counted(tmp_path: Path) -> None:
    metrics = Metrics()
    async with serving(tmp_path, MetricInterceptor(metrics)) as stub:
        events = [event.kind async for event in stub.WatchEvents(domain_pb2.WatchEventsRequest())]
    assert events == ["started"]
    assert b'method="' not in generate_latest(metrics.registry)


async def test_the_agent_counts_what_its_other_interceptors_make_of_a_call(tmp_path: Path) -> None:
    """Without a certificate nobody is admitted."""
    metrics = Metrics()
    async with serving(tmp_path, *build_interceptors(metrics)) as stub:
        with pytest.raises(grpc.aio.AioRpcError, match="PERMISSION_DENIED"):
            await stub.Get(domain_pb2.GetDomainRequest(uuid="there"))
    assert calls(metrics) == {"PERMISSION_DENIED": 1}


async def test_a_caller_without_a_deadline_is_named_and_served(tmp_path: Path) -> None:
    async with serving(tmp_path, DeadlineInterceptor()) as stub:
        with capture_logs() as logs:
            await stub.Get(domain_pb2.GetDomainRequest(uuid="there"), timeout=60)
        assert logs == []
        with capture_logs() as logs:
            assert (await stub.Get(domain_pb2.GetDomainRequest(uuid="there"))).uuid == "there"
            assert [event.kind async for event in stub.WatchEvents(domain_pb2.WatchEventsRequest())] == ["started"]
    assert [(entry["event"], entry["method"]) for entry in logs] == [("rpc.no_deadline", METHOD)]
