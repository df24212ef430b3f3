"""Mediated devices in libvirt: defined, so that they are there after each start of the node.

Source: libvirt's formatnode, "Node device XML format", "mdev"; needs mdevctl on the node.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Final

import libvirt
from lxml import etree

from agent.errors import HypervisorUnsupported
from agent.hypervisor.connection import Connection

_PCI_ADDRESS: Final = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_SEPARATORS: Final = re.compile(r"[:.]")


class NodeDevices:
    """See agent.devices.maker.MdevDefinitions."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def ensure(self, uuid: str, parent: str, type_id: str) -> None:
        """The device is defined, starts with the node, and exists. Raises HypervisorUnsupported, …"""
        if not _PCI_ADDRESS.fullmatch(parent):
            raise HypervisorUnsupported(f"libvirt knows {parent} by no name")
        xml = build_mdev_xml(uuid, parent, type_id)

        def run(handle: libvirt.virConnect) -> None:
            for device in _find(handle, uuid):  # of another parent, or half made
                _remove(device)
            device = handle.nodeDeviceDefineXML(xml)
            with contextlib.suppress(libvirt.libvirtError):  # what is missing then, the agent makes at its start
                device.setAutostart(1)
            device.create()

        await self._connection.call(run)

    async def ensure_removed(self, uuid: str) -> None:
        """The device does not exist, and is not defined. Absence is success."""

        def run(handle: libvirt.virConnect) -> None:
            for device in _find(handle, uuid):
                _remove(device)

        await self._connection.call(run)


def build_mdev_xml(uuid: str, parent: str, type_id: str) -> str:
    """The definition of a mediated device of a PCI function."""
    device = etree.Element("device")
    etree.SubElement(device, "parent").text = f"pci_{_SEPARATORS.sub('_', parent)}"
    capability = etree.SubElement(device, "capability", type="mdev")
    etree.SubElement(capability, "type", id=type_id)
    etree.SubElement(capability, "uuid").text = uuid
    return etree.tostring(device, encoding="unicode")


def _find(handle: libvirt.virConnect, uuid: str) -> Iterator[libvirt.virNodeDevice]:
    """By the UUID: names of such devices have changed from version to version."""
    for device in handle.listAllDevices(libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV):
        with contextlib.suppress(libvirt.libvirtError):  # it went away meanwhile
            if etree.fromstring(device.XMLDesc()).findtext("capability/uuid") == uuid:
                yield device


def _remove(device: libvirt.virNodeDevice) -> None:
    persistent = device.isPersistent()
    if device.isActive():
        device.destroy()
    if persistent:
        device.undefine()
