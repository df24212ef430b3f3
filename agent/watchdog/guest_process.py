"""QEMU processes of guests, found and killed without libvirt, which may hang when it matters."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Collection, Iterator
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


class GuestProcesses:
    """The processes of some guests. Each is held by a descriptor that stands for it and for no later one of its number.

    What a process was started with is read from its memory, for which a process that hangs in the kernel may let one
    wait. So it is read while there is time: whoever is known by then is killed without being looked at.
    """

    def __init__(self, proc: Path = _PROC) -> None:
        self._proc = proc
        self._descriptors: dict[GuestProcess, int] = {}

    def find(self, uuids: Collection[str]) -> None:
        """Gets to know the processes of these guests, those that wait for a migration included."""
        self._forget_ended()
        known = {process.pid for process in self._descriptors}
        for pid in self._list_emulators():
            if pid not in known:
                self._open(pid, uuids)

    def kill(self, uuids: Collection[str]) -> list[GuestProcess]:
        """Sends SIGKILL to all of these guests; answers the processes that got it, once more or for the first time."""
        killed = set(self._kill_known(uuids))
        self.find(uuids)
        return sorted(killed | set(self._kill_known(uuids)), key=lambda process: process.pid)

    def _kill_known(self, uuids: Collection[str]) -> Iterator[GuestProcess]:
        self._forget_ended()
        for process, descriptor in self._descriptors.items():
            if process.uuid in uuids:
                with contextlib.suppress(ProcessLookupError):  # it ends at this moment
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    yield process

    def _forget_ended(self) -> None:
        """A descriptor can be read when its process has ended, buried or not."""
        poll = select.poll()
        processes = {descriptor: process for process, descriptor in self._descriptors.items()}
        for descriptor in processes:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(0):
            del self._descriptors[processes[descriptor]]
            os.close(descriptor)

    def _list_emulators(self) -> list[int]:
        """By their names, which the kernel keeps apart from their memory."""
        found = []
        for entry in self._proc.iterdir():
            if entry.name.isdecimal():
                name = _read(entry / "comm")
                if any(emulator in name for emulator in _EMULATORS):
                    found.append(int(entry.name))
        return found

    def _open(self, pid: int, uuids: Collection[str]) -> None:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        # Read only now: should the number belong to another process by then, the descriptor is of one that has ended.
        uuid = _find_uuid(_read(self._proc / str(pid) / "cmdline"))
        if uuid in uuids:
            self._descriptors[GuestProcess(pid, uuid)] = descriptor
        else:
            os.close(descriptor)


def _find_uuid(command_line: bytes) -> str:
    """The UUID that libvirt started QEMU with; empty for any other process, and for one that has ended."""
    arguments = command_line.split(b"\0")
    try:
        return arguments[arguments.index(b"-uuid") + 1].decode("ascii", "replace").lower()
    except (ValueError, IndexError):
        return ""


def _read(path: Path) -> bytes:
    """Empty when the process is gone."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
