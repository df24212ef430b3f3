"""NUMA cells of hosts, and what consumers get of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil


@dataclass(frozen=True, slots=True)
class Cell:
    """One NUMA cell of one host, and what is taken of it by consumers that were placed in cells."""

    id: int
    # Host CPUs that consumers may have, the threads of a physical core together.
    cores: tuple[tuple[int, ...], ...]
    memory_mib: int
    # MiB of huge pages by the size of a page in KiB; not part of `memory_mib`.
    huge_pages_mib: Mapping[int, int] = field(default_factory=dict)
    pinned: frozenset[int] = frozenset()
    used_vcpus: int = 0
    used_memory_mib: int = 0
    used_huge_pages_mib: Mapping[int, int] = field(default_factory=dict)

    @property
    def cpu_count(self) -> int:
        return sum(map(len, self.cores))

    @property
    def free_cores(self) -> tuple[tuple[int, ...], ...]:
        """Cores of which nobody has pinned a thread."""
        return tuple(core for core in self.cores if self.pinned.isdisjoint(core))

    def free_vcpus(self, ratio: float) -> int:
        """vCPUs that may still float here."""
        return int((self.cpu_count - len(self.pinned)) * ratio) - self.used_vcpus

    def pinnable(self, ratio: float) -> int:
        """CPUs that the vCPUs floating here can do without."""
        return self.cpu_count - len(self.pinned) - ceil(self.used_vcpus / ratio)

    def free_memory_mib(self, page_kib: int) -> int:
        """Memory that may still be taken; of huge pages where a size is named."""
        if page_kib:
            return self.huge_pages_mib.get(page_kib, 0) - self.used_huge_pages_mib.get(page_kib, 0)
        return self.memory_mib - self.used_memory_mib

    def taken(self, share: "CellShare") -> "Cell":
        """With that much less of it free."""
        if share.page_kib:
            used = self.used_huge_pages_mib.get(share.page_kib, 0) + share.memory_mib
            changed = replace(self, used_huge_pages_mib={**self.used_huge_pages_mib, share.page_kib: used})
        else:
            changed = replace(self, used_memory_mib=self.used_memory_mib + share.memory_mib)
        if share.cpus:
            return replace(changed, pinned=changed.pinned.union(share.cpus))
        return replace(changed, used_vcpus=changed.used_vcpus + share.vcpus)


@dataclass(frozen=True, slots=True)
class CellWish:
    """That a consumer is to be placed in NUMA cells, in as few as hold it, the same part in each."""

    vcpus: int
    memory_mib: int
    # Size of the huge pages behind the memory; 0: ordinary pages.
    page_kib: int = 0
    # Host cores of its own instead of a share of the cell's CPUs.
    dedicated: bool = False

    def part(self, cells: int) -> "CellWish | None":
        """What each of so many cells must give; None where it cannot be split evenly."""
        if self.vcpus % cells or self.memory_mib % cells:
            return None
        memory_mib = self.memory_mib // cells
        if self.page_kib and memory_mib * 1024 % self.page_kib:
            return None
        return replace(self, vcpus=self.vcpus // cells, memory_mib=memory_mib)


@dataclass(frozen=True, slots=True)
class CellShare:
    """What a consumer is given of one cell."""

    cell: int
    vcpus: int
    memory_mib: int
    page_kib: int = 0
    # Host CPUs of its own, whole cores: the first `vcpus` run the guest, what is left of the last core idles.
    cpus: tuple[int, ...] = ()
