"""What the virtual hardware node is made of, as `prepare` has left it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

_PROGRAM: Final = Path(__file__).parent / "prepare"
_UNAVAILABLE: Final = 75  # EX_TEMPFAIL


class PreparationUnavailable(Exception):
    """Something cannot be downloaded or is not installed; the message is for people."""


@dataclass(frozen=True)
class Preparation:
    """The files of one preparation."""

    directory: Path

    @property
    def kernel(self) -> Path:
        """The kernel of the node."""
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Its initial file system."""
        return self.directory / "initrd"

    @property
    def layer(self) -> Path:
        """What lies over this machine's files inside."""
        return self.directory / "layer"

    @property
    def qemu(self) -> Path:
        """Plays the machine."""
        return self.directory / "qemu"

    @cached_property
    def missing(self) -> dict[str, str]:
        """Why something could not be had, by its name: "igb", "mdev"."""
        lines = (self.directory / "missing").read_text().splitlines()
        return dict(line.split(": ", 1) for line in lines)


def prepare() -> Preparation:
    """Takes a minute the first time. Raises PreparationUnavailable."""
    done = subprocess.run([_PROGRAM], capture_output=True, text=True, check=False)
    if done.returncode == _UNAVAILABLE:
        raise PreparationUnavailable(done.stderr.strip())
    if done.returncode:
        raise AssertionError(f"{_PROGRAM.name} failed: {done.stderr}")
    return Preparation(Path(done.stdout.strip()))
