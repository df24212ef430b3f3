"""The definition of a subnet's network: as a text, for libvirt's own schema, and by names that cannot be mixed up."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest
from lxml import etree

from agent.domainxml.element import format_document, parse_document
from agent.network.base import Subnet
from agent.network.element import (
    DhcpHost,
    Network,
    build_network,
    describe_host,
    describe_hosts,
    identify_network,
    name_network,
)
from tests.unit.agent.network_builder import NETWORK, SUBNET_ID, a_port, a_subnet

SCHEMA = Path("/usr/share/libvirt/schemas/network.rng")
GOLDEN = Path(__file__).parents[2] / "data/agent/network.xml"
NAME_SERVERS = a_subnet(dns_ips=(IPv4Address("10.0.0.53"), IPv4Address("10.0.1.53")))


def a_network(subnet: Subnet = NAME_SERVERS) -> Network:
    return build_network(subnet, describe_hosts([a_port(1), a_port(2, hostname="")]))


def test_the_definition_is_that_of_the_golden_file() -> None:
    assert format_document(a_network()) == GOLDEN.read_text()


@pytest.mark.parametrize("subnet", [a_subnet(), NAME_SERVERS], ids=["gateway", "name-servers"])
def test_a_definition_is_valid_by_the_schema_of_libvirt(subnet: Subnet) -> None:
    schema = etree.RelaxNG(etree.parse(SCHEMA))
    document = a_network(subnet).format()
    assert schema.validate(document), schema.error_log


def test_what_was_defined_is_read_back() -> None:
    assert parse_document(Network, format_document(a_network())) == a_network()


def test_guests_ask_the_gateway_for_names_unless_there_are_servers() -> None:
    assert build_network(a_subnet(), ()).dnsmasq is None


@pytest.mark.parametrize("inside", ["", "<ip address='10.0.0.1'/>", "<ip><dhcp/></ip>"])
def test_a_network_of_somebody_else_may_serve_nobody(inside: str) -> None:
    assert parse_document(Network, f"<network><name>n</name><uuid>u</uuid>{inside}</network>").hosts == ()


@pytest.mark.parametrize(
    ("subnet_id", "name"),
    [
        (SUBNET_ID, NETWORK),
        ("snet-2J328AU50T3TJWA9ZP12", NETWORK),
        ("snet-abcdefghijkl", "nw-abcdefghijkl"),
        # Too short, or with characters that a bridge's name should not have.
        ("snet-abcdefghijk", "nw-e016eeeb0be9"),
        ("snet_abc_def_ghi_jkl", "nw-"),
        ("", "nw-e3b0c44298fc"),
    ],
)
def test_a_network_has_a_name_that_the_kernel_allows_for_a_bridge(subnet_id: str, name: str) -> None:
    made = name_network(subnet_id)
    assert made.startswith(name)
    assert len(made) == 15
    assert made.removeprefix("nw-").isalnum()


def test_subnets_whose_names_are_cut_alike_are_told_apart() -> None:
    one, two = "snet-aaaaaaaa50t3tjwa9zp12x", "snet-bbbbbbbb50t3tjwa9zp12x"
    assert name_network(one) == name_network(two)
    assert identify_network(one) != identify_network(two)
    assert identify_network(one) == identify_network(one)


def test_a_host_name_is_given_once_whatever_its_case() -> None:
    hosts = describe_hosts([a_port(1, hostname="Web"), a_port(2, hostname="web"), a_port(3, hostname="db")])
    assert [host.name for host in hosts] == ["Web", None, "db"]
    assert describe_host(a_port(4, hostname="DB"), hosts).name is None
    assert describe_host(a_port(4, hostname="DB"), [DhcpHost("52:54:00:00:00:09")]).name == "DB"
