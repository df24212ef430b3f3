"""Secrets at rest: encrypted with a key that lies beside the database, never in it."""

import hmac
from pathlib import Path

from cryptography.fernet import Fernet

from coordinator.durable_file import write_private


class SecretKeyInvalid(Exception):
    """The file of the secret key holds none; the message names it."""


class SecretBox:
    """Encrypts short secrets (VNC passwords) for storage."""

    def __init__(self, key: bytes) -> None:
        self._fernet = Fernet(key)
        # Another key for another purpose.
        self._digest_key = hmac.digest(key, b"digest", "sha256")

    @classmethod
    def open(cls, path: Path) -> "SecretBox":
        """The box with the key in `path`, which is made (mode 0600) when it is absent."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_private(path, Fernet.generate_key())
        try:
            return cls(path.read_bytes())
        except ValueError as error:
            raise SecretKeyInvalid(f"{path} holds no secret key: {error}") from error

    def encrypt(self, text: str) -> str:
        return self._fernet.encrypt(text.encode()).decode()

    def new_digest(self) -> hmac.HMAC:
        """An HMAC-SHA256 to be fed: equal for equal texts, and nobody without the key can try texts out."""
        return hmac.new(self._digest_key, digestmod="sha256")

    def decrypt(self, token: str) -> str:
        return self._fernet.decrypt(token.encode()).decode()
