"""What the host cannot do without: what its disks and its networks depend on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from agent.devices.block_path import find_block_paths
from agent.devices.block_use import BlockUse, find_host_uses
from agent.devices.net_use import NetUse, describe_host_use, find_uppers
from agent.facts.memory import NETWORKS, Memory
from agent.facts.sysfs import Sysfs

PCI_ADDRESS: Final = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
# A bus and the ports on the way from its root hub.
USB_NAME: Final = re.compile(r"\d+-\d+(\.\d+)*")


def find_host_needs(sysfs: Sysfs, block_use: BlockUse, net_use: NetUse, memory: Memory | None = None) -> dict[str, str]:
    """Why the host needs a PCI function or a USB device, by its name; whatever is on the way to one counts, too."""
    needs: dict[str, str] = {}
    for path, reason in (*_disks(sysfs, block_use), *_interfaces(sysfs, net_use, memory or Memory())):
        for part in path.parts:
            if PCI_ADDRESS.fullmatch(part) or USB_NAME.fullmatch(part):
                needs.setdefault(part, reason)
    return needs


def _disks(sysfs: Sysfs, use: BlockUse) -> Iterator[tuple[Path, str]]:
    for name in sysfs.names("class/block"):
        base = f"class/block/{name}"
        if sysfs.exists(f"{base}/partition") or not sysfs.exists(f"{base}/device"):
            continue
        reason = next(find_host_uses(sysfs, use, name), "")
        for path in find_block_paths(sysfs, name) if reason else ():
            yield path, f"the host's disk {name} is {reason}"


def _interfaces(sysfs: Sysfs, use: NetUse, memory: Memory) -> Iterator[tuple[Path, str]]:
    hardware = memory.recall(NETWORKS, "hardware", lambda: _list_hardware(sysfs))
    for name, uppers in hardware.items():
        if reason := describe_host_use(use, name, uppers):
            yield sysfs.follow(f"class/net/{name}"), f"network interface {name} {reason}"


def _list_hardware(sysfs: Sysfs) -> dict[str, Sequence[str]]:
    """What is above each of the interfaces that are hardware."""
    names = [name for name in sysfs.names("class/net") if sysfs.exists(f"class/net/{name}/device")]
    return {name: tuple(find_uppers(sysfs, name)) for name in names}
