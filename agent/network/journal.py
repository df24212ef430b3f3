"""Which port has which address: libvirt keeps the DHCP entries, but it has no place for the ports' names.

An entry is written before libvirt is changed and removed after it: whatever a crash leaves in libvirt has an entry.
"""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import structlog

from agent.durable_file import is_temporary, remove_file, write_file
from agent.network.base import Port, Subnet

log = structlog.get_logger(__name__)


class PortJournal:
    """Ports by id, one file each, read once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports: dict[str, Port] = {}

    def prepare(self) -> None:
        """The directory exists and its entries are known; a file that is no entry is left for a person to see."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for path in sorted(self._directory.iterdir()):
            if is_temporary(path):
                path.unlink(missing_ok=True)
                continue
            try:
                port = _decode(json.loads(path.read_bytes()))
            except (ValueError, KeyError, TypeError) as error:
                log.warning("port.entry_unreadable", path=str(path), reason=str(error))
                continue
            self._ports[port.port_id] = port

    def find(self, port_id: str) -> Port | None:
        """The entry of a port."""
        return self._ports.get(port_id)

    def ports(self) -> list[Port]:
        """All entries."""
        return list(self._ports.values())

    def ports_of(self, subnet_id: str) -> list[Port]:
        """The entries of one subnet."""
        return [port for port in self._ports.values() if port.subnet.subnet_id == subnet_id]

    def subnets(self) -> list[Subnet]:
        """The subnets of all entries; of several descriptions of one the last that came."""
        return list({port.subnet.subnet_id: port.subnet for port in self._ports.values()}.values())

    def put(self, port: Port) -> None:
        """The port has this entry, durably."""
        write_file(self._path(port.port_id), json.dumps(_encode(port)).encode())
        self._ports[port.port_id] = port

    def remove(self, port_id: str) -> None:
        """The port has no entry. Absence is success."""
        remove_file(self._path(port_id))
        self._ports.pop(port_id, None)

    def _path(self, port_id: str) -> Path:
        return self._directory / f"{port_id}.json"


def _encode(port: Port) -> dict[str, Any]:
    subnet = port.subnet
    return {
        "portId": port.port_id,
        "macAddress": port.mac_address,
        "ipAddress": str(port.ip_address),
        "hostname": port.hostname,
        "subnet": {
            "subnetId": subnet.subnet_id,
            "cidr": str(subnet.cidr),
            "gatewayIp": str(subnet.gateway_ip),
            "dnsIps": [str(address) for address in subnet.dns_ips],
        },
    }


def _decode(entry: dict[str, Any]) -> Port:
    subnet = entry["subnet"]
    return Port(
        port_id=entry["portId"],
        subnet=Subnet(
            subnet_id=subnet["subnetId"],
            cidr=IPv4Network(subnet["cidr"]),
            gateway_ip=IPv4Address(subnet["gatewayIp"]),
            dns_ips=tuple(IPv4Address(address) for address in subnet["dnsIps"]),
        ),
        mac_address=entry["macAddress"],
        ip_address=IPv4Address(entry["ipAddress"]),
        hostname=entry["hostname"],
    )
