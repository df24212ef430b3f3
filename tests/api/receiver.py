"""A real HTTP server that takes events as a webhook's receiver would."""

import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Delivery:
    """One call that came in."""

    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """What it tells."""
        told: dict[str, Any] = json.loads(self.body)
        return told

    def is_signed_with(self, secret: str) -> bool:
        """What the documentation tells receivers to check."""
        parts = dict(part.split("=", 1) for part in self.headers["x-nodewright-signature"].split(","))
        expected = hmac.new(secret.encode(), parts["t"].encode() + b"." + self.body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected, parts["v1"])


@dataclass
class Receiver:
    """What came in, and what is answered: each status once, then 204 for ever."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    _came: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, count: int) -> list[Delivery]:
        """The first so many calls, once they are there."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.deliveries) >= count, 60), self.deliveries
            return self.deliveries[:count]

    def take(self, delivery: Delivery) -> int:
        """The status that a call is answered with."""
        with self._came:
            self.deliveries.append(delivery)
            self._came.notify_all()
            return self.statuses.pop(0) if self.statuses else 204


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver on a port of its own, over TLS if a context is given."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = receiver.take(Delivery({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(status)
            if status == 302:
                self.send_header("location", "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        receiver.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}/hook"
        yield receiver
        server.shutdown()
