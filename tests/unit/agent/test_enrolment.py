"""A machine becomes a node over real HTTPS and gRPC, and trusts nobody but the authority that its token pins."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from agent.coordinator_client import CoordinatorRefused, CoordinatorUnavailable
from agent.enrolment import enrol
from agent.identity import Identity, IdentityMissing, Membership, TokenInvalid
from coordinator.pki import Authority
from tests.certificate import a_key_and_request
from tests.unit.agent.coordinator_server import NODE_ID, Coordinator, connected, serving
from tests.unit.agent.website import Website, website

MACHINE_UUID = "4c4c4544-0038-5a10-8052-b4c04f4e3732"


@contextmanager
def plain_website(body: bytes) -> Iterator[str]:
    """The address of a server that gives one answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + body)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "authority")


@pytest.fixture
def site(tmp_path: Path, authority: Authority) -> Iterator[Website]:
    with website(authority, tmp_path) as site:
        yield site


@pytest.fixture
def coordinator(authority: Authority) -> Coordinator:
    return Coordinator(authority)


@pytest.fixture
async def join_port(coordinator: Coordinator, site: Website) -> AsyncIterator[int]:
    async with serving(coordinator, client_certificate=False) as port:
        site.tell(coordinator.authority.pem, f"127.0.0.1:{port}", "grpc.example:8444")
        yield port


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return Identity(tmp_path / "state", tmp_path / "state/pki")


def a_token(authority: Authority) -> str:
    return f"nwe_{'B' * 43}.{authority.fingerprint}"


async def join(identity: Identity, site: Website, authority: Authority) -> Membership:
    return await enrol(identity, coordinator_url=site.url, token=a_token(authority), machine_uuid=MACHINE_UUID)


def key_in(request: Any) -> object:
    return x509.load_pem_x509_csr(request.certificate_request_pem.encode()).public_key()


@pytest.mark.usefixtures("join_port")
async def test_a_machine_with_a_token_becomes_a_node(
    identity: Identity, site: Website, coordinator: Coordinator
) -> None:
    membership = await join(identity, site, coordinator.authority)
    assert membership == Membership(NODE_ID, "region0", "grpc.example:8444")
    assert identity.membership() == membership
    request = await coordinator.request("Join")
    assert (request.token, request.machine_uuid) == (a_token(coordinator.authority), MACHINE_UUID)
    assert request.hostname == socket.gethostname()
    async with (
        serving(coordinator) as port,
        connected(port, identity.credentials()) as client,
    ):
        await client.wait_until_reachable(5)


@pytest.mark.usefixtures("join_port")
async def test_a_machine_whose_answer_was_lost_asks_again_with_the_same_key(
    identity: Identity, site: Website, coordinator: Coordinator
) -> None:
    coordinator.failures["Join"] = [grpc.StatusCode.UNAVAILABLE]
    with pytest.raises(CoordinatorUnavailable):
        await join(identity, site, coordinator.authority)
    with pytest.raises(IdentityMissing):
        identity.membership()
    await join(identity, site, coordinator.authority)
    first, second = [await coordinator.request("Join") for _ in range(2)]
    assert key_in(first) == key_in(second)


@pytest.mark.usefixtures("join_port")
async def test_a_token_that_the_coordinator_refuses_leaves_no_node(
    identity: Identity, site: Website, coordinator: Coordinator
) -> None:
    coordinator.failures["Join"] = [grpc.StatusCode.UNAUTHENTICATED]
    with pytest.raises(CoordinatorRefused, match="UNAUTHENTICATED"):
        await join(identity, site, coordinator.authority)
    with pytest.raises(IdentityMissing):
        identity.credentials()


@pytest.mark.usefixtures("join_port")
async def test_a_certificate_for_another_key_is_not_taken(
    identity: Identity, site: Website, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = coordinator.authority.sign_agent(NODE_ID, a_key_and_request().request_pem)
    monkeypatch.setattr(coordinator.authority, "sign_agent", lambda *_: foreign)
    with pytest.raises(ValueError, match="not for a key of this node"):
        await join(identity, site, coordinator.authority)
    with pytest.raises(IdentityMissing):
        identity.membership()


@pytest.mark.usefixtures("join_port")
async def test_where_the_coordinator_says_its_server_is_counts_most(
    identity: Identity, site: Website, coordinator: Coordinator
) -> None:
    coordinator.grpc_address = "elsewhere.example:9444"
    membership = await join(identity, site, coordinator.authority)
    assert membership.coordinator_address == "elsewhere.example:9444"


@pytest.mark.parametrize("listen", ["0.0.0.0", "[::]", ""])
async def test_a_coordinator_that_listens_everywhere_is_reached_where_it_was_found(
    identity: Identity, site: Website, coordinator: Coordinator, join_port: int, listen: str
) -> None:
    site.tell(coordinator.authority.pem, f"{listen}:{join_port}", f"{listen}:8444")
    membership = await join(identity, site, coordinator.authority)
    assert membership.coordinator_address == "127.0.0.1:8444"


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
async def test_a_coordinator_that_was_found_at_an_ipv6_address_is_reached_there(
    tmp_path: Path, identity: Identity, coordinator: Coordinator, join_port: int
) -> None:
    with website(coordinator.authority, tmp_path, host="::1") as site:
        site.tell(coordinator.authority.pem, f"127.0.0.1:{join_port}", "[::]:8444")
        membership = await join(identity, site, coordinator.authority)
    assert membership.coordinator_address == "[::1]:8444"


@pytest.mark.parametrize("is_bundle", [False, True])
async def test_somebody_in_between_gets_no_token(
    tmp_path: Path, identity: Identity, site: Website, authority: Authority, is_bundle: bool
) -> None:
    """An impostor tells an authority of its own, alone or beside the true one, and waits for machines."""
    impostor = Coordinator(Authority.open(tmp_path / "impostor"))
    async with serving(impostor, client_certificate=False) as port:
        told = authority.pem + impostor.authority.pem if is_bundle else impostor.authority.pem
        site.tell(told, f"127.0.0.1:{port}", "")
        with pytest.raises(TokenInvalid):
            await join(identity, site, authority)
    assert not impostor.requests


async def test_a_server_with_a_certificate_of_somebody_else_gets_no_token(
    tmp_path: Path, identity: Identity, site: Website, authority: Authority
) -> None:
    """The true authority's certificate is public: an impostor can tell it, but not serve with it."""
    impostor = Coordinator(authority)
    other = Authority.open(tmp_path / "impostor")
    async with serving(impostor, authority=other, client_certificate=False) as port:
        site.tell(authority.pem, f"127.0.0.1:{port}", "")
        with pytest.raises(CoordinatorUnavailable):
            await join(identity, site, authority)
    assert not impostor.requests


@pytest.mark.usefixtures("join_port")
async def test_an_answer_with_another_authority_is_not_believed(
    tmp_path: Path, identity: Identity, site: Website, coordinator: Coordinator
) -> None:
    coordinator.join_authority_pem = Authority.open(tmp_path / "other").pem.decode()
    with pytest.raises(TokenInvalid):
        await join(identity, site, coordinator.authority)
    with pytest.raises(IdentityMissing):
        identity.credentials()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"data": []}', b'{"data": {"caPem": ""}}', b"\xff"])
async def test_a_website_that_is_no_coordinator_is_told_apart(
    identity: Identity, site: Website, authority: Authority, body: bytes
) -> None:
    site.body = body
    with pytest.raises(TokenInvalid, match="does not answer as a coordinator"):
        await join(identity, site, authority)
    assert site.asked == 1


async def test_a_coordinator_may_be_behind_plain_http(identity: Identity, authority: Authority) -> None:
    """Its answer is not believed anyway before the token's fingerprint was found in it."""
    with plain_website(b"[]") as url, pytest.raises(TokenInvalid, match="does not answer as a coordinator"):
        await join(identity, Website(url), authority)


@pytest.mark.parametrize("status", [404, 500, 503])
async def test_a_coordinator_that_cannot_answer_yet_may_be_asked_again(
    identity: Identity, site: Website, authority: Authority, status: int
) -> None:
    site.status = status
    with pytest.raises(CoordinatorUnavailable, match=f"answered {status}"):
        await join(identity, site, authority)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://127.0.0.1:1"])
async def test_a_coordinator_that_is_away_may_be_asked_again(
    identity: Identity, authority: Authority, url: str
) -> None:
    with pytest.raises(CoordinatorUnavailable, match=url):
        await join(identity, Website(url), authority)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8443", "ftp://127.0.0.1", "https://"])
async def test_what_is_no_address_is_refused(identity: Identity, authority: Authority, url: str) -> None:
    with pytest.raises(TokenInvalid, match="no address of a coordinator"):
        await join(identity, Website(url), authority)
