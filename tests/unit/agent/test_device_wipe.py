"""Disks are wiped before anybody else gets them, and a wiping that is cut off goes on where it was."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.devices import wipe as wiping
from agent.devices.thread import run_to_end
from agent.devices.wipe import wipe
from agent.errors import DeviceBusy, DeviceFaulty, DeviceInUse, DeviceNotFound, DeviceWipeFailed
from tests.loop_device import LoopDevicesUnavailable, loop_device
from tests.unit.agent.device_builder import BLANK
from tests.unit.agent.device_kernel import DOMAIN, OTHER_DEVICE, OTHER_DOMAIN, Rig, wish

MIB = 1024**2
DISK = "wwn-0x5000c500a1b2c3d4"
LINK = "/dev/disk/by-id/wwn-0x5000c500a1b2c3d4"
SATA = "pci0000:00/0000:00:17.0/ata3/host2/target2:0:0/2:0:0:0"
NVME = "0000:21:00.0"
NVME_PATH = f"pci0000:20/{NVME}/nvme/nvme0"
WISH = wish(DISK, wipe_on_release=True)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def add_disk(rig: Rig, name: str = "sdb", size: int = 10 * MIB) -> Path:
    """A disk whose device file is a file, full of a guest's data."""
    rig.node.add(name, SATA, udev=BLANK | {"DEVLINKS": LINK})
    file = rig.directory / "dev" / name
    file.write_bytes(b"\xa5" * size)
    return file


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    """A block device of the kernel's."""
    image = tmp_path / "image"
    image.write_bytes(b"\xa5" * (8 * MIB))
    try:
        with loop_device(image) as path:
            yield path
    except LoopDevicesUnavailable as error:
        pytest.skip(f"no loop devices here: {error}")


async def force(rig: Rig, *, unclaimed: bool = False) -> list[int]:
    """To the end; how much was wiped."""
    return [step.done_bytes async for step in rig.keeper.force_release(DISK, unclaimed=unclaimed)]


class TestRelease:
    """Through the keeper."""

    async def test_all_of_it_is_zeros_and_progress_is_told(self, rig: Rig) -> None:
        file = add_disk(rig)
        await rig.keeper.prepare(DOMAIN, WISH)
        steps = await rig.release()
        assert steps == [(0, 0), *((done * MIB, 10 * MIB) for done in (0, 4, 8, 10))]
        assert file.read_bytes() == bytes(10 * MIB)
        assert rig.entries() == []

    async def test_a_disk_that_was_not_asked_for_keeps_its_content(self, rig: Rig) -> None:
        file = add_disk(rig)
        await rig.keeper.prepare(DOMAIN, wish(DISK))
        assert await rig.release() == [(0, 0)]
        assert file.read_bytes() == b"\xa5" * (10 * MIB)

    async def test_it_is_withheld_all_the_while(self, rig: Rig) -> None:
        add_disk(rig)
        await rig.keeper.prepare(DOMAIN, WISH)
        async for _ in rig.keeper.release(DOMAIN):
            assert (await rig.find(DISK)).withheld_reason == "being wiped"
        assert (await rig.find(DISK)).withheld_reason == ""

    @pytest.mark.parametrize("cut", ["cancelled", "closed", "process"])
    async def test_it_goes_on_where_it_was(self, rig: Rig, cut: str) -> None:
        file = add_disk(rig)
        await rig.keeper.prepare(DOMAIN, WISH)
        steps = rig.keeper.release(DOMAIN)
        async for step in steps:
            if step.done_bytes == 4 * MIB:
                break
        await steps.aclose()
        file.write_bytes(b"\x00" * MIB + b"\xa5" * (9 * MIB))  # what is done is not done again
        if cut == "process":
            rig.start()
            await rig.keeper.restore()
        assert (await rig.find(DISK)).withheld_reason == "being wiped"
        assert [done for done, _ in await rig.release()] == [0, 4 * MIB, 8 * MIB, 10 * MIB]
        assert file.read_bytes() == bytes(MIB) + b"\xa5" * (3 * MIB) + bytes(6 * MIB)
        assert rig.entries() == []

    async def test_a_dead_disk_is_given_up_and_wiped_should_it_come_back(self, rig: Rig) -> None:
        file = add_disk(rig)
        await rig.keeper.prepare(DOMAIN, WISH)
        with pytest.raises(DeviceInUse, match="is to give it back first"):
            await force(rig)
        link = rig.node.machine.root / "class/block/sdb"
        target = link.readlink()
        link.unlink()
        with pytest.raises(DeviceNotFound, match="is away"):
            await rig.release()
        assert (await rig.find(DISK)).fault == "is gone from the node"
        await force(rig)
        # Nobody waits for it any more, and nobody is told of it; this outlasts the agent.
        rig.start()
        await rig.keeper.restore()
        assert (await rig.release(), await rig.discover()) == ([], [])
        link.symlink_to(target)
        assert (await rig.find(DISK)).withheld_reason.startswith("was given up before it was wiped")
        with pytest.raises(DeviceBusy):
            await rig.keeper.prepare(OTHER_DOMAIN, wish(DISK, OTHER_DEVICE))
        assert (await force(rig))[-1] == 10 * MIB
        assert file.read_bytes() == bytes(10 * MIB)
        assert (rig.entries(), (await rig.find(DISK)).withheld_reason) == ([], "")

    async def test_what_the_journal_alone_remembers_is_withheld_until_it_is_given_back(self, rig: Rig) -> None:
        file = add_disk(rig)
        await rig.keeper.prepare(DOMAIN, WISH)
        assert (await rig.find(DISK)).withheld_reason == f"used by domain {DOMAIN}"
        await rig.keeper.check_ready(DOMAIN)
        await rig.keeper.prepare(DOMAIN, WISH)
        rig.domains = {DOMAIN: ["sdb"]}
        with pytest.raises(DeviceInUse, match="used by domain vm-01"):
            await force(rig, unclaimed=True)
        assert not rig.entries()[0].releasing
        rig.domains = {}
        await force(rig, unclaimed=True)
        assert (file.read_bytes(), rig.entries()) == (bytes(10 * MIB), [])
        rig.domains = None
        await force(rig, unclaimed=True)  # nothing is left to do

    async def test_a_disk_that_is_mounted_meanwhile_is_left_alone(self, rig: Rig) -> None:
        file = add_disk(rig)
        rig.node.machine.write("class/block/sdb/dev", "8:16")
        await rig.keeper.prepare(DOMAIN, WISH)
        rig.mount("8:16", "/dev/sdb")
        with pytest.raises(DeviceInUse, match="mounted"):
            await rig.release()
        assert file.read_bytes() == b"\xa5" * (10 * MIB)
        assert rig.entries()[0].releasing

    async def test_what_was_once_to_be_wiped_is(self, rig: Rig) -> None:
        file = add_disk(rig)
        await rig.keeper.prepare(DOMAIN, WISH)
        await rig.keeper.prepare(DOMAIN, wish(DISK))
        await rig.release()
        assert file.read_bytes() == bytes(10 * MIB)

    async def test_a_disk_of_a_domain_is_left_alone(self, rig: Rig) -> None:
        file = add_disk(rig)
        await rig.keeper.prepare(DOMAIN, WISH)
        rig.domains = {OTHER_DOMAIN: ["sdb"]}
        with pytest.raises(DeviceInUse, match="used by domain vm-02"):
            await rig.release()
        assert file.read_bytes() == b"\xa5" * (10 * MIB)

    async def test_what_is_no_more_the_disk_is_left_alone(self, rig: Rig) -> None:
        """Its name has gone to something else between the look and the opening."""
        file = add_disk(rig)
        await rig.keeper.prepare(DOMAIN, WISH)
        rig.node.machine.write("class/block/sdb/dev", "8:16")
        with pytest.raises(DeviceWipeFailed, match="another disk now"):
            await rig.release()
        assert file.read_bytes() == b"\xa5" * (10 * MIB)

    async def test_a_disk_that_was_pulled_is_wiped_when_it_is_back(self, rig: Rig) -> None:
        file = add_disk(rig)
        await rig.keeper.prepare(DOMAIN, WISH)
        link = rig.node.machine.root / "class/block/sdb"
        target = os.readlink(link)
        link.unlink()
        with pytest.raises(DeviceNotFound, match="must be wiped"):
            await rig.release()
        link.symlink_to(target)
        assert (await rig.find(DISK)).withheld_reason == "being wiped"
        await rig.release()
        assert file.read_bytes() == bytes(10 * MIB)

    async def test_of_two_disks_of_one_identity_none_is_touched(self, rig: Rig) -> None:
        file = add_disk(rig)
        await rig.keeper.prepare(DOMAIN, WISH)
        rig.node.add("sdc", SATA.replace("2:0:0:0", "2:0:1:0"), udev=BLANK)
        with pytest.raises(DeviceWipeFailed, match="sdb, sdc"):
            await rig.release()
        assert file.read_bytes() == b"\xa5" * (10 * MIB)

    async def test_a_disk_that_was_put_into_the_same_slot_is_left_alone(self, rig: Rig) -> None:
        """Of one that tells neither a serial nor a name of its own only the slot is known."""
        udev = {key: value for key, value in BLANK.items() if key not in ("ID_WWN", "ID_SERIAL_SHORT", "ID_SERIAL")}
        udev |= {"ID_PATH": "pci-0000:00:17.0-ata-3", "DEVLINKS": "/dev/disk/by-path/pci-0000:00:17.0-ata-3"}
        rig.node.add("sdb", SATA, udev=udev, size=20480)
        file = rig.directory / "dev/sdb"
        file.write_bytes(b"\xa5" * (10 * MIB))
        (disk,) = await rig.discover("disk")
        assert disk.id == "path-pci-0000:00:17.0-ata-3"
        await rig.keeper.prepare(DOMAIN, wish(disk.id, wipe_on_release=True))
        await rig.keeper.check_ready(DOMAIN)
        rig.node.machine.write("class/block/sdb/size", 40960)
        with pytest.raises(DeviceFaulty, match="another disk than the guest's"):
            await rig.keeper.check_ready(DOMAIN)
        with pytest.raises(DeviceWipeFailed, match="another disk than before"):
            await rig.release()
        assert file.read_bytes() == b"\xa5" * (10 * MIB)

    async def test_an_nvme_disk_is_wiped_after_its_controller_is_back(self, rig: Rig) -> None:
        rig.node.add_pci(NVME, "144d:a80a", "010802", group=12, driver="nvme", parent="pci0000:20", driver_override="")
        links = {"DEVLINKS": "/dev/disk/by-id/nvme-eui.01"}
        rig.node.add("nvme0n1", NVME_PATH, udev=BLANK | links, device__transport="pcie")
        rig.kernel.home_drivers[NVME] = "nvme"
        file = rig.directory / "dev/nvme0n1"
        file.write_bytes(b"\xa5" * MIB)
        await rig.keeper.prepare(DOMAIN, wish(DISK, native=True, wipe_on_release=True))
        rig.kernel.bind(NVME, "vfio-pci")
        link = rig.node.machine.root / "class/block/nvme0n1"
        target = os.readlink(link)
        link.unlink()
        release = asyncio.create_task(rig.release())
        await asyncio.sleep(0.3)
        assert not release.done()
        link.symlink_to(target)
        await release
        assert rig.node.machine.sysfs.link_name(f"bus/pci/devices/{NVME}/driver") == "nvme"
        assert (file.read_bytes(), rig.entries()) == (bytes(MIB), [])

    @pytest.mark.parametrize("is_replaced", [False, True])
    async def test_nobody_gets_what_a_guest_has_hidden_behind_its_controller(
        self, rig: Rig, is_replaced: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who has a whole NVMe controller can make and remove its namespaces."""
        monkeypatch.setattr("agent.devices.keeper._RETURN_SECONDS", 0.1)
        rig.node.add_pci(NVME, "144d:a80a", "010802", group=12, driver="nvme", parent="pci0000:20", driver_override="")
        rig.node.add("nvme0n1", NVME_PATH, udev=BLANK, device__transport="pcie")
        (rig.directory / "dev/nvme0n1").write_bytes(b"\xa5" * MIB)
        await rig.keeper.prepare(DOMAIN, wish(DISK, native=True, wipe_on_release=True))
        if is_replaced:
            (rig.node.machine.root / "class/block/nvme0n1").unlink()
        other = BLANK | {"ID_WWN": "eui.02"}
        rig.node.add("nvme0n2", NVME_PATH, udev=other)
        rig.node.add("sda", SATA, udev=BLANK | {"ID_WWN": "0x1"})
        with pytest.raises(DeviceWipeFailed, match=r"other disks of the controller.*wwn-eui.02"):
            await rig.release()
        reasons = {device.id: device.withheld_reason for device in await rig.discover("disk")}
        assert "made by a guest" in reasons["wwn-eui.02"]
        assert (reasons[DISK], reasons["wwn-0x1"]) == ("being wiped", "")


class TestBlockDevice:
    """What the kernel does with a real one."""

    async def test_it_is_all_zeros(self, device: Path) -> None:
        number = device.stat().st_rdev
        name = f"{os.major(number)}:{os.minor(number)}"
        steps = [step async for step in wipe(device, number=name, chunk_bytes=3 * MIB)]
        assert steps == [(done * MIB, 8 * MIB) for done in (0, 3, 6, 8)]
        assert stat.S_ISBLK(device.stat().st_mode)
        assert device.read_bytes() == bytes(8 * MIB)

    async def test_it_begins_where_it_is_told(self, device: Path) -> None:
        assert [done async for done, _ in wipe(device, 6 * MIB, chunk_bytes=MIB)] == [6 * MIB, 7 * MIB, 8 * MIB]
        assert device.read_bytes() == b"\xa5" * (6 * MIB) + bytes(2 * MIB)

    async def test_without_the_request_zeros_are_written(self, device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(wiping, "_BLKZEROOUT", 0x12FF)
        async for _ in wipe(device):
            pass
        assert device.read_bytes() == bytes(8 * MIB)

    async def test_another_number_is_another_disk(self, device: Path) -> None:
        with pytest.raises(DeviceWipeFailed, match="left alone"):
            await anext(wipe(device, number="8:16"))

    async def test_what_the_kernel_uses_cannot_be_opened(self, device: Path) -> None:
        descriptor = os.open(device, os.O_RDWR | os.O_EXCL)
        try:
            with pytest.raises(DeviceInUse, match="is in use on the node"):
                await anext(wipe(device))
        finally:
            os.close(descriptor)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_piece_that_has_begun_ends_before_the_disk_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    file = tmp_path / "disk"
    file.write_bytes(b"\xa5" * MIB)
    events: list[str] = []
    loop = asyncio.get_running_loop()
    begun = asyncio.Event()

    def overwrite(descriptor: int, *_: object) -> None:
        loop.call_soon_threadsafe(begun.set)
        os.pwrite(descriptor, b"", 0)
        asyncio.run(asyncio.sleep(0.2))
        os.fsync(descriptor)
        events.append("written")

    monkeypatch.setattr(wiping, "_overwrite", overwrite)

    async def run() -> None:
        async for _ in wipe(file):
            pass

    task = asyncio.create_task(run())
    await begun.wait()
    # By the caller, and once more by an agent that ends: the number of a closed file would be another file's.
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0.02)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert events == ["written"]


async def test_a_disk_whose_opening_was_given_up_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is opened exclusively: nobody could wipe it any more."""
    file = tmp_path / "disk"
    file.write_bytes(bytes(MIB))
    opening, closed = threading.Event(), list[int]()
    loop = asyncio.get_running_loop()
    begun = asyncio.Event()
    real_open, real_close = os.open, os.close

    def open_slowly(*arguments: object, **more: object) -> int:
        loop.call_soon_threadsafe(begun.set)
        opening.wait(60)
        return real_open(*arguments, **more)  # type: ignore[arg-type]

    def close(descriptor: int) -> None:
        closed.append(descriptor)
        real_close(descriptor)

    monkeypatch.setattr(os, "open", open_slowly)
    monkeypatch.setattr(os, "close", close)
    task = asyncio.ensure_future(anext(wipe(file)))
    await asyncio.wait_for(begun.wait(), 60)
    task.cancel()
    opening.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(closed) == 1


async def test_a_disk_that_fails_is_told_with_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "disk"
    file.write_bytes(bytes(MIB))

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(wiping, "_write_zeros", fail)
    with pytest.raises(DeviceWipeFailed, match="at byte 0: Input/output error"):
        async for _ in wipe(file):
            pass
    with pytest.raises(DeviceWipeFailed, match="cannot be opened"):
        await anext(wipe(tmp_path / "absent"))


async def test_drivers_that_never_answer_take_no_thread_from_others() -> None:
    release = threading.Event()
    for _ in range(40):
        with pytest.raises(TimeoutError):
            await run_to_end(0.001, release.wait, 30)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "others go on"), 60)
    release.set()
