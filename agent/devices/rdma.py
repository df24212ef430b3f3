"""InfiniBand and RoCE: what a network card is beside its interfaces.

Source: the kernel's Documentation/ABI/stable/sysfs-class-infiniband.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent.devices.pci import PciFunction
from agent.facts.sysfs import Sysfs
from protos.agent.v1.host_pb2 import RdmaPort

_INFINIBAND = "InfiniBand"
_ACTIVE = "ACTIVE"


@dataclass(frozen=True)
class RdmaDevice:
    """The RDMA device of one PCI function; without a name the function has none, or its driver is not bound."""

    name: str = ""
    # "b859:9f03:00aa:0001".
    node_guid: str = ""
    firmware: str = ""
    ports: tuple[RdmaPort, ...] = ()

    @property
    def is_infiniband(self) -> bool:
        """Whether it speaks InfiniBand, not Ethernet."""
        return any(port.link_layer == _INFINIBAND for port in self.ports)

    @property
    def is_active(self) -> bool:
        """Whether one of its ports carries data."""
        return any(port.state == _ACTIVE for port in self.ports)


def read_rdma(sysfs: Sysfs, function: PciFunction) -> RdmaDevice:
    """The RDMA device of a PCI function, which has one at most."""
    for name in sysfs.names(f"{function.path}/infiniband"):
        base = f"{function.path}/infiniband/{name}"
        return RdmaDevice(
            name=name,
            node_guid=sysfs.read(f"{base}/node_guid"),
            firmware=sysfs.read(f"{base}/fw_ver"),
            ports=tuple(_read_ports(sysfs, f"{base}/ports")),
        )
    return RdmaDevice()


def _read_ports(sysfs: Sysfs, base: str) -> Iterator[RdmaPort]:
    for number in sorted(int(name) for name in sysfs.names(base) if name.isdecimal()):
        port = f"{base}/{number}"
        yield RdmaPort(
            number=number,
            state=sysfs.read(f"{port}/state").partition(":")[2].strip(),  # "4: ACTIVE"
            link_layer=sysfs.read(f"{port}/link_layer"),
            rate=sysfs.read(f"{port}/rate"),
            gid=sysfs.read(f"{port}/gids/0"),
        )
