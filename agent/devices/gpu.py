"""GPUs, whole or split into vGPUs, and other accelerators that are asked for by the same name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent.devices.base import PASSTHROUGH, Surroundings, find_function_cell
from agent.devices.passthrough import describe_function, find_obstacles, find_uses
from agent.devices.pci import PciFunction
from agent.devices.vgpu import VENDOR_VFIO, VgpuSupport, read_vgpus, restrict_vgpus
from agent.devices.vgpu_migration import find_migration_obstacle, read_driver_release
from protos.agent.v1.host_pb2 import Device

_DISPLAY: Final = 0x03
# Earlier ones (9.0 of Debian 12 for certain) know a driver for guests by its name alone, and refuse unmanaged functions
# of all others when the guest starts; a managed one they would take away from the driver that makes the vGPU. This one
# knows such drivers by `vfio-dev` in sysfs. Source: libvirt's virpci.c, virPCIDeviceGetCurrentDriverNameAndType.
_VARIANT_LIBVIRT: Final = (10, 0, 0)
_PLAIN_VFIO: Final = "vfio-pci"
_ACCELERATOR: Final = 0x12
# Whose accelerators are GPUs to those who ask for them; those of others are FPGAs, NPUs of laptops and the like.
_ACCELERATOR_VENDORS: Final = frozenset(("10de", "1002", "19e5", "1d94", "1e3e", "cabc"))
# Displays that cannot compute: of BMCs (ASPEED, Matrox), of hypervisors (QEMU, Red Hat, Cirrus, VMware, VirtualBox).
_PLAIN_DISPLAY_VENDORS: Final = frozenset(("1a03", "102b", "1234", "1af4", "1b36", "1013", "15ad", "80ee"))
# Functions of a graphics card besides the GPU: audio, USB-C controller, and the serial bus that manages its ports.
_COMPANION_CLASSES: Final = frozenset((0x0401, 0x0403, 0x0C03, 0x0C80))


def discover_gpus(around: Surroundings) -> Iterator[Device]:
    """Every GPU, and of those whose driver splits them into virtual functions for guests these; other displays, too."""
    functions = around.pci.functions
    for function in functions.values():
        if not is_gpu(function) or function.physical_function in functions:
            continue
        support = restrict_vgpus(read_vgpus(around.sysfs, function, functions), around.gpu_mode)
        yield _describe_gpu(function, support, around)
        for address in () if support.framework else function.virtual_functions:
            if address in functions:
                yield _describe_virtual_function(functions[address], around)


def is_gpu(function: PciFunction) -> bool:
    """Whether it is a GPU or an accelerator; a display that cannot compute is one, too, to be shown as withheld."""
    if function.base_class == _ACCELERATOR:
        return function.vendor_id in _ACCELERATOR_VENDORS
    return function.base_class == _DISPLAY


def find_companions(function: PciFunction, around: Surroundings) -> list[PciFunction]:
    """The other functions of its card: what a guest could do to them would outlast it."""
    return [
        one
        for one in around.pci.slots[function.slot]
        if one is not function and one.class_code >> 8 in _COMPANION_CLASSES
    ]


def _describe_gpu(function: PciFunction, support: VgpuSupport, around: Surroundings) -> Device:
    companions = find_companions(function, around)
    is_split = bool(support.framework)
    obstacles = _find_split_obstacles if is_split else _find_whole_obstacles
    kind = "display" if function.vendor_id in _PLAIN_DISPLAY_VENDORS else "gpu"
    device = _describe(function, around, kind, mode="vgpu" if is_split else PASSTHROUGH)
    if is_split and around.gpu_mode.vgpu_type_id in support.types:
        device.attributes["vgpu_type"] = around.gpu_mode.vgpu_type_id
    device.details.update(_describe_card(function, companions, support, around))
    if is_split:
        _describe_migration(device, function, around)
    device.shareable = is_split
    device.vgpu_types.extend(support.types[type_id] for type_id in sorted(support.types))
    device.vgpus.extend(sorted(support.vgpus, key=lambda vgpu: vgpu.id))
    device.size_bytes = max((one.framebuffer_bytes * one.maximum_instances for one in device.vgpu_types), default=0)
    device.withheld_reason = next(obstacles(function, companions, support, around), "")
    return device


def _describe_migration(device: Device, function: PciFunction, around: Surroundings) -> None:
    """What the other node must have, too; or why guests that run stay."""
    if obstacle := find_migration_obstacle(function, around):
        device.details["vgpu_migration_obstacle"] = obstacle
    else:
        device.attributes["vgpu_migration"] = read_driver_release(function, around)


def _describe_virtual_function(function: PciFunction, around: Surroundings) -> Device:
    device = _describe(function, around, "gpu-vf")
    device.withheld_reason = next(find_obstacles(function, (), around), "")
    return device


def _describe(function: PciFunction, around: Surroundings, kind: str, **attributes: str) -> Device:
    return Device(
        id=function.address,
        kind=kind,
        attributes={"vendor": function.vendor_id, "product": function.product_id, **attributes},
        numa_node=find_function_cell(function, around),
        details=describe_function(function, around),
    )


def _describe_card(
    function: PciFunction, companions: list[PciFunction], support: VgpuSupport, around: Surroundings
) -> dict[str, str]:
    total = around.sysfs.read_number(f"{function.path}/sriov_totalvfs")
    details = {
        "companions": ",".join(one.address for one in companions),
        "vgpu_framework": support.framework,
        "sriov_total": str(total) if total else "",
        "sriov_enabled": str(len(function.virtual_functions)) if total else "",
    }
    return {name: value for name, value in details.items() if value}


def find_plain_obstacles(function: PciFunction, around: Surroundings) -> Iterator[str]:
    """Why it is no GPU for guests, whoever uses it."""
    if function.vendor_id in _PLAIN_DISPLAY_VENDORS:
        yield "a display of a BMC or of a hypervisor, not a GPU"
    if around.sysfs.read(f"{function.path}/boot_vga") == "1":
        yield "the host's own display"


def _find_whole_obstacles(
    function: PciFunction, companions: list[PciFunction], support: VgpuSupport, around: Surroundings
) -> Iterator[str]:
    yield from find_plain_obstacles(function, around)
    mode = around.gpu_mode
    if mode.vgpu_type_id and (function.address in mode.split_ids or not mode.settled):
        yield f"is to be split into {mode.vgpu_type_id}, which its driver does not do now"
    if support.vgpus:
        yield f"has {len(support.vgpus)} vGPUs, which would go with it"
    yield from find_obstacles(function, companions, around)
    if function.virtual_functions:
        yield f"has {len(function.virtual_functions)} virtual functions, which would go with it"


def _find_split_obstacles(
    function: PciFunction, companions: list[PciFunction], support: VgpuSupport, around: Surroundings
) -> Iterator[str]:
    """Guests get none of its functions but virtual ones: what else is in its IOMMU group does not matter."""
    yield from find_plain_obstacles(function, around)
    yield from find_uses((function, *companions), around)
    virtual = [around.pci.functions.get(address) for address in function.virtual_functions]
    if support.framework == VENDOR_VFIO and not all(one and one.iommu_group for one in virtual):
        yield "its virtual functions are in no IOMMU group: the IOMMU is off, or does not reach them"
    if support.framework == VENDOR_VFIO and _is_too_old(around.versions.libvirt):
        drivers = sorted({one.driver for one in virtual if one} - {"", _PLAIN_VFIO})
        if drivers:
            needed = ".".join(map(str, _VARIANT_LIBVIRT))
            yield f"libvirt {around.versions.libvirt} gives no function of driver {drivers[0]} to guests: {needed} does"


def _is_too_old(libvirt_version: str) -> bool:
    """Whether libvirt takes only what vfio-pci itself has; a version that is not known is none."""
    numbers = tuple(int(part) for part in libvirt_version.split(".") if part.isdecimal())
    return bool(numbers) and numbers < _VARIANT_LIBVIRT
