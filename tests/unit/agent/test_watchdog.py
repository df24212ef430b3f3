"""The watchdog with real processes: it kills those of highly available guests when the lease is over, and no other."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.watchdog.guest_process import GuestProcess, GuestProcesses
from agent.watchdog.lease import Lease, read_health, write_lease
from agent.watchdog.main import Watchdog
from agent.watchdog.record import FenceRecord
from tests.unit.agent.test_self_fence import Clock

BOOT = "boot-1"
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts processes that look like guests: their names and arguments are what QEMU's would be."""
    processes: list[subprocess.Popen[bytes]] = []
    programs = tmp_path / "programs"
    programs.mkdir()

    def run(guest: str, name: str = "qemu-system-x86_64") -> subprocess.Popen[bytes]:
        program = programs / name
        if not program.exists():
            program.symlink_to(os.path.realpath(sys.executable))
        script = "import sys, time; print(flush=True); time.sleep(600)"
        process = subprocess.Popen([program, "-c", script, "-name", "guest=x", "-uuid", guest], stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()


class Node:
    """A watchdog, what it reads and what it writes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = Clock()
        self.record = FenceRecord(directory / "fenced")
        self.said: list[str] = []
        self.proc = directory / "proc"
        self.proc.symlink_to("/proc")
        self.watchdog = self.start()

    def start(self) -> Watchdog:
        return Watchdog(
            self.directory,
            self.record,
            pid=7,
            boot_id=BOOT,
            clock=self.clock,
            say=self.said.append,
            processes=GuestProcesses(self.proc),
        )

    def lease(self, *guests: str, boot_id: str = BOOT, tolerance: int = 30) -> None:
        write_lease(self.directory, Lease(boot_id, self.clock.now, tolerance, guests))

    def fenced(self) -> list[str]:
        return [guest.uuid for guest in self.record.list()]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def new() -> str:
    return str(uuid.uuid4())


def test_highly_available_guests_end_with_the_lease_and_others_live_on(node: Node, start: Start) -> None:
    ours, twin, foreign = new(), new(), new()
    processes = [start(guest) for guest in (ours, twin, foreign)]
    node.lease(ours, twin)
    node.watchdog.look()
    node.clock.now += 24.9
    node.watchdog.look()
    assert [process.poll() for process in processes] == [None] * 3
    node.clock.now += 0.2
    node.watchdog.look()
    assert [process.wait(60) for process in processes[:2]] == [-9, -9]
    assert processes[2].poll() is None
    assert node.fenced() == sorted([ours, twin])
    assert node.record.list()[0].silent_seconds == pytest.approx(25.1)


def test_a_lease_that_is_renewed_keeps_the_guests(node: Node, start: Start) -> None:
    guest = new()
    process = start(guest)
    for _ in range(10):
        node.lease(guest)
        node.clock.now += 20
        node.watchdog.look()
    assert process.poll() is None
    assert node.fenced() == []


def test_guests_that_come_back_are_killed_until_the_lease_is_renewed(node: Node, start: Start) -> None:
    guest = new()
    node.lease(guest)
    node.clock.now += 30
    for _ in range(3):
        process = start(guest)
        node.watchdog.look()
        assert process.wait(60) == -9
    node.lease(guest)
    process = start(guest)
    node.watchdog.look()
    assert process.poll() is None
    assert [line for line in node.said if "lease" in line] == [
        "the lease is over: no highly available guest may run",
        "the lease is renewed",
    ]


def test_a_watchdog_that_starts_anew_goes_on_with_the_file(node: Node, start: Start) -> None:
    guest = new()
    node.lease(guest)
    node.clock.now += 30
    process = start(guest)
    node.start().look()
    assert process.wait(60) == -9


def test_a_lease_from_before_the_machine_started_says_nothing(node: Node, start: Start) -> None:
    guest = new()
    node.lease(guest, boot_id="boot-0")
    node.clock.now += 1000
    process = start(guest)
    node.watchdog.look()
    assert process.poll() is None
    health = read_health(node.directory)
    assert health is not None
    assert health.tolerance_seconds == 0


@pytest.mark.parametrize("harm", ["remove", "truncate"])
def test_a_lease_that_is_lost_stays_in_force(node: Node, start: Start, harm: str) -> None:
    guest = new()
    node.lease(guest)
    node.watchdog.look()
    if harm == "remove":
        (node.directory / "lease").unlink()
    else:
        (node.directory / "lease").write_text("{")
    node.clock.now += 30
    process = start(guest)
    node.watchdog.look()
    assert process.wait(60) == -9


def test_without_high_availability_nothing_is_killed(node: Node, start: Start) -> None:
    guest = new()
    node.lease(guest, tolerance=0)
    node.clock.now += 1e6
    process = start(guest)
    node.watchdog.look()
    assert process.poll() is None


def test_it_says_that_it_looked_and_by_which_tolerance(node: Node) -> None:
    node.lease(tolerance=120)
    node.clock.now += 3
    node.watchdog.look()
    health = read_health(node.directory)
    assert health is not None
    assert (health.boot_id, health.pid, health.looked_at, health.tolerance_seconds) == (BOOT, 7, 1003.0, 120)


def test_a_full_disk_saves_no_guest(node: Node, start: Start) -> None:
    guests = [new(), new()]
    processes = [start(guest) for guest in guests]
    (node.directory / "fenced").write_text("not a directory")
    node.lease(*guests)
    node.clock.now += 30
    node.watchdog.look()
    assert [process.wait(60) for process in processes] == [-9, -9]
    assert sum("could not be recorded" in line for line in node.said) == 2


def test_only_emulators_are_guests(start: Start) -> None:
    guest = new()
    other = start(guest, name="grep")
    machine = start(guest, name="qemu-kvm")
    assert GuestProcesses().kill({guest}) == [GuestProcess(machine.pid, guest)]
    assert machine.wait(60) == -9
    assert other.poll() is None


def test_who_is_known_is_killed_although_nothing_can_be_read_any_more(start: Start, tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    proc.symlink_to("/proc")
    processes, guest, later, other = GuestProcesses(proc), new(), new(), new()
    known, foreign = start(guest), start(other)
    processes.find({guest, other})
    unknown = start(later)
    proc.unlink()
    proc.mkdir()
    assert processes.kill({guest, later}) == [GuestProcess(known.pid, guest)]
    assert known.wait(60) == -9
    assert (unknown.poll(), foreign.poll()) == (None, None)


def test_a_process_that_has_ended_is_left_alone_whoever_has_its_number_now(start: Start) -> None:
    processes, guest = GuestProcesses(), new()
    gone, running = start(guest), start(guest)
    processes.find({guest})
    gone.kill()
    # Nobody has asked for its end yet.
    os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)
    assert processes.kill({guest}) == [GuestProcess(running.pid, guest)]


def test_guests_are_found_while_the_lease_counts(node: Node, start: Start) -> None:
    guest = new()
    process = start(guest)
    node.lease(guest)
    node.watchdog.look()
    node.proc.unlink()
    node.proc.mkdir()
    node.clock.now += 30
    node.watchdog.look()
    assert process.wait(60) == -9
    assert node.fenced() == [guest]
