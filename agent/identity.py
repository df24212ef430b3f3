"""Who this node is: its key and certificate, and how it gets and keeps them.

The key, its certificate and its validity are in one file, so that they change together. A key that was sent in a
request is kept until the request succeeded: when the answer is lost, the same key asks again, and the coordinator
knows it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import ssl
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from agent.durable_file import remove_file, write_file

_TOKEN: Final = re.compile(r"(nwe_[A-Za-z0-9_-]{43})\.([0-9a-f]{64})")
_RENEW_AFTER: Final = 2 / 3
_KEY_END: Final = b"-----END PRIVATE KEY-----\n"


class IdentityMissing(Exception):
    """The node has not joined, or its files are damaged."""


class TokenInvalid(Exception):
    """This is no enrolment token, or not one of that coordinator."""


@dataclass(frozen=True)
class Validity:
    """How long a certificate counts."""

    not_before: datetime
    not_after: datetime

    @property
    def renew_at(self) -> datetime:
        """Two thirds of its life: early enough for a coordinator that is away for long."""
        return self.not_before + (self.not_after - self.not_before) * _RENEW_AFTER

    def left(self, now: datetime) -> timedelta:
        """Time until it ends, negative afterwards."""
        return self.not_after - now


@dataclass(frozen=True)
class Credentials:
    """What TLS needs, as PEM."""

    key_pem: bytes
    certificate_pem: bytes
    authority_pem: bytes
    validity: Validity


@dataclass(frozen=True)
class Membership:
    """What the coordinator told the node when it joined."""

    node_id: str
    region: str
    # "host:port" of the coordinator's mutual-TLS gRPC server.
    coordinator_address: str


class Identity:
    """The files of a node's identity."""

    def __init__(self, state_dir: Path, pki_dir: Path) -> None:
        self._membership_path = state_dir / "identity.json"
        self._credentials_path = pki_dir / "node.pem"
        self._authority_path = pki_dir / "ca.crt"
        self._pending_key_path = pki_dir / "pending.key"

    def prepare(self) -> None:
        """The directories exist, and the keys' one is root's alone."""
        self._membership_path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._credentials_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def membership(self) -> Membership:
        """Raises IdentityMissing."""
        try:
            return Membership(**json.loads(self._membership_path.read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise IdentityMissing(f"this node has not joined: {error}") from error

    def credentials(self) -> Credentials:
        """Raises IdentityMissing."""
        try:
            validity, key_pem, certificate_pem = _decode(self._credentials_path.read_bytes())
            return Credentials(key_pem, certificate_pem, self._authority_path.read_bytes(), validity)
        except (OSError, ValueError) as error:
            raise IdentityMissing(f"this node has no certificate: {error}") from error

    def request_to_join(self) -> str:
        """A PEM certificate request with the node's present key, or the one that is pending, or a new one."""
        from agent import certificate

        try:
            key_pem = self.credentials().key_pem
        except IdentityMissing:
            key_pem = self._pending_key()
        return certificate.build_request(key_pem)

    def request_renewal(self) -> str:
        """A PEM certificate request with the pending key, or a new one."""
        from agent import certificate

        return certificate.build_request(self._pending_key())

    def accept(self, certificate_pem: str, authority_pem: str) -> None:
        """Stores a certificate for the key that it was asked for with. Raises ValueError for any other certificate."""
        content = _encode(self._key_of(certificate_pem.encode()), certificate_pem.encode())
        write_file(self._authority_path, authority_pem.encode())
        write_file(self._credentials_path, content)
        remove_file(self._pending_key_path)

    def accept_membership(self, membership: Membership) -> None:
        """Written last: a node with a membership has everything else."""
        write_file(self._membership_path, json.dumps(asdict(membership)).encode())

    def _pending_key(self) -> bytes:
        from agent import certificate

        if not self._pending_key_path.exists():
            write_file(self._pending_key_path, certificate.make_key())
        return self._pending_key_path.read_bytes()

    def _key_of(self, certificate_pem: bytes) -> bytes:
        from agent import certificate

        keys = [self._pending_key_path.read_bytes()] if self._pending_key_path.exists() else []
        with contextlib.suppress(IdentityMissing):
            keys.append(self.credentials().key_pem)
        for key_pem in keys:
            if certificate.belongs_to(certificate_pem, key_pem):
                return key_pem
        raise ValueError("the certificate is not for a key of this node")


def check_authority(token: str, authority_pem: str) -> None:
    """Raises TokenInvalid unless this is the authority that the token pins, and nothing else."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise TokenInvalid("this is no enrolment token")
    try:
        der = ssl.PEM_cert_to_DER_cert(authority_pem)
    except ValueError:
        raise TokenInvalid("the coordinator's answer holds no certificate") from None
    # Of a PEM text with several certificates `ssl` may decode the first, whereas TLS would trust them all.
    is_alone = ssl.DER_cert_to_PEM_cert(der).split() == authority_pem.split()
    if not is_alone or hashlib.sha256(der).hexdigest() != match.group(2):
        raise TokenInvalid("the token was made by another coordinator, or somebody is between it and this node")


def read_machine_uuid(configured: str, *, sysfs: Path = Path("/sys"), etc: Path = Path("/etc")) -> str:
    """The stable identity of the machine: as configured, else the DMI system UUID, else the machine id."""
    candidates = (sysfs / "class/dmi/id/product_uuid", etc / "machine-id")
    texts = [configured, *(path.read_text() for path in candidates if path.exists())]
    for text in texts:
        digits = text.strip().lower().replace("-", "")
        # Some boards have the same digit everywhere instead of an identity.
        if re.fullmatch(r"[0-9a-f]{32}", digits) and len(set(digits)) > 1:
            return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    raise IdentityMissing("this machine has neither a DMI system UUID nor a machine id: configure machine_uuid")


def now_utc() -> datetime:
    """The present."""
    return datetime.now(UTC)


def _encode(key_pem: bytes, certificate_pem: bytes) -> bytes:
    from agent import certificate

    not_before, not_after = certificate.read_validity(certificate_pem)
    return f"{not_before.isoformat()} {not_after.isoformat()}\n".encode() + key_pem + certificate_pem


def _decode(content: bytes) -> tuple[Validity, bytes, bytes]:
    """Validity, key, and the certificates after it."""
    validity, _, pem = content.partition(b"\n")
    not_before, _, not_after = validity.decode().partition(" ")
    key, end, certificates = pem.partition(_KEY_END)
    if not end:
        raise ValueError("no private key")
    return Validity(datetime.fromisoformat(not_before), datetime.fromisoformat(not_after)), key + end, certificates
