"""Room for vCPUs and memory that a guest gets while it runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from agent.configure.host_profile import HostProfile
from agent.domainxml.domain import Domain
from agent.domainxml.memory import MaxMemory
from agent.domainxml.processor import Cpu, Numa, NumaCell, Topology, Vcpu
from protos.agent.v1.domain_pb2 import DomainSpec

# So many times memory can be plugged in before the guest is started anew.
MEMORY_SLOTS: Final = 16
_BYTES_PER_KIB: Final = 1024


def configure_growth(domain: Domain, spec: DomainSpec, _host: HostProfile) -> Domain:
    """A guest without room is defined as if there were no such thing: what it sees of its hardware stays.

    vCPUs to come are further cores of its socket. Memory can be plugged only into a guest that sees a NUMA cell, so
    it sees one with everything.
    Source: https://libvirt.org/formatdomain.html#memory-allocation, "maxMemory".
    """
    most_vcpus = max(spec.max_vcpus, spec.vcpus)
    if most_vcpus > spec.vcpus:
        cpu = replace(domain.cpu or Cpu(), topology=Topology(sockets=1, cores=most_vcpus, threads=1))
        domain = replace(domain, vcpu=Vcpu(most_vcpus, current=spec.vcpus), cpu=cpu)
    if spec.max_memory_bytes <= spec.memory_bytes:
        return domain
    cell = NumaCell(0, frozenset(range(most_vcpus)), spec.memory_bytes // _BYTES_PER_KIB)
    most = MaxMemory(spec.max_memory_bytes // _BYTES_PER_KIB, MEMORY_SLOTS)
    return replace(domain, max_memory=most, cpu=replace(domain.cpu or Cpu(), numa=Numa((cell,))))
