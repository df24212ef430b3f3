"""An address is taken back from DHCP: the message byte by byte, and a real dnsmasq that believes it."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from agent.network.dhcp_release import ReleaseRequest, encode_release, send_release
from tests.unit.agent.network_namespace import NetworkNamespace, network_namespaces

BRIDGE = "nw-0a1b2c3d4e5f"
REQUEST = ReleaseRequest("52:54:00:0a:0b:0c", IPv4Address("10.83.0.7"), IPv4Address("10.83.0.1"))
OPTIONS = bytes((99, 130, 83, 99)) + bytes((53, 1, 7)) + bytes((54, 4, 10, 83, 0, 1))


def test_the_message_is_a_release_in_the_name_of_the_guest() -> None:
    message = encode_release(REQUEST)
    assert message[:4] == bytes((1, 1, 6, 0))
    assert message[8:12] == bytes(4)
    assert message[12:28] == bytes((10, 83, 0, 7)) + bytes(12)
    assert message[28:44] == bytes.fromhex("5254000a0b0c") + bytes(10)
    assert message[44:236] == bytes(192)
    assert message[236:] == OPTIONS + b"\xff"


def test_a_guest_that_sent_an_identifier_is_known_by_it() -> None:
    with_id = ReleaseRequest(REQUEST.mac_address, REQUEST.ip_address, REQUEST.server_ip, client_id="ff:00:01")
    assert encode_release(with_id)[236:] == OPTIONS + bytes((61, 3, 0xFF, 0, 1)) + b"\xff"


def test_every_message_has_its_own_number() -> None:
    assert len({encode_release(REQUEST)[4:8] for _ in range(8)}) > 1


def test_a_bridge_that_is_not_there_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match=r".+"):
        send_release(REQUEST, "nw-nobody")


@pytest.fixture
def node() -> Iterator[NetworkNamespace]:
    if shutil.which("dnsmasq") is None:
        pytest.skip("dnsmasq is not installed")
    with network_namespaces(1) as (node,):
        node.ip("link", "add", BRIDGE, "type", "bridge")
        node.bring_up(BRIDGE, "10.83.0.1/24")
        yield node


@pytest.mark.parametrize("client_id", ["", "ff:00:01:02"])
def test_dnsmasq_forgets_the_lease_of_that_guest_alone(tmp_path: Path, node: NetworkNamespace, client_id: str) -> None:
    until = int(time.time()) + 3600
    leases = tmp_path / "leases"
    others = f"{until} 52:54:00:0a:0b:0d 10.83.0.8 * *"
    leases.write_text(f"{until} 52:54:00:0a:0b:0c 10.83.0.7 * {client_id or '*'}\n{others}\n")
    request = ReleaseRequest(REQUEST.mac_address, REQUEST.ip_address, REQUEST.server_ip, client_id)
    with a_dnsmasq(node, leases):
        node.run(lambda: send_release(request, BRIDGE))
        # The file is written anew in place: for a moment it is empty.
        wait_until(lambda: leases.read_text().strip() == others)


@contextmanager
def a_dnsmasq(node: NetworkNamespace, leases: Path) -> Iterator[None]:
    """A DHCP server on the bridge, with the options that libvirt gives it."""
    command = [
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--port=0"),
        *("--log-facility=-", f"--interface={BRIDGE}", "--bind-dynamic", "--except-interface=lo"),
        *("--dhcp-range=10.83.0.1,static", "--dhcp-no-override", "--dhcp-authoritative"),
        *(f"--dhcp-leasefile={leases}", "--dhcp-host=52:54:00:0a:0b:0c,10.83.0.7"),
        *("--dhcp-host=52:54:00:0a:0b:0d,10.83.0.8",),
    ]
    log = leases.with_name("log")
    with log.open("w") as output:
        server = node.run(lambda: subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=output))
        try:
            wait_until(lambda: is_listening(node))
            yield
        finally:
            server.kill()
            server.wait()


def is_listening(node: NetworkNamespace) -> bool:
    """Whether somebody has the port of DHCP servers."""
    return ":0043 " in node.run(lambda: Path("/proc/thread-self/net/udp").read_text())


def wait_until(question: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.01)
