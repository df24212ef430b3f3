"""Whether libvirt locks disks, on a tree of its files; locks are the kernel's own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from agent.disk_lock import SETTING, DiskLocks

LISTENING = "0000000000000000: 00000002 00000000 00010000 0001 01 23456 /run/libvirt/virtlockd-sock"
CONNECTED = "0000000000000000: 00000003 00000000 00000000 0001 03 23457 /run/libvirt/virtlockd-sock"
OTHER = "0000000000000000: 00000002 00000000 00010000 0001 01 23458 /run/libvirt/virtlogd-sock"
NAMELESS = "0000000000000000: 00000003 00000000 00000000 0001 03 23459"
HEADING = "Num       RefCount Protocol Flags    Type St Inode Path"


class Tree:
    """What the node's libvirt is told, and which sockets there are."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for directory in ("etc/libvirt", "proc/net", "run"):
            (root / directory).mkdir(parents=True)
        self.configure(f'user = "root"\n{SETTING}\n')
        self.listen(LISTENING)

    def configure(self, text: str, name: str = "qemu.conf") -> None:
        (self.root / "etc/libvirt" / name).write_text(text)

    def listen(self, *sockets: str) -> None:
        (self.root / "proc/net/unix").write_text("\n".join((HEADING, OTHER, NAMELESS, *sockets)) + "\n")

    def gap(self) -> str:
        found = DiskLocks(self.root).find_gap()
        return f"{found.reason}; {found.remedy}" if found else ""


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_libvirt_that_is_told_to_and_has_its_daemon_locks_disks(tree: Tree) -> None:
    assert tree.gap() == ""


@pytest.mark.parametrize("text", ["", f"#{SETTING}\n", 'lock_manager = "nop"\n', 'relock_manager = "lockd"\n', None])
def test_libvirt_that_is_not_told_to_locks_none(tree: Tree, text: str | None) -> None:
    if text is None:
        (tree.root / "etc/libvirt/qemu.conf").unlink()
    else:
        tree.configure(text)
    assert f"write {SETTING}" in tree.gap()


@pytest.mark.parametrize("text", ["lock_manager='lockd'", '  lock_manager="lockd" # shared'])
def test_settings_are_read_as_libvirt_reads_them(tree: Tree, text: str) -> None:
    tree.configure(text)
    assert tree.gap() == ""


@pytest.mark.parametrize("sockets", [(), (CONNECTED,)])
def test_without_its_daemon_libvirt_starts_no_guest(tree: Tree, sockets: tuple[str, ...]) -> None:
    tree.listen(*sockets)
    assert "start virtlockd.socket" in tree.gap()


def test_where_sockets_cannot_be_listed_nothing_is_taken_for_granted(tree: Tree) -> None:
    (tree.root / "proc/net/unix").unlink()
    assert "virtlockd is away" in tree.gap()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[psutil.Process]:
    """A program by the name of libvirt's daemon."""
    program = tmp_path / "virtqemud"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        yield psutil.Process(process.pid)
        process.kill()


def test_settings_count_from_the_start_of_the_daemon_on(tree: Tree, daemon: psutil.Process) -> None:
    (tree.root / "run/virtqemud.pid").write_text(f"{daemon.pid}\n")
    conf, started_at = tree.root / "etc/libvirt/qemu.conf", daemon.create_time()
    os.utime(conf, (started_at - 5, started_at - 5))
    assert tree.gap() == ""
    os.utime(conf, (started_at + 5, started_at + 5))
    assert "restart virtqemud" in tree.gap()


@pytest.mark.parametrize(
    "text", ["", "not a number", "4194305", f"{os.getpid()}"], ids=["empty", "text", "large", "mine"]
)
def test_files_of_daemons_that_have_ended_tell_nothing(tree: Tree, text: str) -> None:
    (tree.root / "run/libvirtd.pid").write_text(text)
    os.utime(tree.root / "etc/libvirt/qemu.conf", (2**32, 2**32))
    assert tree.gap() == ""


def lock_in_another_process(path: Path, start: int) -> subprocess.Popen[str]:
    """As virtlockd does it."""
    script = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'r+b')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX, 1, int(sys.argv[2]))\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()"
    )
    argv = (sys.executable, "-c", script, str(path), str(start))
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


@pytest.mark.parametrize(("start", "counts"), [(0, True), (1, False), (100, False), (201, False)])
def test_the_lock_of_a_disk_is_told_from_those_of_qemu(tree: Tree, start: int, counts: bool) -> None:
    disk = tree.root / "disk.qcow2"
    disk.write_bytes(b"x" * 512)
    locks = DiskLocks(tree.root)
    assert not locks.is_locked(disk)
    with lock_in_another_process(disk, start) as process:
        assert locks.is_locked(disk) == counts
        # Looking takes nothing away.
        assert locks.is_locked(disk) == counts
        process.kill()
    assert not locks.is_locked(disk)


def test_locks_may_be_kept_in_a_lockspace(tree: Tree) -> None:
    disk, lockspace = tree.root / "disk.qcow2", tree.root / "lockspace"
    disk.touch()
    lockspace.mkdir()
    tree.configure(f'file_lockspace_dir = "{lockspace}"\n', "qemu-lockd.conf")
    assert not DiskLocks(tree.root).is_locked(disk)
    stand_in = lockspace / hashlib.sha256(str(disk).encode()).hexdigest()
    stand_in.touch()
    with lock_in_another_process(stand_in, 0) as process:
        assert DiskLocks(tree.root).is_locked(disk)
        process.kill()
