"""A certificate is renewed in time, and what fails on the way changes nothing. The clock alone is made up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from agent import identity as identity_module
from agent.coordinator_client import CoordinatorClient
from agent.identity import Credentials, Identity
from agent.renewal import CertificateRenewal
from coordinator.domain.clock import utc_now
from coordinator.pki import LEAF_LIFE, Authority
from tests.certificate import a_key_and_request
from tests.unit.agent.coordinator_server import NODE_ID, Coordinator, an_identity, connected, serving


class Clock:
    """The time of node and coordinator, which a test turns."""

    def __init__(self) -> None:
        self.now = utc_now()

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def coordinator(tmp_path: Path, clock: Clock) -> Coordinator:
    return Coordinator(Authority.open(tmp_path / "authority", clock))


@pytest.fixture
def identity(tmp_path: Path, coordinator: Coordinator) -> Identity:
    return an_identity(tmp_path / "state", coordinator.authority)


@pytest.fixture
async def client(coordinator: Coordinator, identity: Identity) -> AsyncIterator[CoordinatorClient]:
    async with serving(coordinator) as port, connected(port, identity.credentials()) as client:
        yield client


class Renewal:
    """One whose sleep is short, and counted."""

    def __init__(self, identity: Identity, client: CoordinatorClient, clock: Clock) -> None:
        self.clock = clock
        self.renewed: list[Credentials] = []
        self.sleeps: list[float] = []
        self.is_over = asyncio.Event()
        self.renewal = CertificateRenewal(identity, client, on_renewed=self.renewed.append, now=clock, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        """Time passes at once, until there is a new certificate."""
        self.sleeps.append(seconds)
        self.clock.now += timedelta(seconds=seconds)
        if self.renewed:
            self.is_over.set()
            await asyncio.Event().wait()


@pytest.fixture
def renewal(identity: Identity, client: CoordinatorClient, clock: Clock) -> Renewal:
    return Renewal(identity, client, clock)


async def test_a_certificate_is_due_at_two_thirds_of_its_life(
    renewal: Renewal, identity: Identity, clock: Clock
) -> None:
    validity = identity.credentials().validity
    life_seconds = (validity.not_after - validity.not_before).total_seconds()
    assert life_seconds == pytest.approx(LEAF_LIFE.total_seconds() + 3600)
    clock.now = validity.not_before
    assert renewal.renewal.seconds_until_due() == pytest.approx(life_seconds * 2 / 3)
    clock.now = validity.not_after
    assert renewal.renewal.seconds_until_due() == pytest.approx(-life_seconds / 3)


async def test_a_renewed_certificate_is_for_a_new_key_and_in_use(renewal: Renewal, identity: Identity) -> None:
    former = identity.credentials()
    assert await renewal.renewal.renew()
    present = identity.credentials()
    assert renewal.renewed == [present]
    assert present.key_pem != former.key_pem
    certificate = x509.load_pem_x509_certificate(present.certificate_pem)
    assert certificate.serial_number != x509.load_pem_x509_certificate(former.certificate_pem).serial_number


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED])
async def test_without_an_answer_everything_is_as_before(
    renewal: Renewal, identity: Identity, coordinator: Coordinator, status: grpc.StatusCode
) -> None:
    former = identity.credentials()
    coordinator.failures["RenewCertificate"] = [status]
    assert not await renewal.renewal.renew()
    assert (identity.credentials(), renewal.renewed) == (former, [])
    assert await renewal.renewal.renew()
    first, second = [
        x509.load_pem_x509_csr((await coordinator.request("RenewCertificate")).certificate_request_pem.encode())
        for _ in range(2)
    ]
    assert first.public_key() == second.public_key()


async def test_a_certificate_for_another_key_is_not_taken(
    renewal: Renewal, identity: Identity, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = identity.credentials()
    foreign = coordinator.authority.sign_agent(NODE_ID, a_key_and_request().request_pem)
    monkeypatch.setattr(coordinator.authority, "sign_agent", lambda *_: foreign)
    assert not await renewal.renewal.renew()
    assert (identity.credentials(), renewal.renewed) == (former, [])


async def test_a_full_disk_ends_nothing(renewal: Renewal, identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent goes on with the certificate that it has, and tries again."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    former = identity.credentials()
    with monkeypatch.context() as patched:
        patched.setattr(identity_module, "write_file", fail)
        assert not await renewal.renewal.renew()
    assert (identity.credentials(), renewal.renewed) == (former, [])
    assert await renewal.renewal.renew()


async def test_the_watch_sleeps_until_it_is_time_and_tries_until_it_has_succeeded(
    renewal: Renewal, identity: Identity, coordinator: Coordinator, clock: Clock
) -> None:
    coordinator.failures["RenewCertificate"] = [grpc.StatusCode.UNAVAILABLE] * 2
    clock.now = identity.credentials().validity.renew_at - timedelta(minutes=90)
    watch = asyncio.create_task(renewal.renewal.run())
    await asyncio.wait_for(renewal.is_over.wait(), 60)
    watch.cancel()
    with suppress(asyncio.CancelledError):
        await watch
    # At least every hour, for the clock may be turned; then every minute; then there is time again.
    assert renewal.sleeps == pytest.approx([3600, 1800, 60, 60, 3600])
    assert len(renewal.renewed) == 1
