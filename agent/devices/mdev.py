"""Devices besides GPUs that are split into mediated devices, whatever their drivers make of it.

Source: the kernel's Documentation/driver-api/vfio-mediated-device.rst, "Mediated device management interface".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent.devices.base import Surroundings, drop_empty, find_numa_node
from agent.devices.gpu import is_gpu
from agent.devices.passthrough import describe_function, find_uses
from agent.devices.vgpu import VgpuSupport, read_mdevs
from protos.agent.v1.host_pb2 import Device

_PARENTS: Final = "class/mdev_bus"


def discover_mdev_parents(around: Surroundings) -> Iterator[Device]:
    """Every parent of mediated devices that is no GPU, and no virtual function of one."""
    for name in around.sysfs.names(_PARENTS):
        function = around.pci.functions.get(name)
        if function is None or not is_gpu(function):
            yield _describe(name, around)


def _describe(name: str, around: Surroundings) -> Device:
    sysfs, path = around.sysfs, around.sysfs.follow(f"{_PARENTS}/{name}")
    support = VgpuSupport()
    read_mdevs(sysfs, path, support)
    function = around.pci.functions.get(name)
    attributes = {"vendor": function.vendor_id, "product": function.product_id} if function else {"model": name}
    made = sorted(support.vgpus, key=lambda vgpu: vgpu.id)
    driver = sysfs.link_name(f"{path}/driver")
    return Device(
        # A network card may be one of these, too, under its address.
        id=f"mdev-{name}",
        kind="mdev",
        attributes=attributes,
        numa_node=find_numa_node(sysfs, path),
        details=describe_function(function, around) if function else drop_empty({"driver": driver}),
        shareable=True,
        vgpu_types=[support.types[type_id] for type_id in sorted(support.types)],
        vgpus=made,
        withheld_reason=next(find_uses([function] if function else [], around), ""),
    )
