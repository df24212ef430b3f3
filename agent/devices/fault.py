"""Devices that have failed, as the kernel tells: in its log, by the counters of PCI Express, and by states of disks.

Source: the kernel's Documentation/ABI/testing/sysfs-bus-pci-devices-aer_stats, Documentation/ABI/testing/dev-kmsg;
NVIDIA's "XID Errors".
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import structlog

from agent.facts.memory import EVERYWHERE, Memory
from agent.facts.sysfs import Sysfs
from protos.agent.v1.host_pb2 import Device

_KERNEL_LOG: Final = Path("/dev/kmsg")
_RECORD_BYTES: Final = 8192
# How many records are taken before others have their turn on the loop.
_MOST_RECORDS: Final = 256
# Priority and facility of a record together; the facility of the kernel is 0, one has eight priorities.
_FIRST_PROGRAM: Final = 8

_ADDRESS: Final = r"([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2})(\.[0-7])?"
_XID: Final = re.compile(rf"NVRM: Xid \(PCI:{_ADDRESS}\): (\d+)", re.IGNORECASE)
# Those that tell of hardware; most others tell of what a program in a guest did wrong.
_HARDWARE_XIDS: Final = frozenset((48, 61, 62, 64, 74, 79, 95, 110, 119, 120, 140))
_AER: Final = re.compile(
    rf"AER: Uncorrect(?:ed|able) \(Fatal\) error (?:message )?received(?: from|:) {_ADDRESS}", re.IGNORECASE
)
_BUS_ERROR: Final = re.compile(
    rf"{_ADDRESS}: (?:AER: )?PCIe Bus Error: severity=Uncorrect(?:ed|able) \(Fatal\)", re.IGNORECASE
)
# Of requests that a disk may refuse because it does not know them, such as discarding, nothing follows.
_MEDIUM: Final = re.compile(
    r"critical (?:medium|target) error, dev ([a-z0-9]+)(?!.*op 0x[0-9a-f]+:\((?:DISCARD|SECURE_ERASE|WRITE_ZEROES)\))"
)
_TOTAL: Final = re.compile(r"TOTAL_ERR_(?:FATAL|NONFATAL) (\d+)")
# Requests that nobody answers count as such errors, and guests make some while they look for devices.
_MOST_NONFATAL: Final = 100
_DEAD_STATES: Final = frozenset(("offline", "transport-offline", "dead"))

log = structlog.get_logger(__name__)


class Faults:
    """What has failed, by Device.id; a device that is pulled takes its faults along."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs
        # By PCI address, or by the kernel's name of a disk: what the log calls them.
        self._lock = threading.Lock()
        self._told: dict[str, str] = {}
        # Of the same, when each was seen first, how many errors there were already.
        self._first_nonfatal: dict[str, int] = {}

    def take_line(self, line: str) -> bool:
        """A line of the kernel's log; whether it tells of a fault that is new."""
        place, fault = _parse(line)
        with self._lock:
            if not fault or self._told.get(place) == fault:
                return False
            self._told[place] = fault
        log.warning("device.fault", place=place, fault=fault)
        return True

    def mark(self, devices: Sequence[Device], memory: Memory | None = None) -> None:
        """Sets `fault` of those that have one; these are withheld."""
        with self._lock:
            self._forget(devices)
            for device in devices:
                device.fault = self._find(device, memory or Memory())
                if device.fault and not device.withheld_reason:
                    device.withheld_reason = f"faulty: {device.fault}"

    def _find(self, device: Device, memory: Memory) -> str:
        name = device.details.get("name", "") if device.kind == "disk" else ""
        if fault := name and (self._told.get(name) or self._find_dead(name)):
            return fault
        address = _find_function(device)
        told = self._told.get(address) or self._told.get(address.rpartition(".")[0])
        return told or (self._find_counted(address, memory) if address else "")

    def _find_dead(self, name: str) -> str:
        state = self._sysfs.read(f"class/block/{name}/device/state")
        return f"the disk is {state}" if state in _DEAD_STATES else ""

    def _find_counted(self, address: str, memory: Memory) -> str:
        fatal, nonfatal = memory.recall(address, "errors", lambda: self._count_both(address))
        if fatal:
            return "PCIe: fatal error"
        grown = nonfatal - self._first_nonfatal.setdefault(address, nonfatal)
        return f"PCIe: more than {_MOST_NONFATAL} uncorrectable errors" if grown > _MOST_NONFATAL else ""

    def _count_both(self, address: str) -> tuple[int, int]:
        base = f"bus/pci/devices/{address}/aer_dev"
        return self._count(f"{base}_fatal"), self._count(f"{base}_nonfatal")

    def _count(self, path: str) -> int:
        match = _TOTAL.search(self._sysfs.read(path))
        return int(match[1]) if match else 0

    def _forget(self, devices: Sequence[Device]) -> None:
        present = {device.details.get("name", "") for device in devices}
        present |= {_find_function(device) for device in devices}
        present |= {address.rpartition(".")[0] for address in present}
        for known in (self._told, self._first_nonfatal):
            for place in [place for place in known if place not in present]:
                del known[place]


def _find_function(device: Device) -> str:
    """Its PCI address; of disks only those that are one: a controller of many has failed for itself."""
    if device.kind == "disk":
        return device.details.get("pci_address", "") if device.attributes.get("interface") == "nvme" else ""
    return device.details.get("address", "")


def _parse(line: str) -> tuple[str, str]:
    """The place and what is wrong there; without that nothing is."""
    if match := _XID.search(line):
        number = int(match[3])
        return (match[1] + (match[2] or "")).lower(), f"Xid {number}" if number in _HARDWARE_XIDS else ""
    if match := _AER.search(line) or _BUS_ERROR.search(line):
        return (match[1] + (match[2] or "")).lower(), "PCIe: fatal error"
    if match := _MEDIUM.search(line):
        return match[1], "errors of the medium"
    return "", ""


class KernelLog:
    """A Source for DeviceWatch: lines of the kernel's log, those since the last boot first. Raises OSError."""

    def __init__(self, faults: Faults, path: Path = _KERNEL_LOG) -> None:
        self._faults = faults
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """See Source."""
        return self._descriptor

    def take(self) -> Collection[str]:
        """See Source."""
        places = set[str]()
        for _ in range(_MOST_RECORDS):
            try:
                record = os.read(self._descriptor, _RECORD_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.EPIPE:  # records were overwritten before they were read: the next ones are not
                    continue
                log.warning("devices.kernel_log_unreadable", reason=str(error))
                break
            if not record:  # a file that is none of the kernel's
                break
            priority, _, line = record.decode(errors="replace").partition(",")
            # Programs may write to this log, too, and everybody can make them do it.
            if priority.isdecimal() and int(priority) < _FIRST_PROGRAM:
                places |= {EVERYWHERE} if self._faults.take_line(line) else set()
        return places

    def close(self) -> None:
        """See Source."""
        os.close(self._descriptor)
