"""Key pairs of SSH: made, and read from what people paste. No private key is ever stored or logged."""

import base64
import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_public_key,
)

from coordinator.errors import ParameterInvalid

_FIELD: Final = "idRSAPub"
_TYPES: Final = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
)
_RSA_BITS: Final = 3072
_LEAST_RSA_BITS: Final = 2048
_MOST_RSA_BITS: Final = 16384
_MAXIMUM_COMMENT: Final = 255
_MAXIMUM_LENGTH: Final = 8192


class KeyType(StrEnum):
    """What kinds of keys are made."""

    ED25519 = "ed25519"
    RSA = "rsa"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One line of OpenSSH's form, and the MD5 of the key in it, hexadecimal."""

    line: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A new key; `private_file` is in OpenSSH's own form, without a passphrase."""

    public: PublicKey
    private_file: bytes


def make_key_pair(key_type: KeyType) -> KeyPair:
    """A new key pair: Ed25519, or RSA of 3072 bits, which takes some tenths of a second."""
    private: Ed25519PrivateKey | rsa.RSAPrivateKey
    if key_type is KeyType.RSA:
        private = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    else:
        private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return KeyPair(_make_public(public, ""), private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))


def parse_public_key(text: str) -> PublicKey:
    """The key in `text`, checked and in its one form. ParameterInvalid says what is wrong, without showing it."""
    text = text.strip()
    if "PRIVATE KEY" in text:
        raise _refuse("this is a private key: keep it to yourself, and give the .pub file", "这是私钥，请提供公钥文件")
    if len(text) > _MAXIMUM_LENGTH or "\n" in text or "\r" in text:
        raise _refuse(
            f"one key in one line of at most {_MAXIMUM_LENGTH} characters", f"须为一行公钥，最多{_MAXIMUM_LENGTH}个字符"
        )
    key_type, blob, comment = ([*text.split(maxsplit=2), "", "", ""])[:3]
    if key_type not in _TYPES:
        raise _refuse(
            f"begins with one of {', '.join(_TYPES)}, without options before it", f"须以{'、'.join(_TYPES)}之一开头"
        )
    _check_key(f"{key_type} {blob}")
    return _make_public(f"{key_type} {blob}", _normalize_comment(comment))


def _check_key(line: str) -> None:
    try:
        key = load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise _refuse("not a public key of OpenSSH's form", "不是有效的OpenSSH公钥") from None
    if isinstance(key, rsa.RSAPublicKey) and not _LEAST_RSA_BITS <= key.key_size <= _MOST_RSA_BITS:
        raise _refuse(
            f"RSA keys of {_LEAST_RSA_BITS} to {_MOST_RSA_BITS} bits, not {key.key_size}",
            f"RSA密钥长度须为{_LEAST_RSA_BITS}到{_MOST_RSA_BITS}位，当前为{key.key_size}位",
        )
    if not isinstance(key, rsa.RSAPublicKey | Ed25519PublicKey | EllipticCurvePublicKey):
        raise _refuse("not a key of a type that is named", "不支持的密钥类型")


def _normalize_comment(comment: str) -> str:
    comment = re.sub(r"\s+", " ", comment).strip()
    if len(comment) > _MAXIMUM_COMMENT or not comment.isprintable():
        raise _refuse(
            f"a comment of at most {_MAXIMUM_COMMENT} printable characters", f"注释最多{_MAXIMUM_COMMENT}个可打印字符"
        )
    return comment


def _make_public(line: str, comment: str) -> PublicKey:
    raw = base64.b64decode(line.split(" ")[1])
    return PublicKey(f"{line} {comment}".strip(), hashlib.md5(raw, usedforsecurity=False).hexdigest())


def _refuse(en: str, zh: str) -> ParameterInvalid:
    return ParameterInvalid(_FIELD, en, zh)
