"""NUMA cells as they are stored, and as the scheduler counts them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from coordinator.domain.cell import Cell, CellShare


def make_cells(
    stored: Sequence[Mapping[str, Any]], reserved_cpus: int, shares: Iterable[CellShare]
) -> tuple[Cell, ...]:
    """The cells of a host with what its consumers have of them.

    The host itself keeps the first cores, as many as hold its reserved CPUs.
    """
    cells = []
    for entry in stored:
        cores = tuple(tuple(core) for core in entry["cores"])
        kept = 0
        while reserved_cpus > 0 and kept < len(cores):
            reserved_cpus -= len(cores[kept])
            kept += 1
        pages = {int(page_kib): memory_mib for page_kib, memory_mib in entry["huge_pages_mib"].items()}
        cells.append(Cell(entry["id"], cores[kept:], entry["memory_mib"], pages))
    by_id = {cell.id: cell for cell in cells}
    for share in shares:
        if share.cell in by_id:
            by_id[share.cell] = by_id[share.cell].taken(share)
    return tuple(by_id[cell.id] for cell in cells)
