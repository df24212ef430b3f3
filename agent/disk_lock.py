"""Whether libvirt locks the disks of its guests, so that no second QEMU, on any node, runs on a disk that one has.

libvirt's `lockd` driver has virtlockd lock each disk that a running guest may write to: a byte of the file itself, or
of a file that stands for it in a lockspace. Images below disks and disks that are only read are not locked.

Source: https://libvirt.org/kbase/locking-lockd.html
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from agent.storage.shared import are_locked

SETTING: Final = 'lock_manager = "lockd"'

_SOCKET: Final = "/libvirt/virtlockd-sock"
# In /proc/net/unix, of a socket that listens.
_ACCEPTS: Final = "00010000"
# libvirt reads its settings when it starts.
_DAEMONS: Final = ("libvirtd", "virtqemud")
# The kernel tells the time of its own start in whole seconds, and those of processes from there on.
_CLOCK_ERROR_SECONDS: Final = 1.0
# What virtlockd locks of a file.
_RANGES: Final = ((0, 1),)


@dataclass(frozen=True)
class LockGap:
    """Why disks are not locked, and what to do about it."""

    reason: str
    remedy: str


@dataclass(frozen=True)
class DiskLocks:
    """libvirt's locks of disks on this node."""

    root: Path = Path("/")

    def find_gap(self) -> LockGap | None:
        """Why guests that start now get no locks; None: they do. Cheap, and asks no daemon."""
        if _read_setting(self._qemu_conf, "lock_manager") != "lockd":
            remedy = f"write {SETTING} into {self._qemu_conf}, start virtlockd.socket, restart libvirtd"
            return LockGap("libvirt is told to lock no disks", remedy)
        if not self._daemon_listens():
            return LockGap("virtlockd is away, so that no guest starts", "start virtlockd.socket")
        changed_at = self._qemu_conf.stat().st_mtime
        for name, started_at in self._daemons():
            if started_at + _CLOCK_ERROR_SECONDS < changed_at:
                return LockGap(f"{name} was started before {self._qemu_conf} was changed", f"restart {name}")
        return None

    def is_locked(self, disk: Path) -> bool:
        """Whether the file is locked as the disk of a guest, here or on another node. Raises OSError."""
        path = self._lock_file(disk)
        return path.exists() and are_locked(path, _RANGES)

    @property
    def _qemu_conf(self) -> Path:
        return self.root / "etc/libvirt/qemu.conf"

    def _lock_file(self, disk: Path) -> Path:
        lockspace = _read_setting(self.root / "etc/libvirt/qemu-lockd.conf", "file_lockspace_dir")
        return Path(lockspace) / hashlib.sha256(str(disk).encode()).hexdigest() if lockspace else disk

    def _daemon_listens(self) -> bool:
        # Not by a connection: virtlockd logs each that says nothing as an error.
        with contextlib.suppress(OSError):
            for line in (self.root / "proc/net/unix").read_text().splitlines():
                words = line.split()
                if words[3] == _ACCEPTS and words[-1].endswith(_SOCKET):
                    return True
        return False

    def _daemons(self) -> Iterator[tuple[str, float]]:
        """Names and starts (seconds since 1970) of libvirt's daemons that run."""
        for name in _DAEMONS:
            with contextlib.suppress(OSError, ValueError, psutil.Error):
                process = psutil.Process(int((self.root / f"run/{name}.pid").read_text()))
                if process.name() == name:
                    yield name, process.create_time()


def _read_setting(path: Path, name: str) -> str:
    """The text that libvirt's configuration gives to the name; empty when it says nothing."""
    try:
        found = re.search(rf"""^\s*{name}\s*=\s*["']([^"']*)["']""", path.read_text(), re.MULTILINE)
    except OSError:
        return ""
    return found[1] if found else ""
