"""Who uses block devices, as far as /sys does not tell: mounts, swap, and guests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BlockUse:
    """What is in use on the node."""

    # Device numbers ("8:1") and kernel names, for file systems over several disks have a number of their own.
    mounted: frozenset[str]
    # Kernel names.
    swaps: frozenset[str]
    # Names of domains by the kernel name of their block device; None: nobody can tell at this moment.
    guests: Mapping[str, str] | None


def read_block_use(procfs: Path, guests: Mapping[str, str] | None) -> BlockUse:
    """Reads mounts and swap. Source: proc(5), "/proc/pid/mountinfo", "/proc/swaps"."""
    mounts = [line.split() for line in _lines(procfs / "self/mountinfo")]
    numbers = {fields[2] for fields in mounts if len(fields) > 2}
    # The source is the second field after the dash, which any number of optional ones precede.
    sources = {fields[fields.index("-") + 2] for fields in mounts if "-" in fields[:-2]}
    swaps = {line.split()[0] for line in _lines(procfs / "swaps")[1:] if line.strip()}
    return BlockUse(frozenset(numbers | _kernel_names(sources)), frozenset(_kernel_names(swaps)), guests)


def _kernel_names(paths: Iterable[str]) -> set[str]:
    """Of device files, which may be links of udev's."""
    return {Path(path).resolve().name for path in paths if path.startswith("/dev/")}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
