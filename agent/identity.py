"""Who this node is: its key and certificate, and how it gets and keeps them.

The key and its certificate are in one file, so that they change together. A key that was sent in a request is kept
until the request succeeded: when the answer is lost, the same key asks again, and the coordinator knows it.
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.durable_file import remove_file, write_file

_TOKEN: Final = re.compile(r"(nwe_[A-Za-z0-9_-]{43})\.([0-9a-f]{64})")
_RENEW_AFTER: Final = 2 / 3


class IdentityMissing(Exception):
    """The node has not joined, or its files are damaged."""


class TokenInvalid(Exception):
    """This is no enrolment token, or not one of that coordinator."""


@dataclass(frozen=True)
class Credentials:
    """What TLS needs, as PEM."""

    key_pem: bytes
    certificate_pem: bytes
    authority_pem: bytes


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
            key_pem, certificate_pem = _split(self._credentials_path.read_bytes())
            return Credentials(key_pem, certificate_pem, self._authority_path.read_bytes())
        except (OSError, ValueError) as error:
            raise IdentityMissing(f"this node has no certificate: {error}") from error

    def request_to_join(self) -> str:
        """A PEM certificate request with the node's present key, or the one that is pending, or a new one."""
        try:
            key_pem = self.credentials().key_pem
        except IdentityMissing:
            key_pem = self._pending_key()
        return _build_request(key_pem)

    def request_renewal(self) -> str:
        """A PEM certificate request with the pending key, or a new one."""
        return _build_request(self._pending_key())

    def accept(self, certificate_pem: str, authority_pem: str) -> None:
        """Stores a certificate for the key that it was asked for with. Raises ValueError for any other certificate."""
        key_pem = self._key_of(certificate_pem)
        write_file(self._authority_path, authority_pem.encode())
        write_file(self._credentials_path, key_pem + certificate_pem.encode())
        remove_file(self._pending_key_path)

    def accept_membership(self, membership: Membership) -> None:
        """Written last: a node with a membership has everything else."""
        write_file(self._membership_path, json.dumps(asdict(membership)).encode())

    def _pending_key(self) -> bytes:
        if not self._pending_key_path.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            write_file(self._pending_key_path, _encode_key(key))
        return self._pending_key_path.read_bytes()

    def _key_of(self, certificate_pem: str) -> bytes:
        wanted = _public_bytes(x509.load_pem_x509_certificate(certificate_pem.encode()).public_key())
        for path in (self._pending_key_path, self._credentials_path):
            if path.exists():
                key_pem, _ = _split(path.read_bytes())
                if _public_bytes(_load_key(key_pem).public_key()) == wanted:
                    return key_pem
        raise ValueError("the certificate is not for a key of this node")


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


def read_validity(certificate_pem: bytes) -> Validity:
    """The validity of the first certificate of a PEM text."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    return Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def check_authority(token: str, authority_pem: str) -> None:
    """Raises TokenInvalid unless the token pins this authority."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise TokenInvalid("this is no enrolment token")
    try:
        der = ssl.PEM_cert_to_DER_cert(authority_pem)
    except ValueError:
        raise TokenInvalid("the coordinator's answer holds no certificate") from None
    if hashlib.sha256(der).hexdigest() != match.group(2):
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


def _build_request(key_pem: bytes) -> str:
    # Names are the coordinator's business: it ignores those of a request.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nodewright-agent")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(_load_key(key_pem), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def _load_key(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(key_pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an elliptic curve key")  # noqa: TRY004 - a damaged file, not a wrong type
    return key


def _encode_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public_bytes(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("not an elliptic curve key")  # noqa: TRY004 - a certificate of a stranger, not a wrong type
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _split(pem: bytes) -> tuple[bytes, bytes]:
    """The key, and the certificates after it."""
    end = b"-----END PRIVATE KEY-----\n"
    key, found, rest = pem.partition(end)
    if not found:
        raise ValueError("no private key")
    return key + found, rest
