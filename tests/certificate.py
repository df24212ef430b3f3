"""Keys and certificate requests as machines make them."""

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class KeyAndRequest:
    """A key and a PKCS#10 request that is signed with it, both PEM."""

    key_pem: bytes
    request_pem: bytes


def a_key_and_request(name: str = "whoever") -> KeyAndRequest:
    """A fresh key; `name` goes into the request's subject."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return KeyAndRequest(key_pem, request.public_bytes(serialization.Encoding.PEM))
