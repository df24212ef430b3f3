"""What the client repeats, what it never repeats, and what it makes of strange answers."""

import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from nwctl import client as client_module
from nwctl.client import Client
from nwctl.config import Settings
from nwctl.error import ApiError, CoordinatorUnreachable
from tests.unit.nwctl.standin import REQUEST_ID, Reply, StandIn

HANG_UP = Reply(status=0)
BUSY = Reply(status=503, code="ECS.ServiceUnavailable", message="starting")


@pytest.fixture
def client(coordinator: StandIn, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client of the stand-in that does not pause long."""
    monkeypatch.setattr(client_module, "FIRST_PAUSE_SECONDS", 0.01)
    return Client(Settings(endpoint=coordinator.url, token="nwt_secret", region="region0", lang="zh"))


def test_every_call_carries_token_region_and_language(coordinator: StandIn, client: Client) -> None:
    coordinator.on("GET", "/x", {})

    client.get("/x", {"filter": "status:in:Running,Stopped", "page": None})

    [request] = coordinator.requests
    assert request.headers["authorization"] == "Bearer nwt_secret"
    assert request.headers["x-regionid"] == "region0"
    assert request.headers["accept-language"] == "zh"
    assert request.query == {"filter": "status:in:Running,Stopped"}


def test_a_creation_cut_off_is_repeated_under_the_same_key(coordinator: StandIn, client: Client) -> None:
    coordinator.on("POST", "/things", HANG_UP, HANG_UP, {"id": 1})

    assert client.create("/things", {"name": "a"}).data == {"id": 1}

    keys = {request.headers["idempotency-key"] for request in coordinator.requests}
    assert (len(coordinator.requests), len(keys)) == (3, 1)


def test_two_creations_never_share_a_key(coordinator: StandIn, client: Client) -> None:
    coordinator.on("POST", "/things", {})
    client.create("/things", {})
    client.create("/things", {})

    first, second = coordinator.requests
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]


def test_a_change_cut_off_is_not_repeated(coordinator: StandIn, client: Client) -> None:
    coordinator.on("PUT", "/stop", HANG_UP, {})

    with pytest.raises(CoordinatorUnreachable):
        client.change("PUT", "/stop")

    assert len(coordinator.requests) == 1


def test_a_busy_coordinator_is_asked_again_but_not_for_ever(coordinator: StandIn, client: Client) -> None:
    coordinator.on("GET", "/soon", BUSY, "now")
    coordinator.on("GET", "/never", BUSY)

    assert client.get("/soon").data == "now"
    with pytest.raises(ApiError) as caught:
        client.get("/never")

    assert caught.value.code == "ECS.ServiceUnavailable"
    assert len(coordinator.asked("GET", "/never")) == client_module.ATTEMPTS


def test_even_a_change_waits_for_a_coordinator_that_is_coming_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_PAUSE_SECONDS", 0.2)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    answers: list[object] = []
    client = Client(Settings(endpoint=f"http://127.0.0.1:{port}", token="nwt_secret"))
    caller = threading.Thread(target=lambda: answers.append(client.change("PUT", "/start").data))
    caller.start()
    time.sleep(0.1)

    with StandIn(port=port) as late:
        late.on("PUT", "/start", "started")
        caller.join(timeout=60)

    assert answers == ["started"]


@pytest.mark.parametrize("text", ["<html>Bad gateway</html>", "[]", "null", '{"message": "no code"}'])
def test_an_answer_without_an_envelope_is_an_error_with_its_status(
    coordinator: StandIn, client: Client, text: str
) -> None:
    coordinator.on("GET", "/x", Reply(status=502, text=text, headers={"x-request-id": REQUEST_ID}))

    with pytest.raises(ApiError, match=f"HTTP 502.*{REQUEST_ID}"):
        client.get("/x")


def test_operation_ids_are_taken_from_the_header(coordinator: StandIn, client: Client) -> None:
    coordinator.on("PUT", "/one", Reply(headers={"x-operation-id": "op-1"}))
    coordinator.on("PUT", "/two", Reply(headers={"x-operation-id": "op-1, op-2"}))
    coordinator.on("PUT", "/none")

    found = [client.change("PUT", path).operation_ids for path in ("/one", "/two", "/none")]

    assert found == [("op-1",), ("op-1", "op-2"), ()]


def test_a_certificate_is_checked_against_the_given_ca_alone(tmp_path: Path) -> None:
    own, other = certificate(tmp_path / "own"), certificate(tmp_path / "other")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(own)
    with StandIn(tls) as coordinator:
        coordinator.on("GET", "/x", "trusted")
        settings = Settings(endpoint=coordinator.url, token="nwt_secret")

        assert Client(settings.overlaid({"ca_file": str(own)})).get("/x").data == "trusted"
        for ca_file in (str(other), ""):
            with pytest.raises(CoordinatorUnreachable, match="is --ca-file"):
                Client(settings.overlaid({"ca_file": ca_file})).get("/x")

        assert len(coordinator.requests) == 1


def certificate(path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, path.name)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path
