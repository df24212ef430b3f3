"""The coordinator's certificate authority, and the certificates that it signs.

Who somebody is stands in URIs of the certificate: its role, and for an agent its node. DNS names are only there
because TLS libraries check one.
"""

import hashlib
import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from coordinator.domain.clock import Clock, utc_now
from coordinator.durable_file import write_private
from coordinator.errors import ParameterInvalid

COORDINATOR_NAME: Final = "coordinator.nodewright.internal"
ROLE_URN_PREFIX: Final = "urn:nodewright:role:"
NODE_URN_PREFIX: Final = "urn:nodewright:node:"

AUTHORITY_LIFE: Final = timedelta(days=3650)
LEAF_LIFE: Final = timedelta(days=90)
# Part of a certificate's life after which it is renewed.
RENEWAL_SHARE: Final = 2 / 3
# Clocks of joining machines are not always right.
_BACKDATING: Final = timedelta(hours=1)

_MINIMUM_RSA_BITS: Final = 2048
_KEY_BEGIN: Final = b"-----BEGIN PRIVATE KEY-----"

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class CertificateRole(StrEnum):
    """What the bearer of a certificate is."""

    COORDINATOR = "coordinator"
    AGENT = "agent"
    SCHEDULER = "scheduler"


class AuthorityInvalid(Exception):
    """The files of the authority cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A signed certificate; `key_pem` is empty when the bearer made the key itself."""

    certificate_pem: bytes
    expires_at: datetime
    key_pem: bytes = b""


class Authority:
    """Signs certificates of coordinators, agents and schedulers. Immutable; safe to use from any thread."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, now: Clock = utc_now) -> None:
        self.certificate = certificate
        self._key = key
        self._now = now

    @classmethod
    def open(cls, directory: Path, now: Clock = utc_now) -> "Authority":
        """The authority whose `ca.key` and `ca.crt` lie in `directory`; made on the first call."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        key_path, certificate_path = directory / "ca.key", directory / "ca.crt"
        try:
            # The key comes first: a crash in between leaves no certificate that nobody can sign for.
            if not key_path.exists():
                write_private(key_path, _key_pem(ec.generate_private_key(ec.SECP256R1())))
            key = _load_key(key_path)
            if not certificate_path.exists():
                write_private(certificate_path, _pem(_make_authority(key, now())))
            certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        except ValueError as error:
            raise AuthorityInvalid(f"{directory}: ca.key or ca.crt cannot be read: {error}") from error
        if certificate.public_key() != key.public_key():
            raise AuthorityInvalid(f"{directory}: ca.crt does not belong to ca.key")
        return cls(certificate, key, now)

    @property
    def pem(self) -> bytes:
        """The authority's own certificate."""
        return _pem(self.certificate)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the authority's certificate (DER) in hex: what enrolment tokens pin."""
        return hashlib.sha256(self.certificate.public_bytes(serialization.Encoding.DER)).hexdigest()

    def sign_agent(self, node_id: str, request_pem: bytes) -> IssuedCertificate:
        """A certificate of the node for the key in `request_pem`; names in the request are ignored.

        Raises ParameterInvalid when the request is none, is not signed with its own key or has a weak key.
        """
        names = (
            x509.UniformResourceIdentifier(ROLE_URN_PREFIX + CertificateRole.AGENT),
            x509.UniformResourceIdentifier(NODE_URN_PREFIX + node_id),
            x509.DNSName(agent_name(node_id)),
        )
        return self._sign(node_id, parse_request(request_pem), names)

    def issue_scheduler(self, name: str) -> IssuedCertificate:
        """A certificate and key for another scheduler."""
        return self._issue(name, (x509.UniformResourceIdentifier(ROLE_URN_PREFIX + CertificateRole.SCHEDULER),))

    def issue_coordinator(self, hosts: Sequence[str]) -> IssuedCertificate:
        """A certificate and key for the coordinator, reached under `hosts` (names and addresses)."""
        role = x509.UniformResourceIdentifier(ROLE_URN_PREFIX + CertificateRole.COORDINATOR)
        return self._issue(COORDINATOR_NAME, (role, *_host_names(hosts)))

    def _issue(self, name: str, alternative_names: Sequence[x509.GeneralName]) -> IssuedCertificate:
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self._sign(name, key.public_key(), alternative_names)
        return IssuedCertificate(signed.certificate_pem, signed.expires_at, _key_pem(key))

    def _sign(self, name: str, key: PublicKey, alternative_names: Sequence[x509.GeneralName]) -> IssuedCertificate:
        now = self._now()
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        certificate = (
            _start(name, self.certificate.subject, key, now, LEAF_LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(is_authority=False), critical=True)
            .add_extension(usages, critical=False)
            .add_extension(x509.SubjectAlternativeName(alternative_names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return IssuedCertificate(_pem(certificate), certificate.not_valid_after_utc)


class CoordinatorIdentity:
    """The coordinator's own certificate and key, for all its servers and for calling agents; renewed in time.

    One file holds both, so that a crash never leaves a pair that does not match.
    """

    def __init__(self, authority: Authority, directory: Path, hosts: Sequence[str], now: Clock = utc_now) -> None:
        self._authority = authority
        self._hosts = hosts
        self._now = now
        self.path = directory / "coordinator.pem"
        self._pem = b""
        self.renew_when_due()

    @property
    def ca_pem(self) -> bytes:
        return self._authority.pem

    @property
    def cert_pem(self) -> bytes:
        return self._pem.partition(_KEY_BEGIN)[0]

    @property
    def key_pem(self) -> bytes:
        return b"".join(self._pem.partition(_KEY_BEGIN)[1:])

    def renew_when_due(self) -> bool:
        """Makes a new certificate when the present one ages or names other hosts than configured; True when made."""
        if not self._pem and self.path.exists():
            self._pem = self.path.read_bytes()
        if self._pem and not self._is_due():
            return False
        issued = self._authority.issue_coordinator(self._hosts)
        pem = issued.certificate_pem + issued.key_pem
        write_private(self.path, pem)
        self._pem = pem
        return True

    def _is_due(self) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(self._pem)
            certificate.verify_directly_issued_by(self._authority.certificate)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return True
        wanted = set(_host_names(self._hosts))
        known = {name for name in names if not isinstance(name, x509.UniformResourceIdentifier)}
        return wanted != known or self._now() >= renewal_moment(certificate)


def agent_name(node_id: str) -> str:
    """The DNS name under which an agent's certificate is checked, whatever its address is."""
    return f"{node_id}.node.nodewright.internal"


def renewal_moment(certificate: x509.Certificate) -> datetime:
    """When a certificate is to be renewed: at two thirds of its life."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begin + (end - begin) * RENEWAL_SHARE


def parse_request(request_pem: bytes) -> PublicKey:
    """The key of a PKCS#10 request that is signed with it; ParameterInvalid otherwise."""
    try:
        request = x509.load_pem_x509_csr(request_pem)
        key = request.public_key()
        is_signed = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _request_invalid("is no PKCS#10 request in PEM", "不是PEM格式的PKCS#10请求") from error
    if not is_signed:
        raise _request_invalid("is not signed with its own key", "签名无效")
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MINIMUM_RSA_BITS:
        return key
    raise _request_invalid("the key must be EC P-256 or P-384, or RSA of 2048 bits", "密钥须为EC P-256、P-384或RSA")


def hash_public_key(key: PublicKey) -> str:
    """SHA-256 of the key in hex."""
    encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()


def _request_invalid(en: str, zh: str) -> ParameterInvalid:
    return ParameterInvalid("certificateRequestPem", en, zh)


def _make_authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    # The serial number in the name keeps authorities of two clouds apart for tools that look at names only.
    name = f"Nodewright authority {os.urandom(4).hex()}"
    return (
        _start(name, None, key.public_key(), now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(is_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _start(
    name: str, issuer: x509.Name | None, key: PublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Nodewright"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATING)
        .not_valid_after(now + life)
    )


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        # Of no use with keys on elliptic curves, but libvirt refuses certificates without it.
        key_encipherment=not is_authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _host_names(hosts: Iterable[str]) -> tuple[x509.GeneralName, ...]:
    names: dict[x509.GeneralName, None] = {x509.DNSName(COORDINATOR_NAME): None}
    for host in hosts:
        names[_host_name(host)] = None
    return tuple(names)


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the key is not of an elliptic curve")  # noqa: TRY004 (told to the operator as bad content)
    return key


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
