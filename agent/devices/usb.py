"""USB devices, by the port that they are plugged into.

Source: the kernel's Documentation/ABI/stable/sysfs-bus-usb and testing/sysfs-bus-usb; USB-IF,
"Defined Class Codes"; HID 1.11, "4.3 Protocols".
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.devices.base import Surroundings, drop_empty, find_numa_node
from agent.devices.host_need import USB_NAME
from agent.devices.hostdev import describe_user, name_usb_id, name_usb_place
from agent.facts.sysfs import Sysfs
from protos.agent.v1.host_pb2 import Device

_DEVICES: Final = "bus/usb/devices"
_HUB_CLASS: Final = "09"
_HID_CLASS: Final = "03"
_KEYBOARD_OR_MOUSE: Final = frozenset(("01", "02"))


@dataclass(frozen=True)
class _UsbDevice:
    # "1-4.2": the bus, then the ports on the way from its root hub.
    name: str
    # Relative to the root of /sys.
    path: Path
    sysfs: Sysfs

    def read(self, attribute: str) -> str:
        return self.sysfs.read(f"{self.path}/{attribute}")

    @property
    def bus(self) -> int:
        return self.sysfs.read_number(f"{self.path}/busnum")

    @property
    def number(self) -> int:
        return self.sysfs.read_number(f"{self.path}/devnum")

    @property
    def ports(self) -> str:
        return self.name.partition("-")[2]

    @property
    def controller(self) -> Path:
        """What its root hub hangs on."""
        bus = self.name.partition("-")[0]
        return next((above.parent for above in self.path.parents if above.name == f"usb{bus}"), self.path.parent)

    @property
    def interfaces(self) -> list[Path]:
        return [self.path / name for name in self.sysfs.names(str(self.path)) if name.startswith(f"{self.name}:")]


def discover_usb_devices(around: Surroundings) -> Iterator[Device]:
    """Every USB device except hubs, and what people at the host's own screen type and point with."""
    for name in around.sysfs.names(_DEVICES):
        if not USB_NAME.fullmatch(name):
            continue
        known = around.memory.recall(name, "device", functools.partial(_read, name, around))
        if known is not None:
            device = Device()
            device.CopyFrom(known)
            device.withheld_reason = next(_find_obstacles(device, around), "")
            yield device


def _read(name: str, around: Surroundings) -> Device | None:
    """The device, without what withholds it; None: guests get none like that."""
    usb = _UsbDevice(name, around.sysfs.follow(f"{_DEVICES}/{name}"), around.sysfs)
    is_offered = usb.number and usb.read("bDeviceClass") != _HUB_CLASS and not _is_input(usb)
    return _describe(usb, around) if is_offered else None


def find_usb_place(sysfs: Sysfs, device_id: str) -> tuple[int, int] | None:
    """Bus and number, at this moment, of what is plugged in at the port of this Device.id; None: nothing is."""
    usb = _find(sysfs, device_id)
    return (usb.bus, usb.number) if usb else None


def find_usb_name(sysfs: Sysfs, device_id: str) -> str:
    """The kernel's name of the same ("1-4.2"); empty: nothing is plugged in."""
    usb = _find(sysfs, device_id)
    return usb.name if usb else ""


def _find(sysfs: Sysfs, device_id: str) -> _UsbDevice | None:
    for name in sysfs.names(_DEVICES):
        if USB_NAME.fullmatch(name):
            usb = _UsbDevice(name, sysfs.follow(f"{_DEVICES}/{name}"), sysfs)
            if usb.number and _identify(usb) == device_id:
                return usb
    return None


def _is_input(usb: _UsbDevice) -> bool:
    """A keyboard or a mouse; or else nothing but what the kernel takes input from. A licence key may be a HID, too."""
    kinds = [[usb.sysfs.read(f"{path}/bInterface{part}") for part in ("Class", "Protocol")] for path in usb.interfaces]
    human = [protocol for kind, protocol in kinds if kind == _HID_CLASS]
    if _KEYBOARD_OR_MOUSE.intersection(human):
        return True
    return bool(human) and len(human) == len(kinds) and any(_has_input(usb.sysfs, path) for path in usb.interfaces)


def _has_input(sysfs: Sysfs, interface: Path) -> bool:
    """The kernel puts what it takes input from below the HID that the interface is: "0003:0627:0001.0002/input"."""
    return any(sysfs.exists(f"{interface}/{name}/input") for name in sysfs.names(str(interface)) if ":" in name)


def _describe(usb: _UsbDevice, around: Surroundings) -> Device:
    vendor, product = usb.read("idVendor"), usb.read("idProduct")
    udev = around.properties("usb", usb.name)
    details = {
        "name": usb.name,
        "bus": str(usb.bus),
        "port": usb.ports,
        "device": str(usb.number),
        "vendor_name": usb.read("manufacturer") or udev.get("ID_VENDOR_FROM_DATABASE", ""),
        "product_name": usb.read("product") or udev.get("ID_MODEL_FROM_DATABASE", ""),
        "serial": usb.read("serial"),
        "speed_mbps": usb.read("speed"),
    }
    return Device(
        id=_identify(usb),
        kind="usb",
        attributes=drop_empty({"vendor": vendor, "product": product}),
        numa_node=find_numa_node(usb.sysfs, usb.path),
        details=drop_empty(details),
    )


def _identify(usb: _UsbDevice) -> str:
    """By controller and port: buses are numbered as controllers were found, devices as they were plugged.

    A controller has two buses, one for USB 2 and one for USB 3, always in this order.
    """
    names = usb.sysfs.names(str(usb.controller))
    buses = sorted(int(name[3:]) for name in names if name.startswith("usb") and name[3:].isdecimal())
    place = buses.index(usb.bus) if usb.bus in buses else 0
    return f"usb-{usb.controller.name}-{place}-{usb.ports}"


def _find_obstacles(device: Device, around: Surroundings) -> Iterator[str]:
    details, attributes = device.details, device.attributes
    if need := around.needs.get(details["name"]):
        yield need
    if around.guests is None:
        yield "libvirt, which knows the devices of guests, is away"
        return
    for name in (
        name_usb_place(int(details["bus"]), int(details["device"])),
        name_usb_id(attributes.get("vendor", ""), attributes.get("product", "")),
    ):
        if domain := around.guests.get(name):
            yield describe_user(domain)
