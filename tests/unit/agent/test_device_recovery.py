"""Whatever a crash or a reboot leaves half done is ended, and what others made stays as it is."""

from __future__ import annotations

import asyncio
import errno
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from agent.devices.keeper import DeviceKeeper
from agent.devices.source import MdevSource, PciSource
from agent.errors import DeviceFailed, DeviceFaulty, DeviceInUse, DeviceNotFound, GpuInUse
from agent.hypervisor.connection import Connection
from agent.recovery import DeviceRecovery
from protos.agent.v1.device_pb2 import HostDevice
from tests.unit.agent.device_kernel import (
    A100,
    DEVICE,
    DOMAIN,
    FOREIGN,
    OTHER_DEVICE,
    OTHER_DOMAIN,
    T4,
    VIRTUAL,
    PowerFailure,
    Rig,
    add_a100,
    add_a100_functions,
    add_split_t4,
    list_mdevs,
    read_type,
    reboot,
    set_type,
    wish,
)

_MOST_STEPS = 20
VGPU = wish(T4, vgpu_type_id="nvidia-222")
VENDOR_VGPU = wish(A100, vgpu_type_id="nvidia-471")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def add_whole_t4(rig: Rig) -> None:
    rig.node.add_t4(driver_override="")
    rig.kernel.home_drivers[T4] = "nvidia"


def add_a100_with_foreign_type(rig: Rig) -> None:
    add_a100(rig.node)
    set_type(rig.node, VIRTUAL[0], 472)


def start_whole(rig: Rig) -> None:
    """As libvirt does."""
    rig.node.machine.write(f"bus/pci/devices/{T4}/driver_override", "vfio-pci")
    rig.kernel.bind(T4, "vfio-pci")


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[Rig], None]
    wish: HostDevice
    start: Callable[[Rig], None] = field(default=lambda _rig: None)


CASES = (
    Case("mdev", lambda rig: add_split_t4(rig.node), VGPU),
    Case("vendor-vfio", add_a100_with_foreign_type, VENDOR_VGPU),
    Case("whole", add_whole_t4, wish(T4), start_whole),
)


def describe(rig: Rig) -> dict[str, object]:
    """All that could be left behind."""
    node = rig.node
    return {
        "mdevs": list_mdevs(node),
        "types": [read_type(node, address) for address in VIRTUAL],
        "drivers": {name: node.machine.sysfs.link_name(f"bus/pci/devices/{name}/driver") for name in (T4, A100)},
        "override": node.machine.sysfs.read(f"bus/pci/devices/{T4}/driver_override"),
        "entries": rig.entries(),
    }


def crashes(directory: Path) -> Iterator[Rig]:
    """A node for every step at which the power may fail, before it and after it."""
    for step in range(_MOST_STEPS):
        for moment in ("before", "after"):
            place = directory / f"{moment}-{step}"
            place.mkdir()
            yield Rig(place)


def arm(rig: Rig) -> None:
    moment, _, step = rig.directory.name.partition("-")
    rig.fail_at(**{moment: int(step)})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
class TestEveryStep:
    """The power fails at each write of the journal and of the kernel's attributes."""

    async def test_of_making_and_the_guest_gets_its_device_or_the_node_gets_it_back(
        self, tmp_path: Path, case: Case
    ) -> None:
        failures = 0
        for rig in crashes(tmp_path):
            case.build(rig)
            before = describe(rig)
            arm(rig)
            try:
                source = await rig.keeper.prepare(DOMAIN, case.wish)
            except PowerFailure:
                failures += 1
            else:
                break
            rig.fail_at()
            rig.start()
            await rig.keeper.restore()
            if rig.directory.name.startswith("after"):
                await rig.keeper.prepare(DOMAIN, case.wish)
                await rig.keeper.check_ready(DOMAIN)
            await rig.release()
            assert describe(rig) == before
        assert failures >= 4
        assert source

    async def test_of_giving_back_and_it_is_given_back(self, tmp_path: Path, case: Case) -> None:
        failures = 0
        for rig in crashes(tmp_path):
            case.build(rig)
            before = describe(rig)
            await rig.keeper.prepare(DOMAIN, case.wish)
            case.start(rig)
            arm(rig)
            try:
                await rig.release()
            except PowerFailure:
                failures += 1
            else:
                break
            rig.fail_at()
            rig.start()
            await rig.keeper.restore()
            if rig.directory.name.startswith("after"):
                await rig.release()
            assert describe(rig) == before or rig.directory.name == "before-0"
        assert failures >= 6

    async def test_that_the_call_is_cut_off_changes_nothing(self, rig: Rig, case: Case) -> None:
        case.build(rig)
        before = describe(rig)
        await rig.keeper.prepare(DOMAIN, case.wish)
        steps = rig.keeper.release(DOMAIN)
        await anext(steps)
        await steps.aclose()
        await rig.release()
        assert describe(rig) == before


class TestReboot:
    """What the kernel forgets is there again before a guest starts."""

    async def test_mediated_devices_are_made_again(self, rig: Rig) -> None:
        add_split_t4(rig.node)
        await rig.keeper.prepare(DOMAIN, VGPU)
        reboot(rig)
        assert list_mdevs(rig.node) == []
        await rig.keeper.restore()
        assert list_mdevs(rig.node) == [DEVICE]
        await rig.keeper.check_ready(DOMAIN)

    async def test_types_are_given_again_to_the_functions_that_guests_know(self, rig: Rig) -> None:
        add_a100(rig.node, enabled=False)
        rig.virtual_functions = {A100: "all"}
        rig.kernel.virtual_functions[A100] = lambda: add_a100_functions(rig.node)
        rig.start()
        await rig.keeper.restore()
        source = await rig.keeper.prepare(DOMAIN, VENDOR_VGPU)
        assert source == PciSource((VIRTUAL[0],), managed=False)
        reboot(rig)
        with pytest.raises(DeviceNotFound):
            await rig.keeper.check_ready(DOMAIN)
        await rig.keeper.restore()
        assert [read_type(rig.node, address) for address in VIRTUAL] == [471, 0, 0, 0]
        assert await rig.keeper.prepare(DOMAIN, VENDOR_VGPU) == source

    async def test_without_a_restore_the_start_of_the_guest_makes_them(self, rig: Rig) -> None:
        add_split_t4(rig.node)
        await rig.keeper.prepare(DOMAIN, VGPU)
        reboot(rig)
        await rig.keeper.check_ready(DOMAIN)
        assert list_mdevs(rig.node) == [DEVICE]

    async def test_a_guest_does_not_start_when_others_have_taken_all(self, rig: Rig) -> None:
        add_split_t4(rig.node)
        await rig.keeper.prepare(DOMAIN, VGPU)
        reboot(rig)
        rig.node.machine.write(f"class/mdev_bus/{T4}/mdev_supported_types/nvidia-222/available_instances", 0)
        await rig.keeper.restore()
        with pytest.raises(DeviceInUse, match="no nvidia-222 left"):
            await rig.keeper.check_ready(DOMAIN)

    async def test_a_guest_does_not_start_when_the_gpu_is_gone(self, rig: Rig) -> None:
        add_split_t4(rig.node)
        await rig.keeper.prepare(DOMAIN, VGPU)
        (rig.node.machine.root / f"bus/pci/devices/{T4}").unlink()
        with pytest.raises(DeviceFaulty, match="is gone"):
            await rig.keeper.check_ready(DOMAIN)

    async def test_another_parent_is_as_good(self, rig: Rig) -> None:
        add_a100(rig.node)
        for address in VIRTUAL[:2]:
            rig.node.add_mdev_type(address, "nvidia-471", "A100-4C", mib=4096, most=20, available=1)
        for address in VIRTUAL:
            (rig.node.machine.root / f"bus/pci/devices/{address}/nvidia/creatable_vgpu_types").unlink()
        assert await rig.keeper.prepare(DOMAIN, VENDOR_VGPU) == MdevSource(DEVICE)
        rig.kernel.remove_mdev(VIRTUAL[0], DEVICE)
        rig.node.machine.write(f"class/mdev_bus/{VIRTUAL[0]}/mdev_supported_types/nvidia-471/available_instances", 0)
        await rig.keeper.check_ready(DOMAIN)
        assert list_mdevs(rig.node, VIRTUAL[1]) == [DEVICE]
        await rig.release()
        assert list_mdevs(rig.node, VIRTUAL[1]) == []


class TestDrivers:
    """The host's drivers come back."""

    async def test_a_binding_that_libvirt_has_left_is_undone_when_no_domain_has_the_device(self, rig: Rig) -> None:
        add_whole_t4(rig)
        await rig.keeper.prepare(DOMAIN, wish(T4))
        start_whole(rig)
        rig.domains = {DOMAIN: [f"pci {T4}"]}
        await rig.keeper.restore()
        assert rig.node.machine.sysfs.link_name(f"bus/pci/devices/{T4}/driver") == "vfio-pci"
        rig.domains = {}
        await rig.keeper.restore()
        assert rig.node.machine.sysfs.link_name(f"bus/pci/devices/{T4}/driver") == "nvidia"
        assert len(rig.entries()) == 1

    async def test_without_libvirt_no_binding_is_touched(self, rig: Rig) -> None:
        add_whole_t4(rig)
        await rig.keeper.prepare(DOMAIN, wish(T4))
        start_whole(rig)
        rig.domains = None
        await rig.keeper.restore()
        assert rig.kernel.writes == []

    async def test_a_device_that_a_person_has_bound_to_vfio_stays_so(self, rig: Rig) -> None:
        add_whole_t4(rig)
        start_whole(rig)
        await rig.keeper.prepare(DOMAIN, wish(T4))
        await rig.release()
        assert rig.node.machine.sysfs.link_name(f"bus/pci/devices/{T4}/driver") == "vfio-pci"
        assert rig.kernel.writes == []

    async def test_what_nobody_was_asked_for_stays_bound(self, rig: Rig) -> None:
        add_whole_t4(rig)
        start_whole(rig)
        await rig.keeper.restore()
        assert rig.kernel.writes == []

    async def test_a_driver_that_does_not_let_go_is_told(self, rig: Rig) -> None:
        add_whole_t4(rig)
        await rig.keeper.prepare(DOMAIN, wish(T4))
        start_whole(rig)
        rig.kernel.refusals["unbind"] = errno.EBUSY
        with pytest.raises(DeviceFailed, match="busy"):
            await rig.release()
        rig.kernel.refusals.clear()
        await rig.release()
        assert rig.node.machine.sysfs.link_name(f"bus/pci/devices/{T4}/driver") == "nvidia"


class TestVirtualFunctions:
    """SR-IOV as it is configured."""

    @pytest.mark.parametrize(("name", "count", "written"), [(A100, "4", "4"), (A100, "all", "4"), ("ens9", "2", "2")])
    async def test_they_are_made_where_there_are_none(self, rig: Rig, name: str, count: str, written: str) -> None:
        add_a100(rig.node, enabled=False)
        rig.node.machine.add_nic("ens9", device=rig.node.paths[A100])
        rig.kernel.virtual_functions[A100] = lambda: add_a100_functions(rig.node)
        rig.virtual_functions = {name: count}
        await rig.start().restore()
        assert rig.kernel.writes == [(f"bus/pci/devices/{A100}/sriov_numvfs", written)]
        await rig.keeper.restore()
        assert len(rig.kernel.writes) == 1

    @pytest.mark.parametrize(("name", "count"), [(A100, "2"), (A100, "0"), (A100, "5"), ("ens8", "all")])
    async def test_others_numbers_and_what_cannot_be_stay(self, rig: Rig, name: str, count: str) -> None:
        add_a100(rig.node, enabled=True)
        rig.virtual_functions = {name: count}
        await rig.start().restore()
        assert rig.kernel.writes == []

    async def test_a_card_that_refuses_keeps_nothing_else_from_being_restored(self, rig: Rig) -> None:
        add_split_t4(rig.node)
        await rig.keeper.prepare(DOMAIN, VGPU)
        reboot(rig)
        add_a100(rig.node, enabled=False)
        rig.virtual_functions = {A100: "all"}
        rig.kernel.refusals["sriov_numvfs"] = errno.EIO
        await rig.start().restore()
        assert list_mdevs(rig.node) == [DEVICE]


class TestJournal:
    """Files that nobody here has written."""

    async def test_they_survive_and_do_not_matter(self, rig: Rig) -> None:
        add_split_t4(rig.node)
        await rig.keeper.prepare(OTHER_DOMAIN, VGPU)
        home = rig.directory / "journal/devices"
        (home / f"{DOMAIN}.json").write_text("{")
        (home / "notes.txt").write_text("a person's")
        (home / ".new-0123abcd-x.json").write_text("half")
        rig.start()
        assert [entry.domain_uuid for entry in rig.entries()] == [OTHER_DOMAIN]
        texts = sorted(path.read_text() for path in home.iterdir() if path.name != f"{OTHER_DOMAIN}.json")
        assert texts == ["a person's", "{"]

    async def test_what_a_domain_has_is_not_guessed(self, rig: Rig) -> None:
        add_split_t4(rig.node)
        path = rig.directory / f"journal/devices/{DOMAIN}.json"
        path.write_text("{")
        rig.start()
        for attempt in (rig.keeper.prepare(DOMAIN, VGPU), rig.keeper.check_ready(DOMAIN), rig.release(DOMAIN)):
            with pytest.raises(DeviceFailed, match=f"cannot be read: see {path}"):
                await attempt
        await rig.keeper.prepare(OTHER_DOMAIN, VGPU)
        assert path.read_text() == "{"

    async def test_what_only_a_later_version_can_make_keeps_no_other_guest_from_its_own(self, rig: Rig) -> None:
        add_split_t4(rig.node)
        await rig.keeper.prepare(OTHER_DOMAIN, VGPU)
        text = (rig.directory / f"journal/devices/{OTHER_DOMAIN}.json").read_text()
        assert '"mdev"' in text
        later = text.replace('"mdev"', '"telepathy"').replace(DEVICE, OTHER_DEVICE)
        (rig.directory / f"journal/devices/{DOMAIN}.json").write_text(later)
        reboot(rig)
        await rig.start().restore()
        assert list_mdevs(rig.node) == [DEVICE]
        with pytest.raises(DeviceFailed, match="telepathy"):
            await rig.keeper.check_ready(DOMAIN)

    @pytest.mark.parametrize("content", ["[]", '{"devices": [{}]}', '{"devices": 1}', '{"devices": [{"wish": 1}]}'])
    def test_a_file_of_another_shape_is_kept(self, rig: Rig, content: str) -> None:
        home = rig.directory / "journal/devices"
        (home / f"{DOMAIN}.json").write_text(content)
        rig.start()
        assert (rig.entries(), [path.read_text() for path in home.iterdir()]) == ([], [content])

    async def test_what_a_later_version_says_more_does_not_matter(self, rig: Rig) -> None:
        add_split_t4(rig.node)
        await rig.keeper.prepare(DOMAIN, VGPU)
        before = rig.entries()
        path = rig.directory / f"journal/devices/{DOMAIN}.json"
        content = json.loads(path.read_text())
        content["devices"][0]["wish"]["colour"] = "green"
        content["devices"][0]["colour"] = "green"
        path.write_text(json.dumps(content))
        rig.start()
        assert rig.entries() == before


async def test_a_device_that_a_domain_has_is_not_given_back(rig: Rig) -> None:
    add_split_t4(rig.node)
    await rig.keeper.prepare(DOMAIN, VGPU)
    rig.domains = {DOMAIN: [f"mdev {DEVICE}"]}
    with pytest.raises(DeviceInUse, match="used by domain vm-01"):
        await rig.release()
    assert list_mdevs(rig.node) == [DEVICE, FOREIGN]
    assert not rig.entries()[0].releasing


async def test_of_several_devices_those_that_are_named_are_given_back(rig: Rig) -> None:
    add_split_t4(rig.node)
    add_a100(rig.node)
    other = wish(A100, FOREIGN[:-1] + "9", vgpu_type_id="nvidia-471")
    await rig.keeper.prepare(DOMAIN, VGPU)
    await rig.keeper.prepare(DOMAIN, other)
    await rig.release(DOMAIN, other.uuid, "unknown")
    assert [entry.uuid for entry in rig.entries()] == [DEVICE]
    assert rig.notices


async def test_two_that_give_back_at_once_do_not_disturb_each_other(rig: Rig) -> None:
    add_split_t4(rig.node)
    await rig.keeper.prepare(DOMAIN, VGPU)
    await asyncio.gather(rig.release(), rig.release())
    assert (list_mdevs(rig.node), rig.entries()) == ([FOREIGN], [])


async def test_all_is_restored_whenever_libvirt_comes_back() -> None:
    restored = asyncio.Event()

    class Keeper:
        async def restore(self) -> None:
            restored.set()

    connection = Connection("test:///default", worker_count=1, guest_agent_worker_count=1)
    recovery = asyncio.create_task(DeviceRecovery(connection, cast("DeviceKeeper", Keeper())).run())
    await asyncio.sleep(0)
    await connection.open()
    await asyncio.wait_for(restored.wait(), 60)
    recovery.cancel()
    await connection.close()


async def test_who_stops_waiting_does_not_overtake_the_kernel(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    add_split_t4(rig.node)
    write, begun, loop = rig.kernel.write, asyncio.Event(), asyncio.get_running_loop()

    def write_slowly(path: str, text: str) -> None:
        loop.call_soon_threadsafe(begun.set)
        time.sleep(0.3)
        write(path, text)

    monkeypatch.setattr(rig.kernel, "write", write_slowly)
    first = asyncio.create_task(rig.keeper.prepare(DOMAIN, VGPU))
    await begun.wait()
    first.cancel()
    assert await rig.keeper.prepare(DOMAIN, VGPU) == MdevSource(DEVICE)
    assert [text for path, text in rig.kernel.writes if path.endswith("create")] == [DEVICE]
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_driver_that_hangs_holds_nobody_but_who_wants_its_device(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_split_t4(rig.node)
    add_a100(rig.node)
    write, hangs, begun = rig.kernel.write, threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def write_or_hang(path: str, text: str) -> None:
        if T4 in path:
            loop.call_soon_threadsafe(begun.set)
            hangs.wait(60)
        write(path, text)

    monkeypatch.setattr(rig.kernel, "write", write_or_hang)
    hanging = asyncio.create_task(rig.keeper.prepare(DOMAIN, VGPU))
    await begun.wait()
    # All that others do with others.
    other = wish(A100, OTHER_DEVICE, vgpu_type_id="nvidia-471")
    async with asyncio.timeout(30):
        await rig.keeper.prepare(OTHER_DOMAIN, other)
        await rig.keeper.check_ready(OTHER_DOMAIN)
        await rig.release(OTHER_DOMAIN)
    assert read_type(rig.node, VIRTUAL[0]) == 0
    # Whoever wants the same, or all GPUs, waits; and nothing of it is lost.
    waiting = [
        asyncio.create_task(rig.keeper.prepare(OTHER_DOMAIN, wish(T4, OTHER_DEVICE, vgpu_type_id="nvidia-222"))),
        asyncio.create_task(rig.keeper.set_gpu_mode("passthrough")),
        asyncio.create_task(rig.release(DOMAIN)),
    ]
    await asyncio.wait(waiting, timeout=0.2)
    assert not any(task.done() for task in (hanging, *waiting))
    hangs.set()
    assert await hanging == MdevSource(DEVICE)
    second, mode, released = await asyncio.gather(*waiting, return_exceptions=True)
    assert (second, released) == (MdevSource(OTHER_DEVICE), [(0, 0)])
    assert isinstance(mode, GpuInUse)
    assert (list_mdevs(rig.node), [entry.uuid for entry in rig.entries()]) == (
        sorted([FOREIGN, OTHER_DEVICE]),
        [OTHER_DEVICE],
    )


async def test_a_start_with_many_devices_does_not_look_for_each(rig: Rig) -> None:
    add_a100(rig.node)
    for number in range(len(VIRTUAL)):
        domain = DOMAIN[:-2] + f"{number:02x}"
        await rig.keeper.prepare(domain, wish(A100, DEVICE[:-2] + f"{number:02x}", vgpu_type_id="nvidia-471"))
    assert rig.domains is not None
    rig.domains = {entry.domain_uuid: [f"pci {entry.making.addresses[0]}"] for entry in rig.entries()}
    rig.start()
    rig.looks = 0
    await rig.keeper.restore()
    # One for the GPUs' mode, one for all of them.
    assert rig.looks <= 2


async def test_what_a_guest_has_got_since_the_look_is_not_taken_from_it(
    rig: Rig,
) -> None:
    add_whole_t4(rig)
    await rig.keeper.prepare(DOMAIN, wish(T4))
    looks = rig.survey.read_users

    async def read_users(besides: str) -> object:
        seen = await looks(besides)
        if rig.looks > 1:  # after the second look libvirt gives it to the guest
            rig.domains = {DOMAIN: [f"pci {T4}"]}
            start_whole(rig)
        return seen

    object.__setattr__(rig.survey, "read_users", read_users)
    rig.looks = 0
    await rig.keeper.restore()
    assert rig.node.machine.sysfs.link_name(f"bus/pci/devices/{T4}/driver") == "vfio-pci"
