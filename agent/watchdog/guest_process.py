"""QEMU processes of guests, found and killed without libvirt, which may hang when it matters."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_EMULATORS: Final = (b"qemu", b"kvm")


@dataclass(frozen=True)
class GuestProcess:
    """A process that runs, or shall receive, a guest."""

    pid: int
    uuid: str


def find_guest_processes(uuids: Collection[str], proc: Path = _PROC) -> list[GuestProcess]:
    """The processes of these guests, those that wait for a migration included."""
    found = []
    for entry in proc.iterdir():
        if entry.name.isdecimal():
            uuid = _read_uuid(entry)
            if uuid is not None and uuid in uuids:
                found.append(GuestProcess(int(entry.name), uuid))
    return found


def kill_guest_process(process: GuestProcess, proc: Path = _PROC) -> bool:
    """Sends SIGKILL to this very process and to no other that got its number; False when it was gone."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        # From here on the descriptor stands for one process: if that is the guest's, nothing else can be hit.
        if _read_uuid(proc / str(process.pid)) != process.uuid:
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _read_uuid(entry: Path) -> str | None:
    """The UUID that libvirt started QEMU with; None for any other process, and for one that has ended."""
    try:
        arguments = (entry / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    if not any(name in os.path.basename(arguments[0]) for name in _EMULATORS):
        return None
    try:
        return arguments[arguments.index(b"-uuid") + 1].decode("ascii", "replace").lower()
    except (ValueError, IndexError):
        return None
