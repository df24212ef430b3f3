"""Network interfaces of the node."""

from __future__ import annotations

import socket
from typing import Final

import psutil

from agent.facts.memory import NETWORKS, Memory
from agent.facts.sysfs import Sysfs
from protos.agent.v1.host_pb2 import NetworkInterface

_NETS: Final = "class/net"


def collect_nics(sysfs: Sysfs, memory: Memory | None = None) -> list[NetworkInterface]:
    """Cards and bonds; no bridges, taps and other interfaces that software made."""
    return (memory or Memory()).recall(NETWORKS, "facts", lambda: _collect_nics(sysfs))


def _collect_nics(sysfs: Sysfs) -> list[NetworkInterface]:
    addresses = collect_addresses()
    names = [name for name in sysfs.names(_NETS) if _is_uplink(sysfs, name)]
    return [_collect_nic(sysfs, name, addresses.get(name, [])) for name in names]


def _is_uplink(sysfs: Sysfs, name: str) -> bool:
    base = f"{_NETS}/{name}"
    return sysfs.exists(f"{base}/device") or sysfs.exists(f"{base}/bonding")


def _collect_nic(sysfs: Sysfs, name: str, addresses: list[str]) -> NetworkInterface:
    base = f"{_NETS}/{name}"
    return NetworkInterface(
        name=name,
        mac_address=sysfs.read(f"{base}/address"),
        speed_mbps=sysfs.read_number(f"{base}/speed"),
        link_up=sysfs.read(f"{base}/operstate") == "up",
        mtu_bytes=sysfs.read_number(f"{base}/mtu"),
        addresses=addresses,
    )


def collect_addresses() -> dict[str, list[str]]:
    """Addresses with prefix length, by interface."""
    found: dict[str, list[str]] = {}
    for name, addresses in psutil.net_if_addrs().items():
        found[name] = [
            f"{address.address.split('%')[0]}/{_prefix_length(address.netmask)}"
            for address in addresses
            if address.family in (socket.AF_INET, socket.AF_INET6) and address.netmask
        ]
    return found


def _prefix_length(netmask: str) -> int:
    family = socket.AF_INET6 if ":" in netmask else socket.AF_INET
    return int.from_bytes(socket.inet_pton(family, netmask)).bit_count()
