"""Which of the node's addresses serves which network."""

from collections.abc import Mapping

import pytest

from agent.config import AgentConfig
from agent.errors import NetworkRoleMissing
from agent.identity import Membership
from agent.network.role import NetworkRoles, find_own_address, read_addresses

ADDRESSES: Mapping[str, list[str]] = {
    "lo": ["127.0.0.1", "::1"],
    "bond0": ["10.90.0.11", "2001:db8::11"],
    "bond1": ["10.91.0.11", "10.93.0.11"],
    "down": [],
}


def _roles(**wanted: str) -> NetworkRoles:
    return NetworkRoles(wanted, lambda: "10.90.0.11", read=lambda: ADDRESSES)


@pytest.mark.parametrize(
    ("wanted", "address"),
    [
        ({}, "10.90.0.11"),
        ({"storage": "bond1"}, "10.91.0.11"),
        ({"storage": "10.93.0.0/16"}, "10.93.0.11"),
        ({"storage": "2001:db8::/64"}, "2001:db8::11"),
        ({"manage": "bond1"}, "10.91.0.11"),
    ],
)
def test_a_network_is_an_interface_or_a_range_and_else_that_of_management(wanted: dict[str, str], address: str) -> None:
    assert _roles(**wanted).address("storage") == address


@pytest.mark.parametrize("wanted", ["down", "bond7", "10.99.0.0/24", "nonsense/99"])
def test_a_network_without_an_address_is_named_and_not_told(wanted: str) -> None:
    roles = _roles(storage=wanted)
    with pytest.raises(NetworkRoleMissing, match=f"storage_network: .* {wanted}"):
        roles.address("storage")
    assert roles.addresses() == {"manage": "10.90.0.11", "business": "10.90.0.11"}


def test_a_role_that_nobody_knows_is_refused() -> None:
    with pytest.raises(NetworkRoleMissing, match="backup"):
        _roles().address("backup")


def test_without_a_way_to_the_coordinator_there_is_no_address() -> None:
    def fail() -> str:
        raise OSError("Network is unreachable")

    assert NetworkRoles({}, fail, read=lambda: ADDRESSES).addresses() == {}


@pytest.mark.parametrize(
    ("listen", "address"), [("192.0.2.1:8446", "192.0.2.1"), ("0.0.0.0:8446", "127.0.0.1")], ids=["given", "any"]
)
def test_the_own_address_is_the_one_that_is_listened_on_or_leads_to_the_coordinator(listen: str, address: str) -> None:
    assert find_own_address(AgentConfig(listen=listen), Membership("node-1", "r", "127.0.0.1:8445")) == address


def test_the_addresses_of_this_machine_are_known() -> None:
    assert "127.0.0.1" in read_addresses()["lo"]
