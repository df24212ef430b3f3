"""What GPUs can be split into, in both frameworks of vGPU drivers.

Mediated devices: a function, or each of its virtual functions, has `mdev_supported_types`. Source: the kernel's
Documentation/driver-api/vfio-mediated-device.rst. Vendor-specific VFIO: each virtual function has a directory `nvidia`.
Source: NVIDIA's "Virtual GPU Software User Guide", "Creating an NVIDIA vGPU on a Linux with KVM Hypervisor".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.devices.base import PASSTHROUGH, GpuMode
from agent.devices.pci import PciFunction
from agent.facts.sysfs import Sysfs
from protos.agent.v1.host_pb2 import Vgpu, VgpuType

MDEV: Final = "mdev"
VENDOR_VFIO: Final = "vendor-vfio"
# The driver's number of a type, in the names that mediated devices have.
TYPE_PREFIX: Final = "nvidia-"
MDEV_TYPES: Final = "mdev_supported_types"
_FRAMEBUFFER: Final = re.compile(r"framebuffer=(\d+)M")
_MAXIMUM: Final = re.compile(r"max_instance=(\d+)")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CREATABLE: Final = re.compile(r"\s*(\d+)\s*:\s*(\S.*?)\s*")
# The framebuffer in GB and the series end the name: "A100-4C", "A100-1-5CME", "T4-2B4"; "M10-0B" has half of one.
_NAMED_GIB: Final = re.compile(r".*-(\d+)[ABCQ][A-Z0-9]*")
_MIB: Final = 1024**2
_GIB: Final = 1024**3


@dataclass
class VgpuSupport:
    """What one GPU can be split into, and what was made of it."""

    # MDEV or VENDOR_VFIO; empty: the driver makes no vGPUs, or not now.
    framework: str = ""
    types: dict[str, VgpuType] = field(default_factory=dict)
    vgpus: list[Vgpu] = field(default_factory=list)

    def can_make(self, type_id: str) -> bool:
        """Whether there is such a type; one of virtual functions is not told any more when all of it is made."""
        return type_id in self.types or any(vgpu.type_id == type_id for vgpu in self.vgpus)

    def add(self, found: VgpuType) -> None:
        """A type of one function: of several functions as much is available as of all together."""
        known = self.types.setdefault(found.id, VgpuType(id=found.id, name=found.name))
        known.framebuffer_bytes = max(known.framebuffer_bytes, found.framebuffer_bytes)
        known.maximum_instances = max(known.maximum_instances, found.maximum_instances)
        known.available_instances += found.available_instances


def read_vgpus(sysfs: Sysfs, function: PciFunction, functions: Mapping[str, PciFunction]) -> VgpuSupport:
    """The vGPUs of a GPU, whose virtual functions are among all `functions`."""
    support = VgpuSupport()
    virtual = [functions[address] for address in function.virtual_functions if address in functions]
    for one in (function, *virtual):
        read_mdevs(sysfs, one.path, support)
    for one in virtual:
        _read_vendor_vfio(sysfs, one, support)
    return support


def restrict_vgpus(support: VgpuSupport, mode: GpuMode) -> VgpuSupport:
    """What is offered of it in this mode; a GPU that cannot make the mode's type is not restricted."""
    if mode.mode == PASSTHROUGH:
        return VgpuSupport(vgpus=support.vgpus)
    if not mode.mode or not support.can_make(mode.mode):
        return support
    only = support.types.get(mode.mode, VgpuType(id=mode.mode))
    return VgpuSupport(support.framework, {mode.mode: only}, support.vgpus)


def read_mdevs(sysfs: Sysfs, path: Path, support: VgpuSupport) -> None:
    """Adds the types of mediated devices that one parent has, and the devices that were made of it."""
    for type_id in sysfs.names(f"{path}/{MDEV_TYPES}"):
        base = f"{path}/{MDEV_TYPES}/{type_id}"
        description = sysfs.read(f"{base}/description")
        support.framework = MDEV
        support.add(
            VgpuType(
                id=type_id,
                name=sysfs.read(f"{base}/name") or type_id,
                framebuffer_bytes=_find_number(_FRAMEBUFFER, description) * _MIB,
                maximum_instances=_find_number(_MAXIMUM, description),
                available_instances=sysfs.read_number(f"{base}/available_instances"),
            )
        )
        made = (name.lower() for name in sysfs.names(f"{base}/devices"))
        support.vgpus.extend(Vgpu(id=uuid, type_id=type_id) for uuid in made if _UUID.fullmatch(uuid))


def locate_vendor_vfio(function: PciFunction) -> str:
    """Where the driver tells of a virtual function's type, whether it does or not."""
    return f"{function.path}/nvidia"


def list_creatable_types(sysfs: Sysfs, function: PciFunction) -> dict[str, str]:
    """Names by id of what a virtual function can become: nothing when it is a vGPU."""
    base = locate_vendor_vfio(function)
    if sysfs.read_number(f"{base}/current_vgpu_type"):
        return {}
    return dict(_parse_creatable(sysfs.read(f"{base}/creatable_vgpu_types").splitlines()))


def _read_vendor_vfio(sysfs: Sysfs, function: PciFunction, support: VgpuSupport) -> None:
    base = locate_vendor_vfio(function)
    if not sysfs.exists(f"{base}/creatable_vgpu_types"):
        return
    support.framework = VENDOR_VFIO
    current = sysfs.read_number(f"{base}/current_vgpu_type")
    if current:
        support.vgpus.append(Vgpu(id=function.address, type_id=f"{TYPE_PREFIX}{current}"))
    for type_id, name in list_creatable_types(sysfs, function).items():
        support.add(VgpuType(id=type_id, name=name, framebuffer_bytes=_named_bytes(name), available_instances=1))


def _parse_creatable(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """ "471   : NVIDIA A100-4C", below a line of headings."""
    for line in lines:
        if match := _CREATABLE.fullmatch(line):
            yield f"{TYPE_PREFIX}{match[1]}", match[2]


def _named_bytes(name: str) -> int:
    """This framework tells sizes by names alone."""
    match = _NAMED_GIB.fullmatch(name)
    return (int(match[1]) * _GIB or _GIB // 2) if match else 0


def _find_number(pattern: re.Pattern[str], text: str) -> int:
    match = pattern.search(text)
    return int(match[1]) if match else 0
