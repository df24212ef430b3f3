"""Ports survive a restart of the agent, and damaged entries are left for a person to see."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.network.journal import PortJournal
from tests.unit.agent.nat_node import OTHER_SUBNET
from tests.unit.agent.network_builder import SUBNET_ID, a_port, a_subnet


def opened(directory: Path) -> PortJournal:
    """The journal as a new agent finds it."""
    journal = PortJournal(directory / "journal/ports")
    journal.prepare()
    return journal


@pytest.fixture
def journal(tmp_path: Path) -> PortJournal:
    return opened(tmp_path)


def test_a_port_comes_back_as_it_was(tmp_path: Path, journal: PortJournal) -> None:
    servers = (IPv4Address("10.0.0.53"), IPv4Address("10.0.1.53"))
    ports = [a_port(1, subnet=a_subnet(dns_ips=servers)), a_port(2, hostname="")]
    for port in ports:
        journal.put(port)
    assert opened(tmp_path).ports() == journal.ports() == ports
    assert opened(tmp_path).find("port-2") == ports[1]


def test_a_port_that_was_removed_does_not_come_back(tmp_path: Path, journal: PortJournal) -> None:
    journal.put(a_port(1))
    journal.remove("port-1")
    journal.remove("port-1")
    assert (journal.find("port-1"), journal.ports()) == (None, [])
    assert opened(tmp_path).ports() == []


def test_the_latest_entry_of_a_port_counts(tmp_path: Path, journal: PortJournal) -> None:
    journal.put(a_port(1))
    journal.put(a_port(1, hostname="db"))
    assert opened(tmp_path).ports() == journal.ports() == [a_port(1, hostname="db")]


def test_ports_are_known_by_subnet(journal: PortJournal) -> None:
    other = a_port(2, subnet=OTHER_SUBNET)
    for port in (a_port(1), other, a_port(3)):
        journal.put(port)
    assert journal.ports_of(SUBNET_ID) == [a_port(1), a_port(3)]
    assert journal.ports_of("snet-none") == []
    assert journal.subnets() == [a_subnet(), OTHER_SUBNET]


def test_of_several_descriptions_of_a_subnet_the_last_counts(journal: PortJournal) -> None:
    moved = a_subnet(gateway_ip=IPv4Address("10.80.0.254"))
    journal.put(a_port(1))
    journal.put(a_port(2, subnet=moved))
    assert journal.subnets() == [moved]


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b"7", b"{}", b'{"subnet": null}', b'{"subnet": {"subnetId": "s", "cidr": "10.0.0.1/24"}}'],
)
def test_a_damaged_entry_is_told_and_left(tmp_path: Path, journal: PortJournal, content: bytes) -> None:
    journal.put(a_port(1))
    damaged = tmp_path / "journal/ports/port-0.json"
    damaged.write_bytes(content)
    with capture_logs() as logs:
        assert opened(tmp_path).ports() == [a_port(1)]
    assert [entry["path"] for entry in logs] == [str(damaged)]
    assert damaged.read_bytes() == content


def test_what_a_crash_left_half_written_is_gone(tmp_path: Path, journal: PortJournal) -> None:
    half = tmp_path / "journal/ports/.new-0a1b2c3d-port-1.json"
    half.write_bytes(b'{"portId": ')
    assert opened(tmp_path).ports() == []
    assert not half.exists()
