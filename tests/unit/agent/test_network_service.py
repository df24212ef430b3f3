"""Ports over real gRPC, on libvirt's test driver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from agent.rpc.interceptor import ErrorInterceptor
from agent.rpc.network import NetworkServicer
from protos.agent.v1 import network_pb2, network_pb2_grpc
from protos.agent.v1.network_pb2 import EnsurePortRemovedRequest, EnsurePortRequest, ListPortsRequest
from tests.unit.agent.nat_node import NatNode
from tests.unit.agent.network_builder import SUBNET_ID, a_libvirt


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[NatNode]:
    async with a_libvirt(tmp_path) as connection:
        yield NatNode(connection, tmp_path)


@pytest.fixture
async def stub(node: NatNode, tmp_path: Path) -> AsyncIterator[Any]:
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    network_pb2_grpc.add_NetworkServiceServicer_to_server(NetworkServicer(node.backend), server)
    address = f"unix:{tmp_path}/agent.sock"
    server.add_insecure_port(address)
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        yield network_pb2_grpc.NetworkServiceStub(channel)
    await server.stop(None)


def a_message(**changes: Any) -> network_pb2.Port:
    """A port as the coordinator sends it; changes with "subnet_" are the subnet's."""
    subnet: dict[str, Any] = {
        "subnet_id": SUBNET_ID,
        "cidr": "10.80.0.0/24",
        "gateway_ip": "10.80.0.1",
        "dns_ips": ["10.0.0.53", "10.0.1.53"],
    }
    port: dict[str, Any] = {
        "port_id": "port-1",
        "mac_address": "52:54:00:00:00:01",
        "ip_address": "10.80.0.11",
        "hostname": "web-1",
    }
    for name, value in changes.items():
        (subnet if name in subnet else port)[name] = value
    return network_pb2.Port(subnet=network_pb2.Subnet(**subnet), **port)


async def test_a_port_is_made_listed_and_removed(stub: Any, node: NatNode) -> None:
    assert await stub.EnsurePort(EnsurePortRequest(port=a_message())) == a_message()
    assert await node.hosts() == [("52:54:00:00:00:01", "10.80.0.11", "web-1")]
    assert list((await stub.ListPorts(ListPortsRequest())).ports) == [a_message()]
    for _ in range(2):
        await stub.EnsurePortRemoved(EnsurePortRemovedRequest(port_id="port-1"))
    assert list((await stub.ListPorts(ListPortsRequest())).ports) == []


async def test_a_host_name_is_its_first_label(stub: Any) -> None:
    port = await stub.EnsurePort(EnsurePortRequest(port=a_message(hostname="web-1.example.com")))
    assert port.hostname == "web-1"


@pytest.mark.parametrize("hostname", ["", "a", "A-1", "x" * 63])
async def test_host_names_that_dhcp_can_hand_out_are_taken(stub: Any, hostname: str) -> None:
    assert (await stub.EnsurePort(EnsurePortRequest(port=a_message(hostname=hostname)))).hostname == hostname


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("port_id", "", "port.port_id"),
        ("port_id", "../port", "port.port_id"),
        ("port_id", "p" * 65, "port.port_id"),
        ("subnet_id", "a/b", "port.subnet.subnet_id"),
        ("cidr", "", "port.subnet.cidr"),
        ("cidr", "10.80.0.1/24", "port.subnet.cidr"),
        ("cidr", "10.80.0.0/33", "port.subnet.cidr"),
        ("cidr", "fd00::/64", "port.subnet.cidr"),
        ("gateway_ip", "gateway", "port.subnet.gateway_ip"),
        ("gateway_ip", "10.81.0.1", "gateway_ip"),
        ("dns_ips", ["10.0.0.53", "dns"], "port.subnet.dns_ips"),
        ("mac_address", "52:54:00:00:00", "port.mac_address"),
        ("mac_address", "52:54:00:00:00:0G", "port.mac_address"),
        ("mac_address", "52:54:00:00:00:AA", "port.mac_address"),
        ("mac_address", "53:54:00:00:00:01", "port.mac_address"),
        ("ip_address", "10.80.0.1000", "port.ip_address"),
        ("ip_address", "10.80.0.1", "ip_address"),
        ("hostname", "-web", "port.hostname"),
        ("hostname", "web_1", "port.hostname"),
        ("hostname", "x" * 64, "port.hostname"),
        ("hostname", "web\nhost", "port.hostname"),
    ],
)
async def test_a_field_that_is_wrong_is_named(stub: Any, node: NatNode, field: str, value: Any, named: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.EnsurePort(EnsurePortRequest(port=a_message(**{field: value})))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(caught.value.details()).startswith(f"{named}:")
    assert await node.backend.list_ports() == []


async def test_a_port_to_remove_has_an_id(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="port_id: letters"):
        await stub.EnsurePortRemoved(EnsurePortRemovedRequest())
