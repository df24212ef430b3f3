"""Devices of a node as they are asked for, and as they are when they are prepared: one of each kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.devices.source import BlockSource, DeviceSource, MdevSource, NetworkFunctionSource, PciSource, UsbSource
from protos.agent.v1.device_pb2 import HostDevice


def a_device(number: int, device_id: str, **changes: Any) -> HostDevice:
    """One wish; its UUID begins with its number."""
    return HostDevice(**{"uuid": f"{number:08d}-7e64-4a7e-9c60-0e2a4a7a7d50", "device_id": device_id, **changes})


CARD = a_device(1, "0000:3b:00.0")
VGPU = a_device(2, "0000:5e:00.0", vgpu_type_id="nvidia-222")
VENDOR_VGPU = a_device(3, "0000:af:00.0", vgpu_type_id="nvidia-592")
PORT = a_device(4, "0000:18:00.0", mac_address="52:54:00:aa:00:04", vlan_id=42, trusted=True, boot_index=3)
BARE_PORT = a_device(5, "0000:18:00.1")
DISK = a_device(6, "wwn-0x5000c500a1b2c3d4", boot_index=2, wipe_on_release=True)
LUN = a_device(7, "wwn-0x5000c500a1b2c3d5", native=True)
NVME = a_device(8, "serial-S4EWNX0R123456", native=True, boot_index=4)
STICK = a_device(9, "usb-0000:00:14.0-0-4.2")
SECOND_CARD = a_device(10, "0000:d8:00.0")

SOURCES: dict[str, DeviceSource] = {
    CARD.uuid: PciSource(("0000:3b:00.0", "0000:3b:00.1", "0000:3b:00.2")),
    VGPU.uuid: MdevSource(VGPU.uuid),
    VENDOR_VGPU.uuid: PciSource(("0000:af:00.4",), managed=False),
    PORT.uuid: NetworkFunctionSource("0000:18:02.1", PORT.mac_address, 42, trusted=True),
    BARE_PORT.uuid: NetworkFunctionSource("0000:18:02.2"),
    DISK.uuid: BlockSource(Path("/dev/disk/by-id/wwn-0x5000c500a1b2c3d4")),
    LUN.uuid: BlockSource(Path("/dev/disk/by-id/wwn-0x5000c500a1b2c3d5"), scsi_commands=True),
    NVME.uuid: PciSource(("0000:65:00.0",)),
    STICK.uuid: UsbSource(1, 14),
    SECOND_CARD.uuid: PciSource(("0000:d8:00.0", "0000:d8:00.1")),
}
WISHES = [CARD, VGPU, VENDOR_VGPU, PORT, BARE_PORT, DISK, LUN, NVME, STICK, SECOND_CARD]
