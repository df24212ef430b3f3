"""Passwords of guests: only their hashes leave this module."""

import secrets
import string
from typing import Final

from passlib.hash import sha512_crypt

# The default of crypt(3). The hash is checked at each login in the guest: it has to be cheap there too.
_ROUNDS: Final = 5000
_ALPHABET: Final = string.ascii_letters + string.digits
_VNC_LENGTH: Final = 8


def hash_password(password: str) -> str:
    """The crypt(3) hash "$6$…" of `password`; empty when there is no password."""
    return str(sha512_crypt.using(rounds=_ROUNDS).hash(password)) if password else ""


def new_vnc_password() -> str:
    """A random password of eight characters, all that the VNC protocol takes."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_VNC_LENGTH))
