"""Devices of every kind in nested guests, by the agent's services: seen from inside, and given back."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import grpc
import pytest

from protos.agent.v1.device_pb2 import HostDevice
from protos.agent.v1.migration_pb2 import InspectOutgoingRequest
from tests.hardware.device_row import DeviceRow
from tests.hardware.given import Given, Snapshot, ask_for, find_row, prove_all, prove_functions, prove_withheld
from tests.hardware.guest import Guest
from tests.hardware.host import NodeHost
from tests.hardware.machine import SPLIT_WIRE, describe_proof
from tests.hardware.timing import Timings
from tests.hardware.wire import read_vlans
from tests.lab.waiting import wait_until

_FOREIGN: Final = "f0e16000-0000-4000-8000-000000000001"


@pytest.fixture
def guest(host: NodeHost) -> Iterator[Guest]:
    """A guest that has nothing yet."""
    guest = Guest(host)
    yield guest
    guest.remove()


@pytest.fixture
def before(host: NodeHost) -> Snapshot:
    """The node while no guest has anything, with a mediated device that somebody else has made."""
    _make_foreign_device(host)
    return Snapshot(host)


def _make_foreign_device(host: NodeHost) -> None:
    made, parent = "/sys/bus/mdev/devices", "/sys/devices/virtual/mtty/mtty/mdev_supported_types/mtty-1"
    host.node.run(f"[ ! -e {parent} -o -e {made}/{_FOREIGN} ] || echo {_FOREIGN} > {parent}/create")


def test_every_kind_comes_and_goes(host: NodeHost, before: Snapshot, guest: Guest, timings: Timings) -> None:
    given = ask_for(host)
    guest.devices.extend(one.wish for one in given)
    guest.define()
    with timings.measure("all kinds", "start"):
        guest.start()
        prove_all(guest, given)
    prove_withheld(host, given)
    _refuse_others(host, guest, given)
    for one in given:
        if one.wish.mac_address:
            _prove_settings(host, one)
    hot, cold = ([one for one in given if one.row.hot is hot] for hot in (True, False))
    _detach_each(guest, hot, cold, timings)
    for one in hot:
        with timings.measure(one.row.name, "release"):
            guest.release(one.wish)
    _attach_each(guest, hot, cold, timings)
    with timings.measure("all kinds", "back"):
        guest.remove()
        before.wait_until_back(given)


def _refuse_others(host: NodeHost, guest: Guest, given: list[Given]) -> None:
    """What a guest has is nobody else's, nor the node's."""
    with pytest.raises(grpc.RpcError) as caught:
        guest.release()
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    for name in ("e1000e", "SATA disk"):
        (wish,) = [one.wish for one in given if one.row.name == name]
        other = Guest(host, [HostDevice(device_id=wish.device_id, uuid=str(uuid.uuid4()))])
        with pytest.raises(grpc.RpcError) as caught:
            other.define()
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        other.remove()


def _prove_settings(host: NodeHost, one: Given) -> None:
    """The card sets address and VLAN of its virtual function, whatever the guest says: it sends without a tag."""
    device = one.row.find(host)
    told = host.node.run(f"ip link show dev {device.details['physical_interface']}")
    (line,) = [line for line in told.splitlines() if line.strip().startswith(f"vf {device.details['number']} ")]
    assert one.wish.mac_address in line
    assert f"vlan {one.wish.vlan_id}" in line
    recording = host.node.directory / SPLIT_WIRE
    wait_until(lambda: read_vlans(recording, one.wish.mac_address), "the function's frame is on the wire", 30)
    assert read_vlans(recording, one.wish.mac_address) == {one.wish.vlan_id}


def _detach_each(guest: Guest, hot: list[Given], cold: list[Given], timings: Timings) -> None:
    """The guest runs on with those that stay."""
    for one in cold:
        with pytest.raises(grpc.RpcError) as caught:
            guest.detach(one.wish)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION, one.row.name
    for number, one in enumerate(hot):
        with timings.measure(one.row.name, "detach"):
            guest.detach(one.wish)
            prove_functions(guest, [*hot[number + 1 :], *cold], hot[: number + 1])
    guest.reset()
    prove_all(guest, cold, hot)


def _attach_each(guest: Guest, hot: list[Given], cold: list[Given], timings: Timings) -> None:
    """To the guest that runs: PCI functions it sees at once, what firmware reads after it has begun anew."""
    for number, one in enumerate(hot):
        with timings.measure(one.row.name, "attach"):
            guest.attach(one.wish)
            prove_functions(guest, [*hot[: number + 1], *cold])
    starts = guest.count_starts()
    guest.stop()
    _exchange_each(guest, cold, timings)
    with timings.measure("all kinds", "begin anew"):
        guest.start()
        guest.wait_for_start(starts)
        prove_all(guest, [*hot, *cold])


def _exchange_each(guest: Guest, cold: list[Given], timings: Timings) -> None:
    """While the guest is off the host has them for a moment."""
    for one in cold:
        with timings.measure(one.row.name, "detach"):
            guest.detach(one.wish)
        with timings.measure(one.row.name, "release"):
            guest.release(one.wish)
        with timings.measure(one.row.name, "attach"):
            guest.attach(one.wish)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("USB stick", describe_proof("stick")),
        ("NVMe controller", describe_proof("nvme-0")),
        ("e1000e", describe_proof("network")),
    ],
)
def test_boots_from_a_device(host: NodeHost, guest: Guest, timings: Timings, name: str, text: str) -> None:
    """The card by its own firmware, from a server on its wire: its interrupts and its access to memory work."""
    (one,) = ask_for(host, [find_row(name)])
    one.wish.boot_index = 1
    guest.devices.append(one.wish)
    guest.define()
    with timings.measure(name, "boot"):
        guest.start()
        guest.wait_for_text(text)
    assert "watching" not in guest.serial()


def test_a_guest_that_does_not_let_go_keeps_its_device(host: NodeHost, guest: Guest, timings: Timings) -> None:
    """What the firmware has booted here hears of nothing."""
    card, disk = given = [one for name in ("e1000e", "SATA disk") for one in ask_for(host, [find_row(name)])]
    guest.devices.extend(one.wish for one in given)
    disk.wish.boot_index = 1
    guest.define()
    with timings.measure(disk.row.name, "boot"):
        guest.start()
        guest.wait_for_text(describe_proof(disk.row.disk))
    with pytest.raises(grpc.RpcError) as caught:
        guest.detach(card.wish, grace_seconds=3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    prove_withheld(host, given)


def test_qemu_tells_that_a_driver_does_not_move_its_device(host: NodeHost, guest: Guest) -> None:
    """The kernel's sample driver in Debian 12 has no migration: nothing but the device that is open tells that."""
    guest.devices.extend(one.wish for one in ask_for(host, [find_row("mediated device")]))
    if not guest.devices:
        pytest.skip(host.node.preparation.missing["mdev"])
    guest.define()
    guest.start()
    outgoing = host.migrations.InspectOutgoing(InspectOutgoingRequest(uuid=guest.uuid), timeout=60)
    assert [blocker.code for blocker in outgoing.blockers] == ["host-device", "vgpu"]
    assert "migration" in outgoing.blockers[1].detail


def test_wipes_a_disk_before_anybody_else_gets_it(host: NodeHost, guest: Guest, timings: Timings) -> None:
    disk = "/dev/disk/by-id/wwn-0x5000000000000001"
    (one,) = given = ask_for(host, [DeviceRow("wiped disk", "disk", {"wwn": "0x5000000000000001"})])
    one.wish.wipe_on_release = True
    guest.devices.append(one.wish)
    guest.define()
    prove_withheld(host, given)
    with timings.measure("wipe of 64 MiB", "back"):
        guest.remove()
    host.node.run(f"cmp --bytes $((64 << 20)) {disk} /dev/zero")
    assert ask_for(host, [one.row])


def test_a_stick_that_is_plugged_again_is_the_guests_again(host: NodeHost, guest: Guest, timings: Timings) -> None:
    row = DeviceRow("stick that is plugged again", "usb", {"serial": "STICK1"}, disk="stick-plugged")
    host.node.plug_stick()
    host.coordinator.wait_for_inventory(lambda inventory: "STICK1" in str(inventory), "the agent tells of the stick")
    (one,) = given = ask_for(host, [row])
    guest.devices.append(one.wish)
    guest.define()
    guest.start()
    prove_all(guest, given)
    host.node.unplug("stick-plugged")
    host.node.plug_stick()
    with timings.measure(row.name, "again"):
        wait_until(lambda: _has_opened_stick(host, guest), "the guest has the stick again", 60, 0.5)
    guest.reset()
    prove_all(guest, given)
    _prove_no_start_without(host, guest, one)
    guest.remove()
    host.node.unplug("stick-plugged")


def _prove_no_start_without(host: NodeHost, guest: Guest, one: Given) -> None:
    """The guest is off, with the reason, until somebody plugs its stick again."""
    guest.stop()
    host.node.unplug("stick-plugged")
    with pytest.raises(grpc.RpcError, match=f"{one.wish.device_id}: is gone from the node"):
        guest.start()
    host.node.plug_stick()
    wait_until(lambda: one.row.pick(host.read_inventory()).fault == "", "the stick is back", 60, 0.5)
    guest.start()
    prove_all(guest, [one])


def _has_opened_stick(host: NodeHost, guest: Guest) -> bool:
    """QEMU has it open where it is now; of one that is pulled QEMU learns when the guest next speaks with it."""
    script = f"""
    stick=$(dirname "$(grep -l STICK1 /sys/bus/usb/devices/*/serial)")
    printf -v place /dev/bus/usb/%03d/%03d "$(cat "$stick/busnum")" "$(cat "$stick/devnum")"
    readlink /proc/"$(cat /run/libvirt/qemu/{guest.name}.pid)"/fd/* | grep --line-regexp "$place"
    """
    return host.node.run(script, check=False).startswith("/dev/bus/usb/")


def test_a_disk_that_is_pulled_out_of_its_guest_is_gone(
    host: NodeHost, before: Snapshot, guest: Guest, timings: Timings
) -> None:
    """The node's kernel asks QEMU for it, and QEMU the guest."""
    row = _plug_nvme(host, "NVMe pulled in use")
    (one,) = given = ask_for(host, [row])
    guest.devices.append(one.wish)
    guest.define()
    guest.start()
    prove_all(guest, given)
    with timings.measure(row.name, "pulled"):
        host.node.unplug("nvme-plugged")
        prove_functions(guest, (), given)
    _prove_gone(host, before, guest, row)


def test_a_disk_that_is_pulled_while_a_guest_gets_it_is_gone(
    host: NodeHost, before: Snapshot, guest: Guest, timings: Timings
) -> None:
    """Whether the guest has got it for a moment or not."""
    row = _plug_nvme(host, "NVMe pulled while attached")
    (one,) = given = ask_for(host, [row])
    guest.define()
    guest.start()
    # A guest system runs, and will let go of what it is asked for.
    guest.wait_for_function("8086:29c0")
    with ThreadPoolExecutor(1) as pool, timings.measure(row.name, "pulled"):
        attaching = pool.submit(guest.attach, one.wish)
        address = row.pick(host.read_inventory()).details["address"]
        driver = f"readlink /sys/bus/pci/devices/{address}/driver || echo none"
        wait_until(lambda: not host.node.run(driver).strip().endswith("/nvme"), "the host has let go of it", 60, 0.05)
        host.node.unplug("nvme-plugged")
        # Done before, or told why not.
        attaching.exception()
    prove_functions(guest, (), given)
    _prove_gone(host, before, guest, row)


def _plug_nvme(host: NodeHost, name: str) -> DeviceRow:
    host.node.plug_nvme()
    host.coordinator.wait_for_inventory(lambda inventory: "NVMEPLUGGED" in str(inventory), "the agent tells of it")
    return DeviceRow(name, "disk", {"serial": "NVMEPLUGGED"}, {"native": True}, ("1b36:0010",), "nvme-plugged")


def _prove_gone(host: NodeHost, before: Snapshot, guest: Guest, row: DeviceRow) -> None:
    wait_until(lambda: row.pick(host.read_inventory()).fault == "is gone from the node", "it is told", 60, 0.5)
    guest.remove()
    before.wait_until_back(())
    assert "NVMEPLUGGED" not in str(host.read_inventory())


def test_killed_in_the_middle_it_goes_on_or_is_undone(
    host: NodeHost, before: Snapshot, guest: Guest, timings: Timings
) -> None:
    given = [one for one in ask_for(host) if one.row.hot]
    attach, detach, release = (
        [partial(call, one.wish) for one in given] for call in (guest.attach, guest.detach, guest.release)
    )
    # A guest gets a USB controller with the first USB device, and only while it is off.
    guest.devices.extend(one.wish for one in given if one.row.kind == "usb")
    guest.define()
    guest.start()
    # A guest system runs, and will let go of what it is asked for.
    guest.wait_for_function("8086:29c0")
    _interrupt(attach, host.kill_agent)
    host.start_agent()
    with timings.measure("killed agent", "attachment undone"):
        _call_all([*detach, *release])
        before.wait_until_back(given)
    with timings.measure("killed agent", "attached"):
        _interrupt(attach, host.kill_agent)
        host.start_agent()
        _call_all(attach)
    guest.reset()
    prove_all(guest, given)
    with timings.measure("killed agent", "detached"):
        _interrupt(detach, host.kill_agent)
        host.start_agent()
        _call_all(detach)
    with timings.measure("killed agent", "released"):
        _interrupt(release, host.kill_agent)
        host.start_agent()
        _call_all(release)
        before.wait_until_back(given)


def test_after_power_failures_guests_have_their_devices_and_no_others(
    host: NodeHost, before: Snapshot, guest: Guest, timings: Timings
) -> None:
    """One in the middle of attachments, one in the middle of the taking back."""
    given = ask_for(host)
    late = [one for one in given if one.row.hot][::2]
    early = [one for one in given if one not in late]
    guest.devices.extend(one.wish for one in early)
    guest.define()
    guest.start()
    prove_all(guest, early)
    _interrupt([partial(guest.attach, one.wish) for one in late], host.node.end)
    with timings.measure("power failure", "until the agent serves"):
        host.boot()
    _call_all([partial(guest.attach, one.wish) for one in late])
    with timings.measure("power failure", "start"):
        guest.start()
        prove_all(guest, given)
    guest.stop()
    guest.undefine()
    release = [partial(guest.release, one.wish) for one in given]
    _interrupt(release, host.node.end)
    host.boot()
    _make_foreign_device(host)
    _call_all(release)
    before.wait_until_back(given)


def _call_all(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()


def _interrupt(calls: Sequence[Callable[[], None]], end: Callable[[], None]) -> None:
    """Somebody ends the agent, or all of the node, while it does these."""
    with ThreadPoolExecutor(len(calls)) as pool:
        begun = [pool.submit(call) for call in calls]
        wait_until(lambda: any(future.done() for future in begun), "the agent is in the middle of it", 240, 0.02)
        end()
        for future in begun:
            # Cut off, or done before.
            future.exception()
