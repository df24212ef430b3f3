"""The watchdog's process with real QEMU on real libvirt: it needs neither an agent nor a libvirtd that answers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.watchdog.lease import Health, Lease, read_clock, read_health, write_lease
from agent.watchdog.record import FenceRecord
from tests.lab.host import Host
from tests.lab.waiting import wait_until

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.xdist_group("agents"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

TOLERANCE = 30
OURS, OTHER = "ours", "other"
UUIDS = {OURS: "1d1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d11", OTHER: "2d1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d12"}
# Several looks of the watchdog.
LOOKS_SECONDS = 2.0
_DOMAIN = """
<domain type="qemu">
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit="MiB">32</memory>
  <os><type arch="x86_64" machine="q35">hvm</type></os>
  <devices><controller type="usb" model="none"/><memballoon model="none"/></devices>
</domain>
"""


class Node:
    """A host with a watchdog and two guests, of which one is highly available."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.run_dir = host.namespace.path("/run/nodewright")
        self.record = FenceRecord(host.directory / "agent/fenced")

    def lease(self, left_seconds: float, boot_id: str = "") -> None:
        """The lease on the guest of ours, which ends then."""
        lease = Lease(boot_id or self.host.boot_id, read_clock(), TOLERANCE, (UUIDS[OURS],))
        renewed_at = lease.renewed_at + left_seconds - (lease.deadline - lease.renewed_at)
        write_lease(self.run_dir, Lease(lease.boot_id, renewed_at, TOLERANCE, lease.guests))

    def pid(self, name: str) -> int:
        """QEMU's process as the host numbers it; 0 when there is none."""
        path = self.host.namespace.path(f"/run/libvirt/qemu/{name}.pid")
        pid = path.read_text().strip() if path.exists() else ""
        return int(pid) if pid and self.host.namespace.path(f"/proc/{pid}/cmdline").exists() else 0

    def runs(self, name: str) -> bool:
        return self.pid(name) > 0

    def health(self) -> Health | None:
        return read_health(self.run_dir)

    def fenced(self) -> list[str]:
        return [guest.uuid for guest in self.record.list()]

    def start_watchdog(self) -> None:
        """It runs and looks."""
        began = read_clock()
        self.host.watchdog.start()
        wait_until(lambda: (health := self.health()) is not None and health.looked_at > began, "the watchdog looks")

    def start_guests(self) -> None:
        for name in UUIDS:
            if self.host.domain_state(name) == "shut off":
                self.host.virsh("start", name, "--paused")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(1, tmp_path_factory.mktemp("watchdog"))
    host.start_libvirt()
    for name, uuid in UUIDS.items():
        (host.directory / f"{name}.xml").write_text(_DOMAIN.format(name=name, uuid=uuid))
        host.virsh("define", f"/var/lib/nodewright/{name}.xml")
    yield host
    host.end()


@pytest.fixture
def node(host: Host) -> Iterator[Node]:
    """Both guests and the watchdog run; the lease is good for an hour."""
    node = Node(host)
    node.run_dir.mkdir(exist_ok=True)
    node.lease(3600)
    node.start_guests()
    for uuid in UUIDS.values():
        node.record.remove(uuid)
    node.start_watchdog()
    yield node
    host.watchdog.kill()


def stays(node: Node) -> bool:
    """Both guests run on for a while."""
    time.sleep(LOOKS_SECONDS)
    return node.runs(OURS) and node.runs(OTHER)


def wait_for_end(node: Node, name: str = OURS) -> None:
    wait_until(lambda: not node.runs(name), f"{name} has ended", timeout_seconds=60)


def test_the_guest_ends_with_its_lease_and_the_other_runs_on(node: Node) -> None:
    pid = node.pid(OTHER)
    node.lease(LOOKS_SECONDS + 1)
    assert stays(node)
    wait_for_end(node)
    assert node.fenced() == [UUIDS[OURS]]
    assert node.pid(OTHER) == pid
    wait_until(lambda: node.host.domain_state(OURS) == "shut off", "libvirt knows it, too")


def test_a_libvirtd_that_hangs_changes_nothing(node: Node) -> None:
    node.host.libvirtd.pause()
    try:
        node.lease(0)
        # Nobody reaps it for as long as libvirtd stands still, unless QEMU belongs to another parent.
        wait_until(lambda: node.fenced() == [UUIDS[OURS]], "the guest is killed", timeout_seconds=60)
        cmdline = node.host.namespace.path(f"/proc/{node.pid(OURS)}/cmdline") if node.runs(OURS) else None
        assert cmdline is None or cmdline.read_bytes() == b""
        assert node.runs(OTHER)
    finally:
        node.host.libvirtd.resume()


def test_a_guest_that_somebody_starts_again_is_ended_again(node: Node) -> None:
    node.lease(0)
    wait_for_end(node)
    wait_until(lambda: node.host.domain_state(OURS) == "shut off", "libvirt knows it, too")
    for _ in range(2):
        node.host.namespace.run("virsh", "--quiet", "start", OURS, check=False)
        wait_for_end(node)
        wait_until(lambda: node.host.domain_state(OURS) == "shut off", "libvirt knows it, too")
    node.lease(3600)
    time.sleep(1)
    node.start_guests()
    assert stays(node)


def test_a_lease_that_is_renewed_keeps_the_guest(node: Node) -> None:
    for _ in range(4):
        node.lease(1.5)
        time.sleep(0.7)
    node.lease(3600)
    assert stays(node)
    assert node.fenced() == []


def test_a_watchdog_that_was_killed_goes_on_with_the_file(node: Node) -> None:
    node.lease(1)
    node.host.watchdog.kill()
    assert stays(node)
    node.start_watchdog()
    wait_for_end(node)
    assert node.fenced() == [UUIDS[OURS]]


def test_a_lease_of_an_earlier_start_of_the_machine_counts_for_nothing(node: Node) -> None:
    node.host.watchdog.kill()
    node.lease(0, boot_id="an-earlier-one")
    node.start_watchdog()
    assert stays(node)
    health = node.health()
    assert health is not None
    assert health.tolerance_seconds == 0


def test_it_is_small_and_looks_twice_a_second(node: Node) -> None:
    status = Path(f"/proc/{node.host.watchdog.pid}/status").read_text()
    resident_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident_kib < 32 * 1024
    before = node.health()
    time.sleep(LOOKS_SECONDS)
    after = node.health()
    assert before is not None
    assert after is not None
    assert after.looked_at - before.looked_at > 1
