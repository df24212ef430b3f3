"""What kinds of devices have in common: where they look, and where on the node a device is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from agent.devices.block_use import BlockUse
from agent.devices.host_need import PCI_ADDRESS, find_host_needs
from agent.devices.net_use import NetUse
from agent.devices.pci import PciBus, PciFunction, read_pci_bus
from agent.facts.memory import Memory
from agent.facts.sysfs import DeviceProperties, Sysfs
from protos.agent.v1.host_pb2 import Device

# A mode of GPUs, beside the types of vGPUs: guests get them whole.
PASSTHROUGH: Final = "passthrough"
_NUMBER: Final = re.compile(r"-?\d+")
UNKNOWN_NUMA_NODE: Final = -1


@dataclass(frozen=True)
class GpuMode:
    """How the GPUs of the node are to work."""

    # PASSTHROUGH or VgpuType.id; empty: nobody has said it, and their drivers tell.
    mode: str = ""
    # GPUs that were split into this type when the mode was set.
    split_ids: frozenset[str] = frozenset()
    # False: it is being set, or that was interrupted.
    settled: bool = True

    @property
    def vgpu_type_id(self) -> str:
        """The only type that is made; empty: none, or any."""
        return "" if self.mode == PASSTHROUGH else self.mode


@dataclass(frozen=True)
class Versions:
    """Of what runs guests on the node, "major.minor.release"; empty: nobody can tell now."""

    libvirt: str = ""
    qemu: str = ""
    kernel: str = ""

    def by_program(self) -> dict[str, str]:
        """As people call them."""
        return {"libvirt": self.libvirt, "QEMU": self.qemu, "Linux": self.kernel}


@dataclass(frozen=True)
class Surroundings:
    """The node as device kinds read it, once for all of them."""

    sysfs: Sysfs
    properties: DeviceProperties
    block_use: BlockUse
    net_use: NetUse = field(default_factory=NetUse)
    gpu_mode: GpuMode = GpuMode()
    # What is known already of places where nothing has happened.
    memory: Memory = field(default_factory=Memory)
    versions: Versions = Versions()
    # Whether guests that run may take vGPUs along, as the node is configured.
    may_move_vgpus: bool = True

    @property
    def guests(self) -> Mapping[str, str] | None:
        """Names of domains by what they have of the host, in the words of `hostdev`; None: nobody can tell now."""
        return self.block_use.guests

    @cached_property
    def pci(self) -> PciBus:
        """All PCI functions."""
        return read_pci_bus(self.sysfs, self.memory)

    @cached_property
    def needs(self) -> Mapping[str, str]:
        """Why the host itself needs a PCI function or a USB device, by its name."""
        return find_host_needs(self.sysfs, self.block_use, self.net_use, self.memory)


# All devices of one kind, withheld ones included.
DeviceKind = Callable[[Surroundings], Iterable[Device]]


def find_pci_address(path: Path) -> str:
    """The address of the PCI function that a device below /sys/devices belongs to; empty when it belongs to none."""
    return next((part for part in reversed(path.parts) if PCI_ADDRESS.fullmatch(part)), "")


def find_numa_node(sysfs: Sysfs, path: Path) -> int:
    """The cell that a device below /sys/devices, or the nearest above it that tells, is attached to."""
    for ancestor in (path, *path.parents):
        text = sysfs.read(f"{ancestor}/numa_node")
        if _NUMBER.fullmatch(text):
            return int(text)
    return UNKNOWN_NUMA_NODE


def find_function_cell(function: PciFunction, around: Surroundings) -> int:
    """The same for a PCI function."""
    return around.memory.recall(function.address, "cell", lambda: find_numa_node(around.sysfs, function.path))


def drop_empty(values: Mapping[str, str]) -> dict[str, str]:
    """Without what is not known."""
    return {name: value for name, value in values.items() if value}
