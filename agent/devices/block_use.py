"""Who uses block devices: mounts, swap, what is built on them, and guests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.devices.hostdev import describe_user
from agent.facts.sysfs import Sysfs


@dataclass(frozen=True)
class BlockUse:
    """What is in use on the node."""

    # Device numbers ("8:1") and kernel names, for file systems over several disks have a number of their own.
    mounted: frozenset[str]
    # Kernel names.
    swaps: frozenset[str]
    # Names of domains by the kernel name of their block device, and by their other devices in the words of `hostdev`.
    # None: nobody can tell at this moment.
    guests: Mapping[str, str] | None


def read_block_use(procfs: Path, guests: Mapping[str, str] | None) -> BlockUse:
    """Reads mounts and swap. Source: proc(5), "/proc/pid/mountinfo", "/proc/swaps"."""
    mounts = [line.split() for line in _lines(procfs / "self/mountinfo")]
    numbers = {fields[2] for fields in mounts if len(fields) > 2}
    # The source is the second field after the dash, which any number of optional ones precede.
    sources = {fields[fields.index("-") + 2] for fields in mounts if "-" in fields[:-2]}
    swaps = {line.split()[0] for line in _lines(procfs / "swaps")[1:] if line.strip()}
    return BlockUse(frozenset(numbers | _kernel_names(sources)), frozenset(_kernel_names(swaps)), guests)


def find_host_uses(sysfs: Sysfs, use: BlockUse, name: str) -> Iterator[str]:
    """What the host itself does with a disk, what matters most to people first; nothing while it does nothing."""
    users = _list_users(sysfs, name)
    if any({user, sysfs.read(f"class/block/{user}/dev")} & use.mounted for user in users):
        yield "mounted"
    if use.swaps.intersection(users):
        yield "used as swap"
    holders = [user for user in users if user != name and not sysfs.exists(f"class/block/{user}/partition")]
    if holders:
        yield f"used by {', '.join(holders)}"


def find_disk_domain(sysfs: Sysfs, use: BlockUse, name: str) -> str:
    """The domain that has the disk or a part of it; empty: none that is known."""
    return next((use.guests[user] for user in _list_users(sysfs, name) if use.guests and user in use.guests), "")


def find_users(sysfs: Sysfs, use: BlockUse, name: str) -> Iterator[str]:
    """What the host and guests do with a disk, what matters most to people first; nothing while it just lies there."""
    yield from find_host_uses(sysfs, use, name)
    if use.guests is None:
        yield "libvirt, which knows the disks of guests, is away"
    if domain := find_disk_domain(sysfs, use, name):
        yield describe_user(domain)


def find_uses(sysfs: Sysfs, use: BlockUse, name: str) -> Iterator[str]:
    """The same, and what somebody has made of the disk, used or not."""
    yield from find_users(sysfs, use, name)
    if len(_list_users(sysfs, name)) > 1:
        yield "has partitions"


def _list_users(sysfs: Sysfs, name: str) -> list[str]:
    """The disk itself, its partitions, and all that is built on either: LVM, RAID, device mapper. Kernel names."""
    base = f"class/block/{name}"
    named = (entry for entry in sysfs.names(base) if entry.startswith(name))
    partitions = [entry for entry in named if sysfs.exists(f"{base}/{entry}/partition")]
    above = dict.fromkeys((*partitions, *sysfs.names(f"{base}/holders")))
    return [name, *(user for direct in above for user in _list_users(sysfs, direct))]


def _kernel_names(paths: Iterable[str]) -> set[str]:
    """Of device files, which may be links of udev's."""
    return {Path(path).resolve().name for path in paths if path.startswith("/dev/")}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
