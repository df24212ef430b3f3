"""Devices that have failed are told of, withheld, and given to nobody."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from agent.devices.change import DeviceWatch
from agent.devices.fault import Faults, KernelLog
from tests.unit.agent.device_builder import BLANK
from tests.unit.agent.device_kernel import DOMAIN, T4, Rig, wish

DISK = "wwn-0x5000c500a1b2c3d4"
SATA = "pci0000:00/0000:00:17.0/ata3/host2/target2:0:0/2:0:0:0"
NVME_PATH = "pci0000:20/0000:21:00.0/nvme/nvme0"
PORT = "3,7,9,-;pcieport 0000:3a:00.0"
XID = "6,1201,5140900,-;NVRM: Xid (PCI:0000:3b:00): {}, pid=1234, GPU has fallen off the bus."


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def find_fault(rig: Rig, device_id: str = T4) -> str:
    device = await rig.find(device_id)
    assert bool(device.fault) == device.withheld_reason.startswith("faulty: ")
    return device.fault


class TestKernelLog:
    """Lines that tell of hardware."""

    @pytest.mark.parametrize(
        ("line", "fault"),
        [
            (XID.format(79), "Xid 79"),
            (XID.format(48), "Xid 48"),
            (XID.format(31), ""),
            (XID.format(13), ""),
            (f"{PORT}: AER: Uncorrected (Fatal) error received: {T4}", "PCIe: fatal error"),
            (f"{PORT}: AER: Uncorrectable (Fatal) error message received from {T4}", "PCIe: fatal error"),
            (f"3,7,9,-;nvidia {T4}: PCIe Bus Error: severity=Uncorrectable (Fatal), type=x", "PCIe: fatal error"),
            (f"{PORT}: AER: Corrected error received: {T4}", ""),
            (f"{PORT}: AER: Uncorrected (Non-Fatal) error received: {T4}", ""),
            ("6,7,9,-;nvidia 0000:3b:00.0: enabling device", ""),
        ],
    )
    async def test_a_gpu_is_faulty_when_its_hardware_is(self, rig: Rig, line: str, fault: str) -> None:
        rig.node.add_t4()
        assert rig.faults.take_line(line) == bool(fault)
        assert not rig.faults.take_line(line)
        assert await find_fault(rig) == fault

    async def test_a_disk_with_errors_of_its_medium_is_faulty(self, rig: Rig) -> None:
        rig.node.add("sdb", SATA, udev=BLANK)
        line = "3,7,9,-;critical medium error, dev sdb, sector 2048 op 0x0:(READ) flags 0x80700 phys_seg 1"
        assert rig.faults.take_line(line)
        assert await find_fault(rig, DISK) == "errors of the medium"

    @pytest.mark.parametrize("operation", ["0x3:(DISCARD)", "0x9:(WRITE_ZEROES)"])
    async def test_a_disk_that_does_not_know_a_request_has_not_failed(self, rig: Rig, operation: str) -> None:
        """Guests discard what they have freed, and not every disk can."""
        rig.node.add("sdb", SATA, udev=BLANK)
        line = f"3,7,9,-;critical target error, dev sdb, sector 2048 op {operation} flags 0x800 phys_seg 1"
        assert not rig.faults.take_line(line)
        assert await find_fault(rig, DISK) == ""

    async def test_a_device_that_is_pulled_takes_its_fault_along(self, rig: Rig) -> None:
        rig.node.add_t4()
        rig.faults.take_line(XID.format(79))
        assert await find_fault(rig)
        link = rig.node.machine.root / f"bus/pci/devices/{T4}"
        target = os.readlink(link)
        link.unlink()
        assert await rig.discover() == []
        link.symlink_to(target)
        assert await find_fault(rig) == ""

    async def test_faults_of_others_do_not_matter(self, rig: Rig) -> None:
        rig.node.add_t4()
        rig.node.add_t4("0000:5e:00.0", group=43)
        rig.faults.take_line(XID.format(79).replace("3b", "5e"))
        assert (await find_fault(rig), await find_fault(rig, "0000:5e:00.0")) == ("", "Xid 79")

    def test_programs_tell_nothing(self, tmp_path: Path) -> None:
        rig = Rig(tmp_path)
        log = tmp_path / "kmsg"
        log.write_text(XID.format(79).replace("6,", "14,"))
        source = KernelLog(rig.faults, log)
        assert not source.take()
        source.close()

    async def test_the_watch_wakes_those_who_report(self, rig: Rig) -> None:
        """The kernel's log gives a record a read, as a pipe does here."""
        path = rig.directory / "kmsg"
        os.mkfifo(path)
        watch = DeviceWatch(lambda: KernelLog(rig.faults, path))
        task = asyncio.create_task(watch.run())
        await asyncio.sleep(0.05)
        writer = os.open(path, os.O_WRONLY)
        os.write(writer, XID.format(79).encode())
        await asyncio.wait_for(watch.wait(600), 60)
        rig.node.add_t4()
        assert await find_fault(rig) == "Xid 79"
        task.cancel()
        os.close(writer)

    async def test_without_the_log_the_rest_is_watched(self, rig: Rig) -> None:
        watch = DeviceWatch(lambda: KernelLog(rig.faults, rig.directory / "absent"))
        task = asyncio.create_task(watch.run())
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()


class TestCounters:
    """PCI Express counts errors."""

    async def test_a_fatal_error(self, rig: Rig) -> None:
        rig.node.add_t4(aer_dev_fatal="Undefined 0\nDLP 1\nTOTAL_ERR_FATAL 1")
        assert await find_fault(rig) == "PCIe: fatal error"

    async def test_others_only_when_they_grow(self, rig: Rig) -> None:
        rig.node.add_t4(aer_dev_fatal="TOTAL_ERR_FATAL 0", aer_dev_nonfatal="TOTAL_ERR_NONFATAL 5000")
        assert await find_fault(rig) == ""
        path = f"bus/pci/devices/{T4}/aer_dev_nonfatal"
        rig.node.machine.write(path, "TOTAL_ERR_NONFATAL 5100")
        assert await find_fault(rig) == ""
        rig.node.machine.write(path, "TOTAL_ERR_NONFATAL 5101")
        assert await find_fault(rig) == "PCIe: more than 100 uncorrectable errors"

    async def test_those_of_an_nvme_disk_are_its_own_but_not_those_of_a_controller_of_many(self, rig: Rig) -> None:
        fatal = "TOTAL_ERR_FATAL 1"
        rig.node.add_pci("0000:21:00.0", "144d:a80a", "010802", group=12, parent="pci0000:20", aer_dev_fatal=fatal)
        rig.node.add("nvme0n1", NVME_PATH, udev=BLANK, device__transport="pcie")
        rig.node.add_pci("0000:00:17.0", "8086:a102", "010601", group=13, aer_dev_fatal=fatal)
        rig.node.add("sdb", SATA, udev=BLANK | {"ID_WWN": "0x1"})
        assert await find_fault(rig, DISK) == "PCIe: fatal error"
        assert await find_fault(rig, "wwn-0x1") == ""


@pytest.mark.parametrize(("state", "fault"), [("running", ""), ("offline", "the disk is offline")])
async def test_a_disk_that_the_kernel_has_given_up(rig: Rig, state: str, fault: str) -> None:
    rig.node.add("sdb", SATA, udev=BLANK, device__state=state)
    assert await find_fault(rig, DISK) == fault


async def test_a_guest_is_not_started_with_a_device_that_has_failed(rig: Rig) -> None:
    rig.node.add_t4()
    await rig.keeper.prepare(DOMAIN, wish(T4))
    rig.faults.take_line(XID.format(79))
    with pytest.raises(Exception, match="Xid 79"):
        await rig.keeper.check_ready(DOMAIN)
    assert len(await rig.release()) == 1


def test_many_devices_are_marked_at_once(rig: Rig) -> None:
    """Discovery runs in threads, the log is read in the loop."""
    faults = Faults(rig.node.machine.sysfs)
    assert faults.take_line(XID.format(79))
    faults.mark([])
    assert faults.take_line(XID.format(79))
