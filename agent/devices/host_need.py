"""What the host cannot do without: what its disks and its networks depend on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.devices.block_path import find_block_paths
from agent.devices.block_use import BlockUse, find_host_uses
from agent.devices.net_use import NetUse, describe_host_use
from agent.facts.sysfs import Sysfs

PCI_ADDRESS: Final = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
# A bus and the ports on the way from its root hub.
USB_NAME: Final = re.compile(r"\d+-\d+(\.\d+)*")


def find_host_needs(sysfs: Sysfs, block_use: BlockUse, net_use: NetUse) -> dict[str, str]:
    """Why the host needs a PCI function or a USB device, by its name; whatever is on the way to one counts, too."""
    needs: dict[str, str] = {}
    for path, reason in (*_disks(sysfs, block_use), *_interfaces(sysfs, net_use)):
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


def _interfaces(sysfs: Sysfs, use: NetUse) -> Iterator[tuple[Path, str]]:
    for name in sysfs.names("class/net"):
        if sysfs.exists(f"class/net/{name}/device"):
            reason = describe_host_use(sysfs, use, name)
            if reason:
                yield sysfs.follow(f"class/net/{name}"), f"network interface {name} {reason}"
