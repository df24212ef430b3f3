"""The authority and the certificates that it signs."""

import ipaddress
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from coordinator.errors import ParameterInvalid
from coordinator.pki import COORDINATOR_NAME, Authority, AuthorityInvalid, CoordinatorIdentity
from tests.certificate import a_key_and_request

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HOSTS = ["cloud.example.org", "192.0.2.7"]


class TurnableClock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> TurnableClock:
    return TurnableClock()


@pytest.fixture
def authority(tmp_path: Path, clock: TurnableClock) -> Authority:
    return Authority.open(tmp_path, clock)


def names_of(pem: bytes) -> x509.SubjectAlternativeName:
    certificate = x509.load_pem_x509_certificate(pem)
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def test_authority_is_made_once_and_found_again(tmp_path: Path) -> None:
    assert Authority.open(tmp_path).fingerprint == Authority.open(tmp_path).fingerprint


def test_authority_lives_ten_years_and_signs_no_other_authorities(authority: Authority) -> None:
    constraints = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert constraints.ca
    assert constraints.path_length == 0
    assert authority.certificate.not_valid_after_utc == NOW + timedelta(days=3650)


def test_keys_are_readable_by_their_owner_only(tmp_path: Path, authority: Authority) -> None:
    CoordinatorIdentity(authority, tmp_path, HOSTS)
    assert {path.name for path in tmp_path.iterdir()} == {"ca.key", "ca.crt", "coordinator.pem"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_authority_that_lost_its_certificate_after_a_crash_is_completed(tmp_path: Path) -> None:
    Authority.open(tmp_path)
    key = (tmp_path / "ca.key").read_bytes()
    (tmp_path / "ca.crt").unlink()
    Authority.open(tmp_path)
    assert (tmp_path / "ca.key").read_bytes() == key


def test_certificate_that_does_not_belong_to_the_key_is_refused(tmp_path: Path) -> None:
    Authority.open(tmp_path / "one")
    Authority.open(tmp_path / "two")
    (tmp_path / "one/ca.key").replace(tmp_path / "two/ca.key")
    with pytest.raises(AuthorityInvalid, match=r"ca\.crt does not belong to ca\.key"):
        Authority.open(tmp_path / "two")


def test_agent_certificate_names_role_and_node_and_nothing_of_the_request(authority: Authority) -> None:
    request = a_key_and_request("urn:nodewright:role:coordinator").request_pem
    issued = authority.sign_agent("node-abc", request)
    certificate = x509.load_pem_x509_certificate(issued.certificate_pem)
    certificate.verify_directly_issued_by(authority.certificate)
    names = names_of(issued.certificate_pem)
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        "urn:nodewright:role:agent",
        "urn:nodewright:node:node-abc",
    ]
    assert names.get_values_for_type(x509.DNSName) == ["node-abc.node.nodewright.internal"]
    assert "coordinator" not in certificate.subject.rfc4514_string()


def test_agent_certificate_lives_ninety_days_and_is_valid_for_clocks_that_are_late(authority: Authority) -> None:
    issued = authority.sign_agent("node-abc", a_key_and_request().request_pem)
    certificate = x509.load_pem_x509_certificate(issued.certificate_pem)
    assert issued.expires_at == NOW + timedelta(days=90)
    assert certificate.not_valid_before_utc == NOW - timedelta(hours=1)


def test_scheduler_certificate_has_its_role_and_no_node(authority: Authority) -> None:
    names = names_of(authority.issue_scheduler("batch").certificate_pem)
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:nodewright:role:scheduler"]


@pytest.mark.parametrize("request_pem", [b"", b"no PEM", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END"])
def test_what_is_no_request_is_refused(authority: Authority, request_pem: bytes) -> None:
    with pytest.raises(ParameterInvalid, match="certificateRequestPem"):
        authority.sign_agent("node-abc", request_pem)


def test_request_whose_signature_was_changed_is_refused(authority: Authority) -> None:
    der = bytearray(x509.load_pem_x509_csr(a_key_and_request().request_pem).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(ParameterInvalid, match="not signed with its own key"):
        authority.sign_agent("node-abc", forged)


def test_weak_key_is_refused(authority: Authority) -> None:
    key = rsa.generate_private_key(65537, 1024)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    with pytest.raises(ParameterInvalid, match="the key must be"):
        authority.sign_agent("node-abc", request.public_bytes(serialization.Encoding.PEM))


def test_coordinator_certificate_names_its_hosts(tmp_path: Path, authority: Authority) -> None:
    names = names_of(CoordinatorIdentity(authority, tmp_path, HOSTS).cert_pem)
    assert names.get_values_for_type(x509.DNSName) == [COORDINATOR_NAME, "cloud.example.org"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("192.0.2.7")]


def test_coordinator_certificate_is_kept_over_restarts(
    tmp_path: Path, authority: Authority, clock: TurnableClock
) -> None:
    first = CoordinatorIdentity(authority, tmp_path, HOSTS, clock)
    second = CoordinatorIdentity(authority, tmp_path, HOSTS, clock)
    assert (second.cert_pem, second.key_pem) == (first.cert_pem, first.key_pem)


def test_coordinator_certificate_is_renewed_at_two_thirds_of_its_life(
    tmp_path: Path, authority: Authority, clock: TurnableClock
) -> None:
    identity = CoordinatorIdentity(authority, tmp_path, HOSTS, clock)
    before = identity.cert_pem
    clock.now = NOW + timedelta(days=59)
    assert not identity.renew_when_due()
    clock.now = NOW + timedelta(days=61)
    assert identity.renew_when_due()
    assert identity.cert_pem != before
    assert identity.path.read_bytes() == identity.cert_pem + identity.key_pem


def test_coordinator_certificate_is_renewed_when_the_hosts_change(tmp_path: Path, authority: Authority) -> None:
    CoordinatorIdentity(authority, tmp_path, HOSTS)
    names = names_of(CoordinatorIdentity(authority, tmp_path, ["other.example.org"]).cert_pem)
    assert names.get_values_for_type(x509.DNSName) == [COORDINATOR_NAME, "other.example.org"]


@pytest.mark.parametrize("damage", [b"", b"half of a certifica"])
def test_damaged_coordinator_certificate_is_replaced(tmp_path: Path, authority: Authority, damage: bytes) -> None:
    (tmp_path / "coordinator.pem").write_bytes(damage)
    identity = CoordinatorIdentity(authority, tmp_path, HOSTS)
    x509.load_pem_x509_certificate(identity.cert_pem).verify_directly_issued_by(authority.certificate)
