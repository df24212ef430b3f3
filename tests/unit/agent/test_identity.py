"""A node's key and certificate change together, survive a crash at any moment, and belong to nobody else."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from agent import identity as identity_module
from agent.identity import Identity, IdentityMissing, Membership, TokenInvalid, Validity, check_authority
from agent.identity import read_machine_uuid as read_uuid
from coordinator.pki import Authority
from tests.certificate import a_key_and_request
from tests.unit.agent.coordinator_server import NODE_ID, an_identity

DMI_UUID = "4C4C4544-0038-5A10-8052-B4C04F4E3732"
MACHINE_ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "authority")


@pytest.fixture
def fresh(tmp_path: Path) -> Identity:
    """Of a node that has not joined."""
    identity = Identity(tmp_path / "state", tmp_path / "state/pki")
    identity.prepare()
    return identity


def sign(authority: Authority, request_pem: str) -> str:
    return authority.sign_agent(NODE_ID, request_pem.encode()).certificate_pem.decode()


def key_of(pem: bytes | str) -> object:
    """The public key in a request or a certificate."""
    text = pem.encode() if isinstance(pem, str) else pem
    is_request = b"CERTIFICATE REQUEST" in text
    return (x509.load_pem_x509_csr(text) if is_request else x509.load_pem_x509_certificate(text)).public_key()


def test_a_node_that_joined_knows_itself_after_a_restart(tmp_path: Path, authority: Authority) -> None:
    an_identity(tmp_path, authority, "coordinator:8444")
    again = Identity(tmp_path, tmp_path / "pki")
    assert again.membership() == Membership(NODE_ID, "region0", "coordinator:8444")
    credentials = again.credentials()
    assert credentials.authority_pem == authority.pem
    certificate = x509.load_pem_x509_certificate(credentials.certificate_pem)
    assert credentials.validity == Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def test_keys_are_for_their_owner_alone(tmp_path: Path, authority: Authority) -> None:
    identity = an_identity(tmp_path / "state", authority)
    identity.request_renewal()
    pki = tmp_path / "state/pki"
    assert pki.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in pki.iterdir()}
    assert modes == dict.fromkeys(("ca.crt", "node.pem", "pending.key"), 0o600)


def test_a_machine_that_has_not_joined_says_so(fresh: Identity) -> None:
    with pytest.raises(IdentityMissing, match="not joined"):
        fresh.membership()
    with pytest.raises(IdentityMissing, match="no certificate"):
        fresh.credentials()


@pytest.mark.parametrize("content", ["", "no JSON", "[]", '{"node_id": "node-1"}', '{"colour": "red"}'])
def test_a_damaged_membership_is_none(tmp_path: Path, authority: Authority, content: str) -> None:
    identity = an_identity(tmp_path, authority)
    (tmp_path / "identity.json").write_text(content)
    with pytest.raises(IdentityMissing):
        identity.membership()


@pytest.mark.parametrize("content", [b"", b"\xff\xff\n", b"today tomorrow\n", b"2026-01-01T00:00:00+00:00"])
def test_a_damaged_certificate_is_none(tmp_path: Path, authority: Authority, content: bytes) -> None:
    identity = an_identity(tmp_path, authority)
    (tmp_path / "pki/node.pem").write_bytes(content)
    with pytest.raises(IdentityMissing):
        identity.credentials()


def test_a_key_that_was_cut_off_is_none(tmp_path: Path, authority: Authority) -> None:
    identity = an_identity(tmp_path, authority)
    path = tmp_path / "pki/node.pem"
    path.write_bytes(path.read_bytes().partition(b"-----END")[0])
    with pytest.raises(IdentityMissing, match="no private key"):
        identity.credentials()


def test_the_same_key_asks_until_it_has_its_certificate(fresh: Identity, authority: Authority) -> None:
    first = fresh.request_to_join()
    assert key_of(first) == key_of(fresh.request_to_join())
    fresh.accept(sign(authority, first), authority.pem.decode())
    assert key_of(fresh.credentials().certificate_pem) == key_of(first)


def test_who_joins_again_keeps_the_key(tmp_path: Path, authority: Authority) -> None:
    identity = an_identity(tmp_path, authority)
    assert key_of(identity.request_to_join()) == key_of(identity.credentials().certificate_pem)
    former = identity.credentials().key_pem
    identity.accept(sign(authority, identity.request_to_join()), authority.pem.decode())
    assert identity.credentials().key_pem == former


def test_a_renewal_has_a_new_key_each_time(tmp_path: Path, authority: Authority) -> None:
    identity = an_identity(tmp_path, authority)
    keys = [identity.credentials().key_pem]
    for _ in range(2):
        identity.accept(sign(authority, identity.request_renewal()), authority.pem.decode())
        keys.append(identity.credentials().key_pem)
    assert len(set(keys)) == 3


def test_a_renewal_whose_answer_was_lost_asks_with_the_same_key(tmp_path: Path, authority: Authority) -> None:
    identity = an_identity(tmp_path, authority)
    present = identity.credentials()
    asked = identity.request_renewal()
    assert key_of(Identity(tmp_path, tmp_path / "pki").request_renewal()) == key_of(asked)
    assert identity.credentials() == present


def test_a_certificate_for_another_key_is_refused_and_changes_nothing(tmp_path: Path, authority: Authority) -> None:
    identity = an_identity(tmp_path, authority)
    identity.request_renewal()
    before = {path: path.read_bytes() for path in (tmp_path / "pki").iterdir()}
    foreign = sign(authority, a_key_and_request().request_pem.decode())
    with pytest.raises(ValueError, match="not for a key of this node"):
        identity.accept(foreign, "another authority")
    assert {path: path.read_bytes() for path in (tmp_path / "pki").iterdir()} == before


@pytest.mark.parametrize("certificate", ["", "no certificate"])
def test_what_is_no_certificate_is_refused(tmp_path: Path, authority: Authority, certificate: str) -> None:
    identity = an_identity(tmp_path, authority)
    with pytest.raises(ValueError, match=r".+"):
        identity.accept(certificate, authority.pem.decode())


@pytest.mark.parametrize("crash_at", range(3))
def test_a_crash_in_the_middle_of_a_renewal_leaves_a_pair_that_works(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, crash_at: int
) -> None:
    identity = an_identity(tmp_path, authority)
    certificate = sign(authority, identity.request_renewal())
    steps = iter(range(3))

    def crash_or(action: object) -> object:
        def act(*arguments: object) -> None:
            if next(steps) == crash_at:
                raise KeyboardInterrupt
            action(*arguments)  # type: ignore[operator]

        return act

    for name in ("write_file", "remove_file"):
        monkeypatch.setattr(identity_module, name, crash_or(getattr(identity_module, name)))
    with pytest.raises(KeyboardInterrupt):
        identity.accept(certificate, authority.pem.decode())
    monkeypatch.undo()
    again = Identity(tmp_path, tmp_path / "pki")
    credentials = again.credentials()
    assert key_of(certificate) == key_of(again.request_renewal())
    again.accept(credentials.certificate_pem.decode(), authority.pem.decode())  # the key is the certificate's
    assert again.credentials().key_pem == credentials.key_pem


def test_a_certificate_is_renewed_at_two_thirds_of_its_life() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    validity = Validity(begin, begin + timedelta(days=90))
    assert validity.renew_at == begin + timedelta(days=60)
    assert validity.left(begin + timedelta(days=91)) == timedelta(days=-1)


def a_token(authority: Authority, secret: str = "A" * 43) -> str:
    return f"nwe_{secret}.{authority.fingerprint}"


def test_a_token_trusts_its_authority(authority: Authority) -> None:
    check_authority(a_token(authority), authority.pem.decode())


def test_a_token_trusts_no_other_authority(tmp_path: Path, authority: Authority) -> None:
    other = Authority.open(tmp_path / "other")
    with pytest.raises(TokenInvalid, match="somebody is between"):
        check_authority(a_token(other), authority.pem.decode())


@pytest.mark.parametrize("attempt", range(4))  # how a PEM text is decoded depends on its length, which varies
def test_nobody_smuggles_an_authority_in_beside_the_trusted_one(tmp_path: Path, attempt: int) -> None:
    authority, evil = (Authority.open(tmp_path / name) for name in ("authority", "evil"))
    for bundle in (authority.pem + evil.pem, evil.pem + authority.pem):
        with pytest.raises(TokenInvalid):
            check_authority(a_token(authority), bundle.decode())


@pytest.mark.parametrize("token", ["", "nwe_short.00", "nwe_" + "A" * 43, "nwe_" + "A" * 43 + "." + "0" * 63 + "g"])
def test_what_is_no_token_is_refused(authority: Authority, token: str) -> None:
    with pytest.raises(TokenInvalid, match="no enrolment token"):
        check_authority(token, authority.pem.decode())


@pytest.mark.parametrize("pem", ["", "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n", "<html>"])
def test_an_authority_without_a_certificate_is_refused(authority: Authority, pem: str) -> None:
    with pytest.raises(TokenInvalid):
        check_authority(a_token(authority), pem)


@pytest.mark.parametrize(
    ("configured", "dmi", "machine_id", "expected"),
    [
        ("", DMI_UUID, MACHINE_ID, DMI_UUID.lower()),
        ("", None, MACHINE_ID, "01234567-89ab-cdef-0123-456789abcdef"),
        # What boards have whose maker wrote nothing there.
        ("", "00000000-0000-0000-0000-000000000000", MACHINE_ID, "01234567-89ab-cdef-0123-456789abcdef"),
        ("", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", MACHINE_ID, "01234567-89ab-cdef-0123-456789abcdef"),
        ("", "Not Specified", MACHINE_ID, "01234567-89ab-cdef-0123-456789abcdef"),
        ("11112222-3333-4444-5555-666677778888", DMI_UUID, MACHINE_ID, "11112222-3333-4444-5555-666677778888"),
    ],
)
def test_a_machine_is_known_by_the_best_identity_that_it_has(
    tmp_path: Path, configured: str, dmi: str | None, machine_id: str, expected: str
) -> None:
    assert read_uuid(configured, **a_machine(tmp_path, dmi, machine_id)) == expected


def test_a_machine_without_an_identity_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(IdentityMissing, match="configure machine_uuid"):
        read_uuid("", **a_machine(tmp_path, None, "uninitialized"))


def a_machine(directory: Path, dmi: str | None, machine_id: str) -> dict[str, Path]:
    sysfs, etc = directory / "sys", directory / "etc"
    (sysfs / "class/dmi/id").mkdir(parents=True)
    if dmi is not None:
        (sysfs / "class/dmi/id/product_uuid").write_text(dmi + os.linesep)
    etc.mkdir()
    (etc / "machine-id").write_text(machine_id + os.linesep)
    return {"sysfs": sysfs, "etc": etc}
