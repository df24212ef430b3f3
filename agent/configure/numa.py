"""From which NUMA cells of the node the memory comes, and what the guest sees of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from agent.configure.host_profile import HostProfile
from agent.domainxml.domain import Domain
from agent.domainxml.processor import Cpu, Numa, NumaCell
from agent.domainxml.tuning import MemoryNode, NumaMemory, NumaTune
from protos.agent.v1.domain_pb2 import DomainSpec

_BYTES_PER_KIB = 1024


def configure_numa(domain: Domain, spec: DomainSpec, _host: HostProfile) -> Domain:
    """Strictly: a guest that finds too little memory in its cells fails, rather than being slow for no visible reason.

    Huge pages need no cells named: all of a guest's pages have one size, which counts for each of its cells.
    """
    if not spec.cells:
        return domain
    memory = NumaMemory("strict", frozenset(cell.host_cell for cell in spec.cells))
    if not spec.has_virtual_numa:
        return replace(domain, numa_tune=NumaTune(memory))
    nodes = (MemoryNode(index, "strict", frozenset((cell.host_cell,))) for index, cell in enumerate(spec.cells))
    cpu = replace(domain.cpu or Cpu(), numa=Numa(tuple(_guest_cells(spec))))
    return replace(domain, numa_tune=NumaTune(memory, tuple(nodes)), cpu=cpu)


def _guest_cells(spec: DomainSpec) -> Iterator[NumaCell]:
    first = 0
    for index, cell in enumerate(spec.cells):
        yield NumaCell(index, frozenset(range(first, first + cell.vcpus)), cell.memory_bytes // _BYTES_PER_KIB)
        first += cell.vcpus
