"""Secrets at rest."""

import stat
from pathlib import Path

import pytest

from coordinator.secret import SecretBox, SecretKeyInvalid


def test_secret_is_read_again_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    hidden = SecretBox.open(path).encrypt("vnc-pass")
    assert "vnc-pass" not in hidden
    assert SecretBox.open(path).decrypt(hidden) == "vnc-pass"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_damaged_key_is_told_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    path.write_bytes(b"")
    with pytest.raises(SecretKeyInvalid, match="holds no secret key"):
        SecretBox.open(path)
    assert path.read_bytes() == b""
