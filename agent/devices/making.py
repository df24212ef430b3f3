"""Which way each kind of device goes to guests."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from agent.devices.block_maker import BlockMaker
from agent.devices.infiniband_function_maker import InfinibandFunctionMaker
from agent.devices.journal import UUID
from agent.devices.maker import Maker, Tools
from agent.devices.mdev_maker import MdevMaker
from agent.devices.network_function_maker import NetworkFunctionMaker
from agent.devices.pci_maker import PciMaker
from agent.devices.usb_maker import UsbMaker
from agent.devices.vendor_vfio_maker import VendorVfioMaker
from agent.devices.vgpu import VENDOR_VFIO
from agent.errors import DeviceWithheld, RequestInvalid
from protos.agent.v1.device_pb2 import HostDevice
from protos.agent.v1.host_pb2 import Device

_MAKERS: Final[Mapping[str, Callable[[Tools], Maker]]] = {
    "pci": PciMaker,
    "function": NetworkFunctionMaker,
    "infiniband-function": InfinibandFunctionMaker,
    "mdev": MdevMaker,
    "vendor-vfio": VendorVfioMaker,
    "block": BlockMaker,
    "usb": UsbMaker,
}
_MAC_ADDRESS: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_LAST_VLAN: Final = 4094
_WAYS: Final = {"gpu-vf": "pci", "nic": "pci", "infiniband": "pci", "vf": "function", "usb": "usb"}


def build_makers(tools: Tools) -> dict[str, Maker]:
    """One for each way, by its name in the journal."""
    return {way: maker(tools) for way, maker in _MAKERS.items()}


def check_wish(wish: HostDevice) -> None:
    """Raises RequestInvalid, which names the field."""
    if not UUID.fullmatch(wish.uuid):
        raise RequestInvalid(f"device.uuid: {wish.uuid!r} is no UUID in lower case")
    if not wish.device_id:
        raise RequestInvalid("device.device_id: must be given")
    if wish.mac_address and (not _MAC_ADDRESS.fullmatch(wish.mac_address) or int(wish.mac_address[:2], 16) & 1):
        raise RequestInvalid(f"device.mac_address: {wish.mac_address!r} is no address of one interface")
    if wish.vlan_id > _LAST_VLAN:
        raise RequestInvalid(f"device.vlan_id: 0, or 1 to {_LAST_VLAN}")


def choose_way(wish: HostDevice, device: Device) -> str:
    """How the device becomes the guest's. Raises RequestInvalid and DeviceWithheld where that cannot be."""
    _check(wish, device)
    if device.shareable:
        return "vendor-vfio" if device.details.get("vgpu_framework") == VENDOR_VFIO else "mdev"
    if device.kind == "gpu":
        return "pci"
    if device.kind == "disk":
        return "pci" if wish.native and device.attributes.get("interface") == "nvme" else "block"
    if device.kind == "infiniband" and device.details.get("physical_function"):
        return "infiniband-function"
    if way := _WAYS.get(device.kind):
        return way
    raise DeviceWithheld(f"{device.id} is of the kind {device.kind}, which no guest gets")


def _check(wish: HostDevice, device: Device) -> None:
    """Nothing is asked of the device that it has not."""
    types = [one.id for one in device.vgpu_types]
    if device.shareable and not wish.vgpu_type_id:
        raise DeviceWithheld(f"{device.id} is split now: it is given in parts (device.vgpu_type_id), not as a whole")
    if wish.vgpu_type_id and not device.shareable:
        raise DeviceWithheld(f"{device.id} is not split now: no {wish.vgpu_type_id} can be made of it")
    # Of virtual functions no types are told any more when all are in use.
    if wish.vgpu_type_id and types and wish.vgpu_type_id not in types:
        raise DeviceWithheld(f"{device.id} makes {', '.join(types)} now, not {wish.vgpu_type_id}")
    if device.kind != "vf" and (wish.mac_address or wish.vlan_id or wish.trusted):
        raise RequestInvalid("device.mac_address, vlan_id, trusted: only a virtual function of a network card has them")
    if device.kind != "disk" and (wish.native or wish.wipe_on_release):
        raise RequestInvalid("device.native, wipe_on_release: only a disk has them")
