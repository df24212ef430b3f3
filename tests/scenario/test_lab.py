"""The lab's faults do what they say, and are undone: other tests rely on both."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.lab.host import VOLUMES, Host
from tests.lab.lab import Lab
from tests.lab.waiting import wait_until

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.xdist_group("agents"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

NEIGHBOUR = "10.91.0.12"
# A guest without a disk or memory worth mentioning: its firmware finds nothing to boot, and it runs.
DOMAIN = """
<domain type='qemu'>
  <name>idle</name>
  <memory unit='MiB'>16</memory>
  <os><type arch='x86_64'>hvm</type></os>
</domain>
"""
_MEGABYTES = 2
_RECEIVE = """
import socket, sys
with socket.create_server((sys.argv[1], 7000)) as server:
    print("listening", flush=True)
    connection, _ = server.accept()
    with connection:
        while connection.recv(65536):
            pass
        connection.sendall(b"received")
"""
_SEND = """
import socket, sys, time
with socket.create_connection((sys.argv[1], 7000)) as connection:
    begin = time.monotonic()
    connection.sendall(bytes(int(sys.argv[2])))
    connection.shutdown(socket.SHUT_WR)
    assert connection.recv(16) == b"received"
    print(time.monotonic() - begin)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    lab = Lab()
    try:
        lab.add_host(disk_mib=64)
        lab.add_host()
        yield lab
    finally:
        lab.stop()


@pytest.fixture
def host(lab: Lab) -> Iterator[Host]:
    host = lab.hosts[0]
    yield host
    for cable in host.cables.values():
        cable.heal()


@pytest.fixture
def domain(host: Host) -> Iterator[str]:
    (host.directory / "idle.xml").write_text(DOMAIN)
    host.virsh("create", "/var/lib/nodewright/idle.xml")
    yield "idle"
    with suppress(AssertionError):
        host.virsh("destroy", "idle")


def ping(host: Host, address: str = NEIGHBOUR, count: int = 1) -> list[float]:
    """Milliseconds of every answer."""
    pinging = ("busybox", "ping", "-c", str(count), "-A", "-W", "1", address)
    return [float(found) for found in re.findall(r"time=([0-9.]+) ms", host.namespace.run(*pinging, check=False))]


def send(sender: Host, receiver: Host) -> float:
    """Seconds that the megabytes take over TCP on the network for storage."""
    address = f"10.91.0.{10 + receiver.index}"
    argv = (sys.executable, "-c", _RECEIVE, address)
    receiving = subprocess.Popen(receiver.namespace.command(*argv), stdout=subprocess.PIPE, text=True)
    assert receiving.stdout is not None
    assert receiving.stdout.readline()
    seconds = sender.namespace.run(sys.executable, "-c", _SEND, address, str(_MEGABYTES * 1024**2))
    assert receiving.wait(60) == 0
    return float(seconds)


@contextmanager
def ends_well(host: Host) -> Iterator[None]:
    """After the fault the cable is as before."""
    assert len(ping(host)) == 1
    yield
    host.cables["storage"].heal()
    wait_until(lambda: ping(host), "the cable is healed")
    assert min(ping(host, count=5)) < 10


def test_a_cable_that_is_cut_takes_its_network_and_no_other(host: Host) -> None:
    with ends_well(host):
        host.cables["storage"].cut()
        assert ping(host) == []
        assert ping(host, "10.90.0.12")


def test_a_slow_cable_delays_each_way(host: Host) -> None:
    with ends_well(host):
        host.cables["storage"].slow(delay_ms=40)
        ping(host)  # asks for the address first
        assert 80 <= min(ping(host, count=5)) < 120
        assert min(ping(host, "10.90.0.12", count=5)) < 10


def test_a_thin_cable_passes_no_more_than_its_rate_each_way(lab: Lab, host: Host) -> None:
    megabits = _MEGABYTES * 8 * 1.048576
    with ends_well(host):
        for way in ((host, lab.hosts[1]), (lab.hosts[1], host)):
            assert send(*way) < 1
            host.cables["storage"].slow(rate_mbit=16)
            assert megabits / 16 * 0.9 < send(*way) < megabits / 16 * 2
            host.cables["storage"].heal()


def test_a_slow_and_thin_cable_still_carries_everything(lab: Lab, host: Host) -> None:
    with ends_well(host):
        host.cables["storage"].slow(delay_ms=5, rate_mbit=100)
        assert send(host, lab.hosts[1]) < 3
        assert send(lab.hosts[1], host) < 3


def test_a_lossy_cable_loses_what_it_says(host: Host) -> None:
    with ends_well(host):
        host.cables["storage"].lose(percent=30)
        sending = ("busybox", "ping", "-c", "100", "-i", "0.01", "-W", "1", NEIGHBOUR)
        output = host.namespace.run(*sending, check=False)
        (lost,) = re.findall(r"(\d+)% packet loss", output)
        # Of both ways together: 51 %.
        assert 26 < int(lost) < 76, output


def test_a_host_that_is_killed_is_gone_and_comes_back_with_what_its_disk_keeps(lab: Lab, host: Host) -> None:
    (host.directory / "kept.xml").write_text(DOMAIN.replace("idle", "kept"))
    host.virsh("define", "/var/lib/nodewright/kept.xml")
    host.virsh("start", "kept")
    other = lab.hosts[1]
    assert ping(other, "10.91.0.11")
    host.end()
    assert not host.libvirtd.is_running()
    assert ping(other, "10.91.0.11") == []
    lab.boot(host)
    assert host.domain_state("kept") == "shut off"
    wait_until(lambda: ping(other, "10.91.0.11"), "it is on the network")
    host.virsh("undefine", "kept")


def test_a_program_that_stands_still_answers_when_it_goes_on(host: Host) -> None:
    host.process("libvirtd").pause()
    asking = host.namespace.run("timeout", "1", "virsh", "--quiet", "version", check=False)
    host.process("libvirtd").resume()
    assert asking == ""
    assert host.virsh("version")


def test_a_program_that_is_killed_is_started_again(host: Host) -> None:
    host.process("libvirtd").kill()
    assert not host.libvirtd.is_running()
    host.start_libvirtd()
    assert host.virsh("version")


def test_a_guest_stands_still_and_dies(host: Host, domain: str) -> None:
    def state() -> str:
        pid = host.namespace.run("cat", f"/run/libvirt/qemu/{domain}.pid").strip()
        return host.namespace.run("cut", "-d", " ", "-f", "3", f"/proc/{pid}/stat").strip()

    host.process(domain).pause()
    wait_until(lambda: state() == "T", "it stands still")
    host.process(domain).resume()
    wait_until(lambda: state() != "T", "it goes on")
    host.process(domain).kill()
    wait_until(lambda: host.domain_state(domain) == "absent", "libvirt knows that it died")


def test_a_disk_is_full_until_it_is_freed(host: Host) -> None:
    assert host.disk is not None
    before = host.disk.available_bytes()
    host.disk.fill()
    file = VOLUMES / "more"
    writing = ("dd", "if=/dev/zero", f"of={file}", "bs=4096", "count=1")
    with pytest.raises(AssertionError, match="No space left"):
        host.namespace.run(*writing)
    host.disk.free()
    host.namespace.run(*writing)
    host.namespace.run("rm", file)
    assert host.disk.available_bytes() == before
