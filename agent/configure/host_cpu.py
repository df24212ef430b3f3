"""The CPUs of the node as far as they decide where a guest may run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class HostCell:
    """A NUMA cell of the node."""

    id: int
    # The threads of each physical core; CPUs that are offline are left out.
    cores: tuple[frozenset[int], ...]

    @property
    def cpus(self) -> frozenset[int]:
        """All CPUs of the cell."""
        return frozenset().union(*self.cores)


@dataclass(frozen=True)
class HostCpus:
    """The node's CPUs, and whose they are, as one guest has to see them."""

    cells: tuple[HostCell, ...] = ()
    # CPUs that other guests have for themselves, and the names of these guests.
    taken: Mapping[int, str] = field(default_factory=dict)

    @property
    def online(self) -> frozenset[int]:
        """All CPUs of the node."""
        return frozenset().union(*(cell.cpus for cell in self.cells))

    @property
    def shared(self) -> frozenset[int]:
        """The CPUs that no other guest has for itself."""
        return self.online - self.taken.keys()

    def cell(self, cell_id: int) -> HostCell | None:
        """The cell of this number."""
        return next((cell for cell in self.cells if cell.id == cell_id), None)

    def core_of(self, cpu: int) -> frozenset[int]:
        """The threads of the core that a CPU belongs to; the CPU alone when the node does not have it."""
        cores = (core for cell in self.cells for core in cell.cores if cpu in core)
        return next(cores, frozenset((cpu,)))
