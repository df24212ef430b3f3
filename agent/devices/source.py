"""What a device is on this node, for the definition of the guest that has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PciSource:
    """A PCI function with those that travel along; all come to one slot of the guest, as in the node."""

    # "0000:3b:00.0", the function that was asked for first.
    addresses: tuple[str, ...]
    # libvirt binds them to vfio-pci and back; false: their driver stays, as that of a vendor's virtual functions must.
    managed: bool = True


@dataclass(frozen=True)
class NetworkFunctionSource:
    """A virtual function of a network card, whose address and VLAN libvirt sets at each start."""

    address: str
    mac_address: str = ""
    # 0: untagged.
    vlan_id: int = 0
    trusted: bool = False


@dataclass(frozen=True)
class MdevSource:
    """A mediated device that exists."""

    uuid: str
    # "vfio-pci", "vfio-ccw", "vfio-ap": the parent's device API.
    model: str = "vfio-pci"


@dataclass(frozen=True)
class BlockSource:
    """A block device of the node: a whole disk."""

    # A link that follows the disk, below /dev/disk/by-id or by-path.
    path: Path
    # It answers SCSI commands, and the guest may send them.
    scsi_commands: bool = False


@dataclass(frozen=True)
class UsbSource:
    """A USB device where it is plugged now."""

    bus: int
    device: int


DeviceSource = PciSource | NetworkFunctionSource | MdevSource | BlockSource | UsbSource
