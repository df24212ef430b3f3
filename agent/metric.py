"""Metrics and health over plain HTTP on a local address: /metrics, /healthz, /readyz.

A server of a few lines: a web framework would cost more memory than the rest of the agent's own code.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

# Names of what the agent depends on, and whether it is well.
Readiness = Callable[[], Mapping[str, bool]]

_REQUEST_SECONDS: Final = 5.0
_TEXT: Final = "text/plain; charset=utf-8"


class Metrics:
    """What the agent counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.calls = Counter(
            "nodewright_agent_calls", "Calls to the agent that have ended.", ["method", "code"], registry=self.registry
        )
        self.call_seconds = Histogram(
            "nodewright_agent_call_seconds",
            "How long calls to the agent took.",
            ["method"],
            buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 300),
            registry=self.registry,
        )
        self.certificate_expires = Gauge(
            "nodewright_agent_certificate_expires_timestamp_seconds",
            "When the node's certificate ends.",
            registry=self.registry,
        )
        self.ready = Gauge(
            "nodewright_agent_ready",
            "Whether a part that the agent depends on is well.",
            ["part"],
            registry=self.registry,
        )


class MetricInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Counts unary calls and measures them; streams last as long as their guests take, which says nothing.

    Goes first: the others decide with which code a call ends.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Wraps the handler of one call."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        behaviour, method = handler.unary_unary, handler_call_details.method

        async def measured(request: Any, context: Any) -> Any:
            started = time.monotonic()
            code = ""
            try:
                return await behaviour(request, context)
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED.name
                raise
            finally:
                self._metrics.call_seconds.labels(method).observe(time.monotonic() - started)
                self._metrics.calls.labels(method, code or _name_code(context)).inc()

        return grpc.unary_unary_rpc_method_handler(
            measured, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )


def _name_code(context: Any) -> str:
    """The name of the status that was set; a call that ends without any is well."""
    return (context.code() or grpc.StatusCode.OK).name


class MetricServer:
    """Answers /metrics, /healthz and /readyz."""

    def __init__(self, metrics: Metrics, readiness: Readiness) -> None:
        self._metrics = metrics
        self._readiness = readiness
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listens; answers the port, which the system chooses for 0."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=16 * 1024)
        bound_port: int = self._server.sockets[0].getsockname()[1]
        return bound_port

    async def stop(self) -> None:
        """Listens no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n")
                while await reader.readline() not in (b"\r\n", b"\n", b""):
                    pass  # no header matters
                writer.write(self._answer(head.decode("latin-1").split()))
                await writer.drain()
        except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # not a request: it gets no answer
        finally:
            writer.close()

    def _answer(self, request: list[str]) -> bytes:
        if len(request) != 3 or request[0] not in ("GET", "HEAD"):
            return _encode(HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"only GET\n")
        match request[1].partition("?")[0]:
            case "/metrics":
                for part, well in self._readiness().items():
                    self._metrics.ready.labels(part).set(well)
                answer = _encode(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self._metrics.registry))
            case "/healthz":
                answer = _encode(HTTPStatus.OK, _TEXT, b"ok\n")
            case "/readyz":
                parts = self._readiness()
                text = "".join(f"{part}: {'ok' if well else 'away'}\n" for part, well in parts.items())
                status = HTTPStatus.OK if all(parts.values()) else HTTPStatus.SERVICE_UNAVAILABLE
                answer = _encode(status, _TEXT, text.encode())
            case _:
                answer = _encode(HTTPStatus.NOT_FOUND, _TEXT, b"/metrics, /healthz, /readyz\n")
        return answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if request[0] == "HEAD" else answer


def _encode(status: HTTPStatus, content_type: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
