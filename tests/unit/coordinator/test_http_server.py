"""The REST server: which certificate is shown, when a new one is, and how its connections are set up."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from coordinator.config import Settings
from coordinator.http_server import HttpServer, listen
from coordinator.pki import Authority, CoordinatorIdentity
from coordinator.rpc.server import ListenFailed


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path)


@pytest.fixture
def identity(tmp_path: Path, authority: Authority) -> CoordinatorIdentity:
    return CoordinatorIdentity(authority, tmp_path, ["localhost"])


def an_app() -> FastAPI:
    app = FastAPI()

    @app.get("/ping")
    def answer() -> str:
        return "pong"

    return app


def a_server(identity: CoordinatorIdentity, **settings: Any) -> HttpServer:
    return HttpServer(an_app(), Settings(rest_listen="127.0.0.1:0", **settings), identity)


@asynccontextmanager
async def serving(server: HttpServer) -> AsyncIterator[None]:
    running = asyncio.create_task(server.run())
    yield
    server.stop()
    await running


async def ask(server: HttpServer, name: str, ca_pem: bytes) -> int:
    """Status of an answer from the server, checked to be `name`."""
    trust = ssl.create_default_context(cadata=ca_pem.decode())
    async with httpx.AsyncClient(verify=trust) as client:
        extensions = {"sni_hostname": name}
        return (await client.get(f"https://127.0.0.1:{server.port}/ping", extensions=extensions)).status_code


async def test_rest_shows_a_certificate_of_the_own_authority(identity: CoordinatorIdentity) -> None:
    server = a_server(identity)
    async with serving(server):
        assert await ask(server, "localhost", identity.ca_pem) == 200


async def test_renewed_certificate_is_shown_to_new_connections(
    tmp_path: Path, authority: Authority, identity: CoordinatorIdentity
) -> None:
    server = a_server(identity)
    async with serving(server):
        with pytest.raises(httpx.ConnectError):
            await ask(server, "renewed.example.org", identity.ca_pem)
        CoordinatorIdentity(authority, tmp_path, ["renewed.example.org"])
        server.reload_certificate()
        assert await ask(server, "renewed.example.org", identity.ca_pem) == 200


async def test_certificate_of_the_operators_own_is_shown(
    tmp_path: Path, authority: Authority, identity: CoordinatorIdentity
) -> None:
    own = authority.issue_coordinator(["own.example.org"])
    certificate, key = tmp_path / "own.crt", tmp_path / "own.key"
    certificate.write_bytes(own.certificate_pem)
    key.write_bytes(own.key_pem)
    server = a_server(identity, tls_certificate_file=certificate, tls_key_file=key)
    async with serving(server):
        server.reload_certificate()
        assert await ask(server, "own.example.org", identity.ca_pem) == 200


async def test_plain_http_is_served_only_when_asked_for(identity: CoordinatorIdentity) -> None:
    server = a_server(identity, plain_http=True)
    async with serving(server), httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{server.port}/ping")).status_code == 200


def test_certificate_files_that_cannot_be_used_are_told(tmp_path: Path, identity: CoordinatorIdentity) -> None:
    broken = tmp_path / "broken.crt"
    broken.write_text("nothing")
    with pytest.raises(ListenFailed, match=r"broken\.crt"):
        a_server(identity, tls_certificate_file=broken, tls_key_file=broken)


def test_no_answer_waits_for_the_acknowledgement_of_its_first_part() -> None:
    with listen("127.0.0.1:0") as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
