"""NUMA cells as they are stored, and as the scheduler counts them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
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
    pinned: set[int] = set()
    for share in shares:
        pinned.update(share.cpus)
        if share.cell in by_id:
            by_id[share.cell] = by_id[share.cell].taken(share)
    # A CPU is somebody's own wherever it is now: a host that starts with other settings may number its cells anew.
    return tuple(_with_pins(by_id[cell.id], pinned) for cell in cells)


def _with_pins(cell: Cell, pinned: set[int]) -> Cell:
    here = pinned.intersection(cpu for core in cell.cores for cpu in core)
    return cell if here <= cell.pinned else replace(cell, pinned=cell.pinned | here)
