"""Devices of every kind in nested guests, by the agent's services: seen from inside, and given back."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
import pytest

from protos.agent.v1.device_pb2 import HostDevice
from protos.agent.v1.host_pb2 import Device
from tests.hardware.device_row import ROWS, DeviceRow
from tests.hardware.guest import Guest
from tests.hardware.host import NodeHost
from tests.hardware.machine import describe_proof
from tests.hardware.timing import Timings
from tests.lab.waiting import wait_until

_HOT_ROWS = tuple(row for row in ROWS if row.hot)


@pytest.fixture
def guest(host: NodeHost) -> Iterator[Guest]:
    """A guest that has nothing yet."""
    guest = Guest(host)
    yield guest
    guest.remove()


def _skip_missing(host: NodeHost, row: DeviceRow) -> None:
    if row.needs in host.node.preparation.missing:
        pytest.skip(host.node.preparation.missing[row.needs])


def _read_driver(host: NodeHost, device: Device) -> str:
    """The driver that the host has for the device, or for what the device is on; the same again when it is back."""
    address = device.details.get("pci_address") or device.details.get("address", "")
    path = (
        f"/sys/bus/usb/devices/{device.details['name']}:1.0"
        if device.kind == "usb"
        else f"/sys/bus/pci/devices/{address}"
    )
    return host.node.run(f"basename $(readlink {path}/driver) 2> /dev/null", check=False).strip()


def _is_offered(host: NodeHost, row: DeviceRow) -> bool:
    device = row.find(host)
    return not device.withheld_reason and not device.vgpus


def _wait_until_back(host: NodeHost, row: DeviceRow, driver: str) -> None:
    wait_until(lambda: _is_offered(host, row), f"{row.name} is offered again", 30, 0.5)
    assert _read_driver(host, row.find(host)) == driver


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_gives_a_device_and_takes_it_back(host: NodeHost, guest: Guest, timings: Timings, row: DeviceRow) -> None:
    _skip_missing(host, row)
    device = row.find(host)
    assert device.withheld_reason == ""
    driver, wish = _read_driver(host, device), row.ask(device)
    guest.devices.append(wish)
    with timings.measure(row.name, "start"):
        guest.define()
        guest.start()
        row.prove(guest)
    assert not _is_offered(host, row)
    if row.hot:
        _change_while_running(guest, row, wish, timings)
    else:
        _refuse_while_running(guest, wish)
    with timings.measure(row.name, "back"):
        guest.remove()
        _wait_until_back(host, row, driver)


def _change_while_running(guest: Guest, row: DeviceRow, wish: HostDevice, timings: Timings) -> None:
    with timings.measure(row.name, "detach"):
        guest.detach(wish)
    if row.disk:
        guest.reset()
    row.prove(guest, present=False)
    guest.release(wish)
    with timings.measure(row.name, "attach"):
        guest.attach(wish)
    if row.disk:
        guest.reset()
    row.prove(guest)


def _refuse_while_running(guest: Guest, wish: HostDevice) -> None:
    """It stays as it is."""
    with pytest.raises(grpc.RpcError) as caught:
        guest.detach(wish)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize("name", ["SATA disk", "USB stick", "NVMe controller"])
def test_boots_from_a_device(host: NodeHost, guest: Guest, timings: Timings, name: str) -> None:
    row = next(row for row in ROWS if row.name == name)
    wish = row.ask(row.find(host))
    wish.boot_index = 1
    guest.devices.append(wish)
    guest.define()
    with timings.measure(f"boot from {name}", "start"):
        guest.start()
        guest.wait_for_text(describe_proof(row.disk))
    assert "watching" not in guest.serial()


def test_sets_address_and_vlan_of_a_virtual_function(host: NodeHost, guest: Guest) -> None:
    row = next(row for row in ROWS if row.kind == "vf")
    _skip_missing(host, row)
    device = row.find(host)
    wish = row.ask(device)
    guest.devices.append(wish)
    guest.define()
    guest.start()
    told = host.node.run(f"ip link show dev {device.details['physical_interface']}")
    (line,) = [line for line in told.splitlines() if line.strip().startswith(f"vf {device.details['number']} ")]
    assert wish.mac_address in line
    assert "vlan 42" in line


def test_a_device_of_a_guest_is_nobody_elses(host: NodeHost, guest: Guest) -> None:
    row = ROWS[0]
    guest.devices.append(row.ask(row.find(host)))
    guest.define()
    guest.start()
    with pytest.raises(grpc.RpcError) as caught:
        guest.release(guest.devices[0])
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    other = Guest(host, [row.ask(row.find(host))])
    with pytest.raises(grpc.RpcError) as caught:
        other.define()
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    other.remove()


def test_a_guest_that_does_not_let_go_keeps_its_device(host: NodeHost, guest: Guest) -> None:
    """What the firmware has booted here hears of nothing."""
    card, disk = (next(row for row in ROWS if row.name == name) for name in ("e1000e", "SATA disk"))
    guest.devices.extend((card.ask(card.find(host)), disk.ask(disk.find(host))))
    guest.devices[1].boot_index = 1
    guest.define()
    guest.start()
    guest.wait_for_text(describe_proof(disk.disk))
    with pytest.raises(grpc.RpcError) as caught:
        guest.detach(guest.devices[0], grace_seconds=3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert not _is_offered(host, card)


def test_wipes_a_disk_before_anybody_else_gets_it(host: NodeHost, guest: Guest, timings: Timings) -> None:
    disk = "/dev/disk/by-id/wwn-0x5000000000000001"
    row = DeviceRow("wiped disk", "disk", {"wwn": "0x5000000000000001"})
    device = row.find(host)
    guest.devices.append(HostDevice(device_id=device.id, uuid=str(uuid.uuid4()), wipe_on_release=True))
    guest.define()
    assert not _is_offered(host, row)
    with timings.measure("wipe of 64 MiB", "back"):
        guest.remove()
    host.node.run(f"cmp --bytes {device.size_bytes} {disk} /dev/zero")
    assert _is_offered(host, row)


def test_a_stick_that_is_plugged_again_is_the_guests_again(host: NodeHost, guest: Guest, timings: Timings) -> None:
    row = DeviceRow("stick that is plugged again", "usb", {"serial": "STICK1"}, disk="stick-plugged")
    host.node.plug_stick()
    host.coordinator.wait_for_inventory(lambda inventory: "STICK1" in str(inventory), "the agent tells of the stick")
    wish = row.ask(row.find(host))
    guest.devices.append(wish)
    guest.define()
    guest.start()
    row.prove(guest)
    host.node.unplug("stick-plugged")
    guest.reset()
    row.prove(guest, present=False)
    host.node.plug_stick()
    with timings.measure(row.name, "again"):
        wait_until(lambda: "HARDDRIVE" in _read_usb(host, guest), "the guest has the stick again", 30, 0.5)
    guest.reset()
    row.prove(guest)
    guest.remove()
    host.node.unplug("stick-plugged")


def _read_usb(host: NodeHost, guest: Guest) -> str:
    """The USB devices that QEMU has opened for the guest."""
    return host.node.run(f"virsh qemu-monitor-command {guest.name} --hmp info usb", check=False)


def test_killed_in_the_middle_it_goes_on(host: NodeHost, guest: Guest, timings: Timings) -> None:
    rows = [row for row in _HOT_ROWS if row.needs not in host.node.preparation.missing]
    inventory = host.read_inventory()
    drivers = {row.name: _read_driver(host, row.pick(inventory)) for row in rows}
    wishes = [row.ask(row.pick(inventory)) for row in rows]
    guest.define()
    guest.start()
    guest.wait_for_function("8086:29c0")
    with timings.measure("killed agent", "attach all"):
        _interrupt(host, [partial(guest.attach, wish) for wish in wishes])
    guest.reset()
    _prove_all(guest, rows)
    with timings.measure("killed agent", "detach all"):
        _interrupt(host, [partial(guest.detach, wish) for wish in wishes])
    with timings.measure("killed agent", "release all"):
        _interrupt(host, [partial(guest.release, wish) for wish in wishes])
    for row in rows:
        _wait_until_back(host, row, drivers[row.name])


def _interrupt(host: NodeHost, calls: list[Callable[[], None]]) -> None:
    """The agent is killed while it does these; then it does them all."""
    with ThreadPoolExecutor(len(calls)) as pool:
        begun = [pool.submit(call) for call in calls]
        wait_until(lambda: any(future.done() for future in begun), "the agent is in the middle of it", 60, 0.02)
        host.kill_agent()
        for future in begun:
            # Cut off, or done before.
            future.exception()
    host.start_agent()
    for call in calls:
        call()


def _prove_all(guest: Guest, rows: list[DeviceRow]) -> None:
    identities = [identity for row in rows for identity in row.functions]
    for identity in set(identities):
        guest.wait_for_function(identity, identities.count(identity))
    for row in rows:
        if row.disk:
            guest.wait_for_disk(describe_proof(row.disk))


def test_after_a_reboot_guests_have_their_devices(host: NodeHost, guest: Guest, timings: Timings) -> None:
    rows = [row for row in ROWS if row.needs not in host.node.preparation.missing]
    inventory = host.read_inventory()
    guest.devices.extend(row.ask(row.pick(inventory)) for row in rows)
    guest.define()
    guest.start()
    _prove_all(guest, rows)
    host.node.end()
    with timings.measure("reboot", "until the agent serves"):
        host.boot()
    with timings.measure("reboot", "start"):
        guest.start()
        _prove_all(guest, rows)
