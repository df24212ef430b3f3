"""Whether guests that run can take vGPUs of a GPU along to another node.

Its driver tells only a guest that has the vGPU open: then QEMU refuses to begin. What has to be there for it to tell
anything but no is known before, and so are drivers between which no state can be moved. Source: the kernel's
Documentation of VFIO's migration protocol 2; QEMU's docs/devel/migration/vfio; NVIDIA's "Virtual GPU Software User
Guide", "Migrating a VM Configured with vGPU".
"""

from __future__ import annotations

from typing import Final

from agent.devices.base import Surroundings
from agent.devices.pci import PciFunction

# libvirt asks QEMU instead of refusing every such guest; QEMU's support counts as stable; the kernel's protocol is 2.
_LEAST: Final = {"libvirt": (8, 6), "QEMU": (8, 1), "Linux": (5, 18)}


def find_migration_obstacle(function: PciFunction, around: Surroundings) -> str:
    """Why guests that run stay because of their vGPUs; empty: nothing is known that keeps them."""
    if not around.may_move_vgpus:
        return "the node is configured to keep them (vgpu_migration)"
    for program, version in around.versions.by_program().items():
        if _read_numbers(version) < _LEAST[program]:
            least = ".".join(map(str, _LEAST[program]))
            return f"{program} {version or '(unknown)'} moves no guest with vGPUs: {least} does"
    if not read_driver_release(function, around):
        return f"the driver {function.driver or '(none)'} tells no version that another node's could be compared with"
    return ""


def read_driver_release(function: PciFunction, around: Surroundings) -> str:
    """The driver and its release, "nvidia 550": those of one release understand each other. Empty: it tells none."""
    version = around.sysfs.read(f"module/{function.driver.replace('-', '_')}/version") if function.driver else ""
    release = version.partition(".")[0]
    return f"{function.driver} {release}" if release else ""


def _read_numbers(version: str) -> tuple[int, ...]:
    """ "6.8.0-45-generic" is (6, 8)."""
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else ()
