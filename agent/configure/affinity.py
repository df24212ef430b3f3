"""On which CPUs of the node a guest runs.

A dedicated guest has one CPU for each vCPU. All other guests float over what no dedicated one has, those with cells
over the CPUs of these cells alone. The rest of QEMU (its main loop, its I/O threads) runs beside the guest, where it
disturbs no pinned vCPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from agent.configure.host_cpu import HostCell, HostCpus
from agent.configure.host_profile import HostProfile
from agent.domainxml.domain import Domain
from agent.domainxml.metadata import PlacedCell
from agent.domainxml.tuning import CpuTune, EmulatorPin, IoThreadPin, VcpuPin
from agent.errors import CpuPinned, CpusExhausted, RequestInvalid
from protos.agent.v1.domain_pb2 import DomainSpec


@dataclass(frozen=True)
class Affinity:
    """The CPUs that each vCPU may use, and those for the rest of QEMU."""

    vcpus: tuple[frozenset[int], ...]
    emulator: frozenset[int]


def configure_affinity(domain: Domain, spec: DomainSpec, host: HostProfile) -> Domain:
    """Nothing is written for a guest that may run everywhere: that stays true when CPUs are added to the node."""
    cells = place_cells(spec)
    _check_cells(spec, host.cpus)
    if not cells and not host.cpus.taken:
        return domain
    affinity = plan_affinity(cells, spec.vcpus, host.cpus)
    pins = tuple(VcpuPin(number, cpus) for number, cpus in enumerate(affinity.vcpus))
    io_threads = range(1, (domain.io_threads or 0) + 1)
    io_pins = tuple(IoThreadPin(number, affinity.emulator) for number in io_threads)
    return replace(domain, cpu_tune=CpuTune(pins, EmulatorPin(affinity.emulator), io_pins))


def place_cells(spec: DomainSpec) -> tuple[PlacedCell, ...]:
    """The guest's cells as its definition keeps them."""
    return tuple(PlacedCell(cell.host_cell, cell.vcpus, tuple(cell.pinned_cpu_ids) or None) for cell in spec.cells)


def plan_affinity(cells: Sequence[PlacedCell], vcpus: int, host: HostCpus) -> Affinity:
    """Where a guest with these cells runs beside the others. Raises CpusExhausted when it has nowhere to float."""
    if not cells:
        if not host.shared:
            raise CpusExhausted("vcpus: every CPU of the node is pinned by another guest")
        return Affinity((host.shared,) * vcpus, host.shared)
    affinities = tuple(cpus for cell in cells for cpus in _cell_affinities(cell, host))
    own = frozenset().union(*affinities)
    if not any(cell.pins for cell in cells):
        return Affinity(affinities, own)
    return Affinity(affinities, _emulator_cpus(cells, own, host))


def _cell_affinities(cell: PlacedCell, host: HostCpus) -> Iterator[frozenset[int]]:
    if cell.pins:
        yield from (frozenset((cpu,)) for cpu in cell.pins)
        return
    floating = _cpus_of(cell, host) & host.shared
    if not floating:
        raise CpusExhausted(f"cells: every CPU of cell {cell.host_cell} is pinned by another guest")
    yield from (floating,) * cell.vcpus


def _emulator_cpus(cells: Sequence[PlacedCell], own: frozenset[int], host: HostCpus) -> frozenset[int]:
    """Near the guest's memory, else anywhere, and on the guest's own CPUs only where nothing else is left."""
    shared = host.shared - own
    near = shared & frozenset().union(*(_cpus_of(cell, host) for cell in cells))
    return near or shared or own


def _cpus_of(cell: PlacedCell, host: HostCpus) -> frozenset[int]:
    found = host.cell(cell.host_cell)
    return found.cpus if found else frozenset()


def _check_cells(spec: DomainSpec, host: HostCpus) -> None:
    for cell in spec.cells:
        found = host.cell(cell.host_cell)
        if found is None:
            raise RequestInvalid(f"spec.cells.host_cell: this node has no NUMA cell {cell.host_cell}")
        _check_pins(cell.pinned_cpu_ids, found, host)


def _check_pins(pins: Sequence[int], cell: HostCell, host: HostCpus) -> None:
    for cpu in pins:
        if cpu not in cell.cpus:
            raise RequestInvalid(f"spec.cells.pinned_cpu_ids: cell {cell.id} has no CPU {cpu} that is online")
        if cpu in host.taken:
            raise CpuPinned(f"spec.cells.pinned_cpu_ids: CPU {cpu} is pinned by {host.taken[cpu]}")
