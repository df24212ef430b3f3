"""Where the hardware of a block device is below /sys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from agent.facts.sysfs import Sysfs

_NVME_CONTROLLER: Final = re.compile(r"nvme\d+")


def find_block_paths(sysfs: Sysfs, name: str) -> list[Path]:
    """One, or of an NVMe disk with several controllers one for each, the first one first; relative to the root."""
    path = sysfs.locate(f"class/block/{name}")
    controllers = list_nvme_controllers(sysfs, name)
    if "virtual" in path.parts and controllers:
        return [sysfs.locate(f"class/block/{name}/device/{controller}") for controller in controllers]
    return [path]


def list_nvme_controllers(sysfs: Sysfs, name: str) -> list[str]:
    """The controllers of an NVMe disk that has several, in their order."""
    return [entry for entry in sysfs.names(f"class/block/{name}/device") if _NVME_CONTROLLER.fullmatch(entry)]
