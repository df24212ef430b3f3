"""Devices on their way into and out of guests that run: a guest that a test plays, and libvirt's XML of one."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import pytest

from agent.assignment import Assignments, UsbReturn
from agent.configure.host_device import build_device, mark_device, name_alias
from agent.devices.change import DeviceWatch
from agent.devices.plug import find_plug_obstacle
from agent.devices.source import BlockSource, DeviceSource, MdevSource, NetworkFunctionSource, PciSource, UsbSource
from agent.domain_lock import DomainLocks
from agent.domainxml.assignment import AssignedDomain
from agent.errors import DeviceStillAttached, HypervisorUnavailable
from agent.facts.sysfs import Sysfs
from agent.hypervisor.hostdev_change import AssignedGuest, DevicePlugs
from agent.hypervisor.hostdev_edit import PluggedUsb
from protos.agent.v1.device_pb2 import HostDevice
from tests.unit.agent.assigned_device import CARD, DISK, PORT, SECOND_CARD, SOURCES, STICK
from tests.unit.agent.device_provider import AProvider
from tests.unit.agent.guest_builder import GUEST_UUID

_GUEST = """
<domain type='kvm' xmlns:nodewright="https://nodewright.dev/xmlns/domain/1">
  <metadata><nodewright:domain generation="3" ha="yes"/></metadata>
  <os><type machine='pc-q35-7.2'>hvm</type><boot dev='hd'/></os>
  <devices>
    <disk type='file' device='disk'><target dev='vda' bus='virtio'/>
      <address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/></disk>
    <controller type='usb' index='0' model='none'/>
    <controller type='pci' index='0' model='pcie-root'/>
    <controller type='pci' index='1' model='pcie-root-port'>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x01' function='0x0' multifunction='on'/></controller>
    <controller type='pci' index='2' model='pcie-root-port'/>
    <controller type='pci' index='3' model='pcie-root-port'/>
    <unknown special='yes'/>
  </devices>
</domain>
"""


class _Guest:
    """What the agent would do to a running guest; `plugged` is what that has live."""

    def __init__(self, *wishes: HostDevice) -> None:
        self.wishes = wishes
        self.plugged: dict[str, DeviceSource] = {}
        self.steps: list[str] = []
        self.is_active = True
        # How often the guest has been started with the device by the time it is to be forgotten.
        self.restarts = 0
        self.unplugging = asyncio.Event()
        self.may_let_go = asyncio.Event()
        self.may_let_go.set()

    async def read(self, uuid: str) -> AssignedGuest:
        return AssignedGuest(uuid, self.is_active, tuple(self.wishes))

    async def attach(self, _uuid: str, wish: HostDevice, source: DeviceSource) -> None:
        self.steps.append("attach")
        self.plugged[wish.uuid] = source

    async def is_stale(self, _uuid: str, wish: HostDevice, source: DeviceSource) -> bool:
        return wish.uuid in self.plugged and self.plugged[wish.uuid] != source

    async def refresh(self, _uuid: str, devices: Collection[tuple[HostDevice, DeviceSource]]) -> None:
        self.steps.append(f"refresh {len(devices)}")

    async def unplug(self, _uuid: str, device_uuid: str, *, grace_seconds: float) -> None:
        self.unplugging.set()
        await self.may_let_go.wait()
        self.steps.append("unplug")
        self.plugged.pop(device_uuid, None)

    async def forget(self, _uuid: str, device_uuid: str) -> bool:
        self.restarts -= 1
        if self.restarts >= 0:
            return False
        self.wishes = tuple(wish for wish in self.wishes if wish.uuid != device_uuid)
        return True

    async def list_usb(self) -> list[PluggedUsb]:
        found = []
        for wish in self.wishes:
            source = self.plugged.get(wish.uuid)
            place = (source.bus, source.device) if isinstance(source, UsbSource) else None
            found.append(PluggedUsb(GUEST_UUID, wish, place))
        return found


def _assignments(guest: _Guest, provider: AProvider, locks: DomainLocks | None = None) -> Assignments:
    return Assignments(cast("DevicePlugs", guest), provider, locks or DomainLocks())


def _return(guest: _Guest, provider: AProvider, devices: Path) -> UsbReturn:
    plugs = cast("DevicePlugs", guest)
    return UsbReturn(plugs, _assignments(guest, provider), DeviceWatch(), devices=devices)


def _plug_stick(devices: Path, number: int) -> UsbSource:
    (devices / "001").mkdir(exist_ok=True)
    for former in (devices / "001").iterdir():
        former.unlink()
    (devices / "001" / f"{number:03d}").touch()
    return UsbSource(1, number)


async def test_a_stick_that_was_pulled_and_plugged_again_is_its_guests_again(tmp_path: Path) -> None:
    guest, provider = _Guest(STICK), AProvider()
    provider.sources[STICK.uuid] = guest.plugged[STICK.uuid] = _plug_stick(tmp_path, 4)
    usb_return = _return(guest, provider, tmp_path)
    await usb_return.look()
    assert guest.steps == []
    # Pulled: nothing can be done but to wait.
    (tmp_path / "001" / "004").unlink()
    del provider.sources[STICK.uuid]
    await usb_return.look()
    assert guest.steps == []
    provider.sources[STICK.uuid] = _plug_stick(tmp_path, 5)
    await usb_return.look()
    await usb_return.look()
    assert guest.steps == ["unplug", "attach"]
    assert guest.plugged == {STICK.uuid: UsbSource(1, 5)}


async def test_a_stick_that_a_crash_left_between_two_places_is_its_guests_again(tmp_path: Path) -> None:
    guest, provider = _Guest(STICK), AProvider({STICK.uuid: _plug_stick(tmp_path, 5)})
    await _return(guest, provider, tmp_path).look()
    assert guest.steps == ["attach"]


async def test_a_stick_that_was_taken_from_its_guest_does_not_come_back(tmp_path: Path) -> None:
    guest, provider = _Guest(STICK), AProvider({STICK.uuid: _plug_stick(tmp_path, 5)})
    assignments = _assignments(guest, provider)
    await assignments.detach(GUEST_UUID, STICK.uuid, grace_seconds=1)
    await assignments.reattach(GUEST_UUID, STICK)
    assert guest.plugged == {}


async def test_a_full_disk_ends_no_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guest, provider = _Guest(STICK), AProvider()
    provider.sources[STICK.uuid] = _plug_stick(tmp_path, 5)

    async def prepare(*_: object) -> DeviceSource:
        raise OSError(errno.ENOSPC, "No space left on device")

    usb_return = _return(guest, provider, tmp_path)
    with monkeypatch.context() as full:
        full.setattr(provider, "prepare", prepare)
        await usb_return.look()
    assert guest.steps == []
    await usb_return.look()
    assert guest.steps == ["attach"]


async def test_without_libvirt_nobody_looks_for_sticks(tmp_path: Path) -> None:
    guest = _Guest(STICK)

    async def fail() -> list[PluggedUsb]:
        raise HypervisorUnavailable("libvirt is away")

    guest.list_usb = fail  # type: ignore[method-assign]  # the guest of this test alone
    await _return(guest, AProvider(), tmp_path).look()


async def test_changes_of_devices_wake_who_looks_for_sticks(tmp_path: Path) -> None:
    guest, provider, watch = _Guest(STICK), AProvider(), DeviceWatch()
    plugs = cast("DevicePlugs", guest)
    looking = asyncio.create_task(UsbReturn(plugs, _assignments(guest, provider), watch, devices=tmp_path).run())
    await asyncio.sleep(0.05)
    provider.sources[STICK.uuid] = _plug_stick(tmp_path, 9)
    watch.notice()
    async with asyncio.timeout(60):
        while not guest.plugged:
            await asyncio.sleep(0.02)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking


async def test_a_guest_can_be_stopped_while_it_is_asked_to_let_go() -> None:
    guest, locks = _Guest(DISK), DomainLocks()
    assignments = _assignments(guest, AProvider({DISK.uuid: SOURCES[DISK.uuid]}), locks)
    guest.may_let_go.clear()
    detaching = asyncio.create_task(assignments.detach(GUEST_UUID, DISK.uuid, grace_seconds=60))
    await guest.unplugging.wait()
    async with asyncio.timeout(60), locks.of(GUEST_UUID):
        pass
    # But the same device is not plugged in meanwhile.
    attaching = asyncio.create_task(assignments.attach(GUEST_UUID, DISK))
    await asyncio.sleep(0.05)
    assert guest.steps == []
    guest.may_let_go.set()
    await asyncio.gather(detaching, attaching)
    assert guest.steps == ["unplug", "attach"]


async def test_a_guest_that_was_started_anew_in_between_is_asked_again() -> None:
    guest = _Guest(DISK)
    guest.restarts = 2
    await _assignments(guest, AProvider()).detach(GUEST_UUID, DISK.uuid, grace_seconds=60)
    assert guest.steps == ["unplug"] * 3


async def test_a_guest_that_is_started_anew_all_the_time_is_given_up() -> None:
    guest = _Guest(DISK)
    guest.restarts = 10**9
    with pytest.raises(DeviceStillAttached):
        await _assignments(guest, AProvider()).detach(GUEST_UUID, DISK.uuid, grace_seconds=0.1)


async def test_a_guest_that_runs_is_not_made_ready() -> None:
    guest, provider = _Guest(DISK), AProvider({DISK.uuid: SOURCES[DISK.uuid]})
    await _assignments(guest, provider).make_ready(GUEST_UUID)
    assert provider.checked == []
    guest.is_active = False
    await _assignments(guest, provider).make_ready(GUEST_UUID)
    assert provider.checked == [GUEST_UUID]
    assert guest.steps == ["refresh 1"]


def _put(document: AssignedDomain, wish: HostDevice, source: DeviceSource | None = None) -> bool:
    alias = name_alias(wish.uuid)
    built = build_device(wish, source or SOURCES[wish.uuid], document.disks_beside(alias))
    return document.put(alias, mark_device(wish), built)


def test_a_document_is_as_before_when_a_device_has_come_and_gone() -> None:
    document = AssignedDomain(_GUEST)
    before = document.format()
    assert _put(document, PORT)
    assert not _put(document, PORT)
    # Where a device has a place in the boot order there is no order of kinds.
    assert "<boot dev" not in document.format()
    assert document.take(name_alias(PORT.uuid), PORT.uuid)
    assert not document.take(name_alias(PORT.uuid), PORT.uuid)
    assert document.format() == before.replace('<boot dev="hd"/>', "")


def test_a_card_is_put_behind_the_last_free_port_and_the_next_one_before_it() -> None:
    document = AssignedDomain(_GUEST)
    assert document.free_ports() == [1, 3]
    _put(document, CARD)
    assert document.free_ports() == [1]
    _put(document, SECOND_CARD)
    assert document.free_ports() == []
    third = PciSource(("0000:01:00.0", "0000:01:00.1"))
    with pytest.raises(ValueError, match="no PCIe root port"):
        _put(document, HostDevice(uuid=DISK.uuid, device_id="x"), third)


def test_a_device_of_another_shape_is_put_anew() -> None:
    document = AssignedDomain(_GUEST)
    _put(document, CARD)
    assert _put(document, CARD, PciSource(("0000:3b:00.0",)))
    assert len(document.find(name_alias(CARD.uuid))) == 1
    assert document.free_ports() == [1, 3]


def test_a_mark_without_its_namespace_is_what_libvirt_takes() -> None:
    document = AssignedDomain(_GUEST)
    document.put_mark(mark_device(STICK))
    assert document.format_ownership() == (
        f'<domain generation="3" ha="yes"><device uuid="{STICK.uuid}" id="{STICK.device_id}"/></domain>'
    )


@pytest.mark.parametrize(
    ("source", "memory_mib", "words"),
    [
        (PciSource(("0000:3b:00.0",)), 1, ""),
        (PciSource(("0000:3b:00.0",)), 32, "32 MiB of memory"),
        (PciSource(("0000:3b:00.0", "0000:3b:00.1")), 1, "2 functions"),
        (NetworkFunctionSource("0000:3b:00.0"), 1, ""),
        (NetworkFunctionSource("0000:3b:00.0"), 64, "64 MiB of memory"),
        (PciSource(("0000:99:00.0",)), 1, ""),
        (MdevSource(CARD.uuid), 1, ""),
        (BlockSource(Path("/dev/sda")), 1, ""),
        (UsbSource(1, 2), 1, ""),
    ],
)
def test_what_a_running_guest_has_no_room_for_is_known(
    tmp_path: Path, source: Any, memory_mib: int, words: str
) -> None:
    function = tmp_path / "bus/pci/devices/0000:3b:00.0"
    function.mkdir(parents=True)
    size_bytes = memory_mib << 20
    lines = [
        f"0x{0xE0000000:016x} 0x{0xE0000000 + size_bytes - 1:016x} 0x0000000000040200",
        *["0x0000000000000000 0x0000000000000000 0x0000000000000000"] * 6,
    ]
    (function / "resource").write_text("\n".join(lines))
    obstacle = find_plug_obstacle(source, Sysfs(tmp_path))
    assert words in obstacle
    assert bool(obstacle) == bool(words)


async def test_who_takes_a_device_back_waits_for_one_who_gave_plugging_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """libvirt does not give up: the device would be in the guest afterwards."""
    guest, going_on, begun = _Guest(), asyncio.Event(), asyncio.Event()
    assignments = _assignments(guest, AProvider({DISK.uuid: SOURCES[DISK.uuid]}))
    attach = guest.attach

    async def attach_slowly(*arguments: Any) -> None:
        begun.set()
        await going_on.wait()
        await attach(*arguments)

    monkeypatch.setattr(guest, "attach", attach_slowly)
    attaching = asyncio.create_task(assignments.attach(GUEST_UUID, DISK))
    await begun.wait()
    attaching.cancel()
    detaching = asyncio.create_task(assignments.detach(GUEST_UUID, DISK.uuid, grace_seconds=60))
    await asyncio.sleep(0.05)
    assert guest.steps == []
    going_on.set()
    with pytest.raises(asyncio.CancelledError):
        await attaching
    await detaching
    assert guest.steps[:2] == ["attach", "unplug"]
