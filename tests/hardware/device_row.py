"""The kinds of devices that are given to guests on the node, a row each."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from protos.agent.v1.device_pb2 import HostDevice
from protos.agent.v1.host_pb2 import Device, HostInventory
from tests.hardware.host import NodeHost
from tests.hardware.machine import describe_proof

# After the watcher's own.
_FIRST_BOOT_INDEX: Final = 3


@dataclass(frozen=True)
class DeviceRow:
    """How a device is found, asked for, and seen by the guest that has it."""

    name: str
    kind: str
    # Of its attributes and details.
    known_by: Mapping[str, str]
    # What else is asked for: fields of HostDevice.
    wish: Mapping[str, Any] = field(default_factory=dict)
    # "vvvv:pppp" of the PCI functions that the guest sees.
    functions: tuple[str, ...] = ()
    # What the guest's firmware or watcher reads on it, or off it, when the guest starts.
    disk: str = ""
    address: str = ""
    # It can come and go while the guest runs.
    hot: bool = True
    # What `missing` of the preparation calls it.
    needs: str = ""

    def find(self, host: NodeHost) -> Device:
        """The device of the node as it is now."""
        return self.pick(host.read_inventory())

    def pick(self, inventory: HostInventory) -> Device:
        """The device among all of the node; AssertionError unless there is exactly one."""
        found = [
            device
            for device in inventory.devices
            if device.kind == self.kind and self.known_by.items() <= {**device.details, **device.attributes}.items()
        ]
        assert len(found) == 1, f"{self.name}: {found}"
        return found[0]

    def ask(self, device: Device) -> HostDevice:
        """A wish of its own. The guest's firmware opens those disks only that it could boot from."""
        boot_index = _FIRST_BOOT_INDEX + (ROWS.index(self) if self in ROWS else len(ROWS)) if self.disk else 0
        return HostDevice(device_id=device.id, uuid=str(uuid.uuid4()), boot_index=boot_index, **self.wish)

    @property
    def texts(self) -> tuple[str, ...]:
        """What the guest says that has it at its start."""
        disk = (describe_proof(self.disk),) if self.disk else ()
        return (*disk, f"mac:{self.address}") if self.address else disk


_VF_MAC: Final = "52:54:00:00:06:07"
_MTTY: Final = "4348:3253"

ROWS: Final = (
    DeviceRow("e1000e", "nic", {"product": "10d3"}, functions=("8086:10d3",)),
    DeviceRow(
        "GPU, two functions",
        "gpu",
        {"address": "0000:02:00.0"},
        functions=("1002:5046", "8086:2668"),
        hot=False,
    ),
    DeviceRow("NVMe controller", "disk", {"serial": "NVME0"}, {"native": True}, ("1b36:0010",), "nvme-0"),
    DeviceRow("NVMe disk", "disk", {"serial": "NVME1"}, disk="nvme-1"),
    DeviceRow("SCSI disk", "disk", {"wwn": "0x5000000000000002"}, disk="sas-1"),
    DeviceRow("SCSI disk, commands", "disk", {"wwn": "0x5000000000000003"}, {"native": True}, disk="sas-2"),
    DeviceRow("SATA disk", "disk", {"serial": "SATA0", "media": "hdd"}, disk="sata-hdd"),
    DeviceRow("USB stick", "usb", {"serial": "STICK0"}, disk="stick"),
    DeviceRow("mediated device", "mdev", {"model": "mtty"}, {"vgpu_type_id": "mtty-1"}, (_MTTY,), needs="mdev"),
    DeviceRow("vGPU", "gpu", {"driver": "nvidia"}, {"vgpu_type_id": "nvidia-222"}, (_MTTY,), needs="mdev"),
    DeviceRow(
        "virtual function",
        "vf",
        {"number": "1"},
        {"mac_address": _VF_MAC, "vlan_id": 42},
        ("8086:10ca",),
        address=_VF_MAC,
        needs="igb",
    ),
)
