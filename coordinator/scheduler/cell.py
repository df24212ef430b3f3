"""What is free in the NUMA cells of all hosts."""

import numpy as np

from coordinator.domain.cell import CellWish
from coordinator.domain.placement import HostView
from coordinator.scheduler.column import FIRST_ROOM, BoolColumn, IntColumn, deepened, widened


class CellColumns:
    """One column a cell, in the order in which hosts have them; hosts with fewer have nothing in the last ones."""

    def __init__(self) -> None:
        self._present: BoolColumn = np.zeros((1, FIRST_ROOM), np.bool_)
        self._vcpus: IntColumn = np.zeros((1, FIRST_ROOM), np.int64)
        self._pinnable: IntColumn = np.zeros_like(self._vcpus)
        self._memory_mib: IntColumn = np.zeros_like(self._vcpus)
        # By the size of a page in KiB.
        self._huge_pages_mib: dict[int, IntColumn] = {}
        # Of whole hosts: CPUs that can still be pinned, and threads of a core.
        self._host_pinnable: IntColumn = np.zeros(FIRST_ROOM, np.int64)
        self._threads: IntColumn = np.ones(FIRST_ROOM, np.int64)

    def put(self, row: int, host: HostView) -> None:
        """The host is what it is now."""
        self._deepen(host)
        ratio, pages = host.cpu_ratio, self._huge_pages_mib
        for columns in (self._present, self._vcpus, self._pinnable, self._memory_mib, *pages.values()):
            columns[:, row] = 0
        for index, cell in enumerate(host.cells):
            self._present[index, row] = True
            self._vcpus[index, row] = cell.free_vcpus(ratio)
            self._pinnable[index, row] = cell.pinnable(ratio)
            self._memory_mib[index, row] = cell.free_memory_mib(0)
            for page_kib in cell.huge_pages_mib:
                pages[page_kib][index, row] = cell.free_memory_mib(page_kib)
        self._host_pinnable[row] = host.pinnable
        self._threads[row] = max((len(core) for cell in host.cells for core in cell.cores), default=1)

    def move(self, row: int, to: int) -> None:
        """The host has another row."""
        for columns in self._all():
            columns[..., to] = columns[..., row]

    def widen(self) -> None:
        """Makes room for twice as many hosts."""
        self._present, self._vcpus = widened(self._present), widened(self._vcpus)
        self._pinnable, self._memory_mib = widened(self._pinnable), widened(self._memory_mib)
        self._huge_pages_mib = {size: widened(columns) for size, columns in self._huge_pages_mib.items()}
        self._host_pinnable, self._threads = widened(self._host_pinnable), widened(self._threads)

    def admit(self, wish: CellWish, rows: int) -> BoolColumn:
        """Which of the first `rows` hosts have cells for the consumer."""
        admitted: BoolColumn = np.zeros(rows, np.bool_)
        for count in range(1, len(self._present) + 1):
            part = wish.part(count)
            if part is not None:
                admitted |= self._admit_part(part, count, rows)
        return admitted

    def _admit_part(self, part: CellWish, count: int, rows: int) -> BoolColumn:
        """Which hosts have so many cells that each hold this part."""
        memory_mib = self._huge_pages_mib.get(part.page_kib) if part.page_kib else self._memory_mib
        if memory_mib is None:
            return np.zeros(rows, np.bool_)
        holding = self._present[:, :rows] & (memory_mib[:, :rows] >= part.memory_mib)
        if not part.dedicated:
            holding &= self._vcpus[:, :rows] >= part.vcpus
            return np.asarray(np.count_nonzero(holding, axis=0) >= count, np.bool_)
        threads = self._threads[:rows]
        whole_cores = -(-part.vcpus // threads) * threads
        holding &= self._pinnable[:, :rows] >= whole_cores
        enough = np.count_nonzero(holding, axis=0) >= count
        return np.asarray(enough & (self._host_pinnable[:rows] >= count * whole_cores), np.bool_)

    def _deepen(self, host: HostView) -> None:
        depth = len(host.cells)
        for page_kib in {size for cell in host.cells for size in cell.huge_pages_mib}:
            self._huge_pages_mib.setdefault(page_kib, np.zeros_like(self._vcpus))
        if depth > len(self._present):
            self._present, self._vcpus = deepened(self._present, depth), deepened(self._vcpus, depth)
            self._pinnable, self._memory_mib = deepened(self._pinnable, depth), deepened(self._memory_mib, depth)
            self._huge_pages_mib = {size: deepened(it, depth) for size, it in self._huge_pages_mib.items()}

    def _all(self) -> tuple[BoolColumn | IntColumn, ...]:
        counted = (self._vcpus, self._pinnable, self._memory_mib, *self._huge_pages_mib.values())
        return (self._present, *counted, self._host_pinnable, self._threads)
