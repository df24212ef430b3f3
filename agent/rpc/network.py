"""NetworkService: ports of guests."""

from __future__ import annotations

from typing import Any

import grpc

from agent.network.base import NetworkBackend, Port, Subnet
from agent.rpc.field import parse_address, parse_cidr, parse_hostname, parse_id, parse_mac_address
from protos.agent.v1 import network_pb2 as messages
from protos.agent.v1 import network_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class NetworkServicer(network_pb2_grpc.NetworkServiceServicer):
    """Ports on the node's virtual networks."""

    def __init__(self, networks: NetworkBackend) -> None:
        self._networks = networks

    async def EnsurePort(self, request: messages.EnsurePortRequest, context: Context) -> messages.Port:
        """The port is real."""
        return _encode_port(await self._networks.ensure_port(_decode_port(request.port)))

    async def EnsurePortRemoved(
        self, request: messages.EnsurePortRemovedRequest, context: Context
    ) -> messages.EnsurePortRemovedResponse:
        """Nothing of the port is left."""
        await self._networks.ensure_port_removed(parse_id(request.port_id, "port_id"))
        return messages.EnsurePortRemovedResponse()

    async def ListPorts(self, request: messages.ListPortsRequest, context: Context) -> messages.ListPortsResponse:
        """All ports."""
        return messages.ListPortsResponse(ports=map(_encode_port, await self._networks.list_ports()))


def _decode_port(port: messages.Port) -> Port:
    return Port(
        port_id=parse_id(port.port_id, "port.port_id"),
        subnet=Subnet(
            subnet_id=parse_id(port.subnet.subnet_id, "port.subnet.subnet_id"),
            cidr=parse_cidr(port.subnet.cidr, "port.subnet.cidr"),
            gateway_ip=parse_address(port.subnet.gateway_ip, "port.subnet.gateway_ip"),
            dns_ips=tuple(parse_address(address, "port.subnet.dns_ips") for address in port.subnet.dns_ips),
        ),
        mac_address=parse_mac_address(port.mac_address, "port.mac_address"),
        ip_address=parse_address(port.ip_address, "port.ip_address"),
        hostname=parse_hostname(port.hostname, "port.hostname"),
    )


def _encode_port(port: Port) -> messages.Port:
    return messages.Port(
        port_id=port.port_id,
        subnet=messages.Subnet(
            subnet_id=port.subnet.subnet_id,
            cidr=str(port.subnet.cidr),
            gateway_ip=str(port.subnet.gateway_ip),
            dns_ips=map(str, port.subnet.dns_ips),
        ),
        mac_address=port.mac_address,
        ip_address=str(port.ip_address),
        hostname=port.hostname,
    )
