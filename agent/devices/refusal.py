"""Why a device is not given to a guest, or not taken back: each raises, or answers what was looked for."""

from __future__ import annotations

from collections.abc import Sequence

from agent.devices.base import Surroundings
from agent.devices.hostdev import describe_user
from agent.devices.journal import Entry
from agent.devices.maker import Maker
from agent.devices.state import is_beside
from agent.errors import DeviceBusy, DeviceInUse, DeviceNotFound, DeviceWipeFailed, RequestInvalid
from protos.agent.v1.device_pb2 import HostDevice
from protos.agent.v1.host_pb2 import Device


def find_device(devices: Sequence[Device], device_id: str) -> Device:
    """The device of that id. Raises DeviceNotFound."""
    found = next((device for device in devices if device.id == device_id), None)
    if found is None:
        raise DeviceNotFound(f"the node has no device {device_id}")
    return found


def refuse_releasing(entry: Entry) -> None:
    """Raises DeviceBusy while it is being given back."""
    if entry.releasing:
        raise DeviceBusy(f"{entry.device.id} is being given back by domain {entry.domain_uuid}")


def refuse_used(entry: Entry, maker: Maker, around: Surroundings) -> None:
    """Not even a guest's own device, while it was off, when somebody else has taken it meanwhile."""
    if domain := maker.find_domain(entry, around):
        raise DeviceInUse(f"{entry.device.id} is {describe_user(domain)}")
    for need in maker.find_needs(entry, around):
        raise DeviceInUse(f"{entry.device.id}: {need}")


def check_wipeable(entry: Entry, disks: Sequence[Device]) -> None:
    """Raises DeviceNotFound, DeviceWipeFailed unless one disk, and all that the guest has written to, is there."""
    found = [disk for disk in disks if disk.id == entry.device.id]
    names = ", ".join(disk.details["name"] for disk in found)
    if others := [disk.id for disk in disks if is_beside(disk, entry)]:
        raise DeviceWipeFailed(f"the guest has made other disks of the controller, which it had: {', '.join(others)}")
    if not found:
        raise DeviceNotFound(f"{entry.device.id} is away: it must be wiped as soon as it is back")
    if len(found) > 1:
        raise DeviceWipeFailed(f"{names} have the identity {entry.device.id}: none was touched")
    if not is_same_disk(entry.device, found[0]):
        raise DeviceWipeFailed(f"another disk than before is at {entry.device.id}: it was left alone")


def is_same_disk(before: Device, now: Device) -> bool:
    """What is known by its slot alone may have been exchanged; others grow with the hypervisor's, say."""
    looks = [(disk.size_bytes, disk.attributes.get("model")) for disk in (before, now)]
    return not before.id.startswith("path-") or looks[0] == looks[1]


def check_same(former: Entry, wish: HostDevice) -> None:
    """A UUID names one device for all time."""
    for name in ("device_id", "vgpu_type_id", "native"):
        if getattr(former.wish, name) != getattr(wish, name):
            raise RequestInvalid(f"device.{name}: {wish.uuid} was given with another one")
