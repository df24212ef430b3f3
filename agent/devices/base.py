"""What kinds of devices have in common: where they look, and where on the node a device is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.devices.block_use import BlockUse
from agent.facts.sysfs import DeviceProperties, Sysfs
from protos.agent.v1.host_pb2 import Device

_PCI_ADDRESS: Final = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_NUMBER: Final = re.compile(r"-?\d+")
UNKNOWN_NUMA_NODE: Final = -1


@dataclass(frozen=True)
class Surroundings:
    """The node as device kinds read it."""

    sysfs: Sysfs
    properties: DeviceProperties
    block_use: BlockUse


# All devices of one kind, withheld ones included.
DeviceKind = Callable[[Surroundings], Iterable[Device]]


def find_pci_address(path: Path) -> str:
    """The address of the PCI function that a device below /sys/devices belongs to; empty when it belongs to none."""
    return next((part for part in reversed(path.parts) if _PCI_ADDRESS.fullmatch(part)), "")


def find_numa_node(sysfs: Sysfs, path: Path) -> int:
    """The cell that a device below /sys/devices, or the nearest above it that tells, is attached to."""
    for ancestor in (path, *path.parents):
        text = sysfs.read(f"{ancestor}/numa_node")
        if _NUMBER.fullmatch(text):
            return int(text)
    return UNKNOWN_NUMA_NODE
