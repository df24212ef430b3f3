"""What the agent knows of devices beyond what the node shows: which have failed, are gone, or are on their way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent.devices.base import Surroundings
from agent.devices.fault import Faults
from agent.devices.hostdev import describe_user, name_pci
from agent.devices.journal import DeviceJournal, Entry
from protos.agent.v1.host_pb2 import Device

_WIPING: Final = "being wiped"
_RELEASING: Final = "being given back"
_BESIDE: Final = "was made by a guest that has had its controller: remove it, and make it anew"
_GIVEN_UP: Final = "was given up before it was wiped: release it by force once more"
_GONE: Final = "is gone from the node"


class DeviceStates:
    """Completes what discovery has found."""

    def __init__(self, journal: DeviceJournal, faults: Faults) -> None:
        self._journal = journal
        self._faults = faults

    def complete(self, devices: Sequence[Device], around: Surroundings) -> list[Device]:
        """The same devices, and those that guests have and discovery does not see; in the order of kind and id."""
        known = {device.id: device for device in devices}
        for entry in self._journal.entries():
            device = known.get(entry.device.id)
            if device is None:
                if entry.given_up:
                    continue
                known[entry.device.id] = device = _describe_absent(entry, around)
            if not device.shareable:
                device.withheld_reason = _describe_hold(entry, device)
            for other in devices:
                if entry.must_be_wiped and is_beside(other, entry) and not other.withheld_reason:
                    other.withheld_reason = _BESIDE
        completed = sorted(known.values(), key=lambda device: (device.kind, device.id))
        self._faults.mark([device for device in completed if not device.fault], around.memory)
        return completed


def _describe_hold(entry: Entry, device: Device) -> str:
    """Why nobody else is given it; who has it in libvirt is known already, and is the better answer."""
    if entry.given_up:
        return _GIVEN_UP
    if entry.releasing:
        return _WIPING if entry.must_be_wiped else _RELEASING
    return device.withheld_reason or describe_user(entry.domain_uuid)


def is_beside(disk: Device, entry: Entry) -> bool:
    """Whether a guest that has had a whole NVMe controller has made this disk of it, and may have written to it."""
    addresses = entry.making.addresses if entry.device.kind == "disk" else ()
    return disk.kind == "disk" and disk.id != entry.device.id and disk.details.get("pci_address") in addresses


def _describe_absent(entry: Entry, around: Surroundings) -> Device:
    """Of a device whose controller a guest has, the host sees the controller only; others were pulled, or have died."""
    device = Device()
    device.CopyFrom(entry.device)
    del device.vgpus[:]
    addresses = entry.making.addresses
    if device.kind == "disk" and addresses and all(address in around.pci.functions for address in addresses):
        domain = (around.guests or {}).get(name_pci(addresses[0]))
        device.withheld_reason = describe_user(domain or entry.domain_uuid)
    else:
        device.fault = device.withheld_reason = _GONE
    return device
