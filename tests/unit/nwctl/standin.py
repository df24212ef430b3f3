"""A real HTTP server that answers in the coordinator's envelope what a test tells it to, and keeps what it is asked."""

import json
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

REQUEST_ID = "dc0776d4-d92b-4b1e-be55-bc87461f60ab"


@dataclass(frozen=True)
class Request:
    """What came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        """The JSON body."""
        return json.loads(self.content)


@dataclass(frozen=True)
class Reply:
    """What goes out; a status of 0 closes the connection without a word."""

    data: Any = None
    code: str = "Success"
    message: str = "ok"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    text: str | None = None

    def content(self) -> bytes:
        """The envelope, or `text` as it is."""
        envelope = {"requestId": REQUEST_ID, "code": self.code, "message": self.message, "data": self.data}
        return (json.dumps(envelope) if self.text is None else self.text).encode()


class StandIn:
    """Serves on a port of its own; several replies for a call are given in turn, the last one for ever."""

    def __init__(self, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.requests: list[Request] = []
        self._replies: dict[tuple[str, str], list[Reply]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def on(self, method: str, path: str, *replies: Reply | Any) -> None:
        """What to answer; anything but a Reply is the `data` of a success."""
        given = [reply if isinstance(reply, Reply) else Reply(reply) for reply in replies or (None,)]
        self._replies[method, path] = given

    def asked(self, method: str, path: str) -> list[Request]:
        """The requests of this method and path so far."""
        return [request for request in self.requests if (request.method, request.path) == (method, path)]

    def reply_to(self, request: Request) -> Reply:
        """Records the request and picks its reply."""
        self.requests.append(request)
        replies = self._replies.get((request.method, request.path))
        if not replies:
            return Reply(status=404, code="ECS.DBGet.NoData", message=f"nothing at {request.path}")
        return replies.pop(0) if len(replies) > 1 else replies[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        standin = self

        class Handler(BaseHTTPRequestHandler):
            """One connection."""

            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, url.path, dict(parse_qsl(url.query)), headers, content)
                self.send(standin.reply_to(request))

            do_POST = do_PUT = do_PATCH = do_HEAD = do_DELETE = do_GET  # noqa: N815

            def send(self, reply: Reply) -> None:
                if not reply.status:
                    self.close_connection = True
                    return
                content = reply.content()
                self.send_response(reply.status)
                self.send_header("Content-Length", str(len(content)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                return

        return Handler
