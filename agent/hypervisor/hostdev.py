"""Which domains have devices of the node, as libvirt sees it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import libvirt
from lxml import etree

from agent.devices.hostdev import name_mdev, name_pci, name_usb_id, name_usb_place
from agent.hypervisor.connection import Connection
from agent.hypervisor.disk import find_devices


async def find_device_users(connection: Connection, besides: str = "") -> dict[str, str]:
    """Names of the domains that have a device of the node, by its name: whoever made them, running or not.

    `besides`: the UUID of a domain that does not count.

    Block devices are named as the kernel does, others as in agent.devices.hostdev. Raises HypervisorUnavailable.
    """

    def run(handle: libvirt.virConnect) -> dict[str, str]:
        return {
            name: domain.name()
            for domain in handle.listAllDomains()
            if not besides or domain.UUIDString() != besides
            for device in find_devices(domain)
            for source in device.iterfind(".//source")
            for name in _name_devices(device, source)
        }

    return await connection.call(run)


def _name_devices(device: etree._Element, source: etree._Element) -> Iterator[str]:
    """Source: libvirt's formatdomain, "Host device assignment", "Hard drives, floppy disks, CDROMs"."""
    path = source.get("dev") or ""
    if path.startswith("/"):
        yield Path(path).resolve().name
    vendor, product = source.find("vendor"), source.find("product")
    address = source.find("address")
    if vendor is not None and product is not None and address is None:
        yield name_usb_id(*(f"{_number(part, 'id'):04x}" for part in (vendor, product)))
    if address is None:
        return
    if uuid := address.get("uuid"):
        yield name_mdev(uuid)
    elif address.get("slot"):
        place = "{:04x}:{:02x}:{:02x}.{:x}"
        yield name_pci(place.format(*(_number(address, part) for part in ("domain", "bus", "slot", "function"))))
    elif device.get("type") == "usb" and address.get("device"):
        yield name_usb_place(_number(address, "bus"), _number(address, "device"))


def _number(element: etree._Element, name: str) -> int:
    """As libvirt writes it, decimal or hexadecimal."""
    return int(element.get(name) or "0", 0)
