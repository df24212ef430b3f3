"""Keys, certificate requests and certificates.

The only module that imports cryptography, which takes 9 MB: a node needs it when it joins and when its certificate is
renewed, and so it is imported there alone.
"""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_key() -> bytes:
    """A new private key as PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def build_request(key_pem: bytes) -> str:
    """A PEM certificate request with this key. Names are the coordinator's business: it ignores those of a request."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nodewright-agent")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(_load_key(key_pem), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def belongs_to(certificate_pem: bytes, key_pem: bytes) -> bool:
    """Whether the certificate was made for the key. Raises ValueError when one of them is none."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    return _public_bytes(certificate.public_key()) == _public_bytes(_load_key(key_pem).public_key())


def read_validity(certificate_pem: bytes) -> tuple[datetime, datetime]:
    """From when and until when the first certificate of a PEM text counts."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def _load_key(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(key_pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an elliptic curve key")  # noqa: TRY004 - a damaged file, not a wrong type
    return key


def _public_bytes(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("not an elliptic curve key")  # noqa: TRY004 - a stranger's certificate, not a wrong type
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
