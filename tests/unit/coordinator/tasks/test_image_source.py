"""Where images may be fetched from."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from coordinator.agents.client import AgentCallError
from coordinator.errors import ImageUnusable
from coordinator.tasks.image_source import open_url


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/image":
            self.send_response(200)
            self.send_header("content-length", "5")
            self.end_headers()
            self.wfile.write(b"bytes")
            return
        status = {"/moved": 302, "/loop": 302, "/gone": 404, "/busy": 503}[self.path]
        self.send_response(status)
        if status == 302:
            self.send_header("location", "/image" if self.path == "/moved" else "/loop")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def source() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("path", ["/image", "/moved"])
async def test_a_file_is_read_also_behind_a_redirect(source: str, path: str) -> None:
    async with open_url(source + path, private_allowed=True) as response:
        assert await response.aread() == b"bytes"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254", "[::ffff:10.0.0.1]"]
)
async def test_private_addresses_are_refused(host: str) -> None:
    with pytest.raises(ImageUnusable, match="private network"):
        async with open_url(f"http://{host}/image", private_allowed=False):
            pass


@pytest.mark.parametrize("path", ["/loop", "/gone"])
async def test_what_cannot_ever_be_read_is_unusable(source: str, path: str) -> None:
    with pytest.raises(ImageUnusable):
        async with open_url(source + path, private_allowed=True):
            pass


async def test_what_may_work_later_is_transient(source: str) -> None:
    with pytest.raises(AgentCallError) as caught:
        async with open_url(source + "/busy", private_allowed=True):
            pass
    assert caught.value.transient
