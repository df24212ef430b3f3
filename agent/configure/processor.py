"""Virtual CPUs: how many, how arranged, which model, and the interrupt hardware that many of them need."""

from __future__ import annotations

import math
from dataclasses import replace

from agent.configure.host_cpu import HostCpus
from agent.configure.host_profile import HostProfile
from agent.domainxml.boot import Features, IoApic
from agent.domainxml.domain import Domain
from agent.domainxml.processor import Cpu, CpuFeature, Iommu, IommuDriver, Model, Topology, Vcpu
from agent.errors import CapabilityMissing
from protos.agent.v1.domain_pb2 import CpuMode, DomainSpec

# x86-64-v2 without anything of one vendor first, then older ones: every guest system of the last ten years starts.
_CONSERVATIVE_MODELS = ("Westmere", "Nehalem", "Penryn", "qemu64", "kvm64")
# An APIC id has 8 bits, and 255 addresses all CPUs; a higher one needs x2APIC, which needs interrupt remapping.
_HIGHEST_APIC_ID_WITHOUT_IOMMU = 254
_AMD_VENDORS = ("AMD", "Hygon")


def configure_processor(domain: Domain, spec: DomainSpec, host: HostProfile) -> Domain:
    """One socket with a core for each vCPU, which licences and schedulers of guests like best.

    But vCPUs that are pinned to the threads of whole cores are threads in the guest, too, and no socket spans two NUMA
    cells that the guest sees.
    """
    topology = _topology(spec, host)
    cpu = replace(_cpu(spec, host), topology=topology, features=_features(spec, host, topology))
    domain = replace(domain, vcpu=Vcpu(spec.vcpus), cpu=cpu)
    if _highest_apic_id(topology) <= _HIGHEST_APIC_ID_WITHOUT_IOMMU:
        return domain
    if host.domain_type != "kvm":
        raise CapabilityMissing(f"vcpus: {spec.vcpus} need KVM, which this node lacks")
    # Interrupt remapping works only with QEMU's own I/O APIC, not with the one in the kernel.
    domain = replace(domain, features=replace(domain.features or Features(), io_apic=IoApic("qemu")))
    return domain.with_devices(iommu=Iommu("intel", IommuDriver(intremap=True, eim=True)))


def _topology(spec: DomainSpec, host: HostProfile) -> Topology:
    threads = _threads_per_core(spec, host.cpus)
    socket_vcpus = math.gcd(*(cell.vcpus for cell in spec.cells)) if spec.has_virtual_numa else spec.vcpus
    return Topology(sockets=spec.vcpus // socket_vcpus, cores=socket_vcpus // threads, threads=threads)


def _threads_per_core(spec: DomainSpec, cpus: HostCpus) -> int:
    """How many vCPUs in a row are the threads of one core; 1 when some core is not the guest's as a whole."""
    widths = set()
    for cell in spec.cells:
        pins = list(cell.pinned_cpu_ids)
        while pins:
            core = cpus.core_of(pins[0])
            if core != set(pins[: len(core)]):
                return 1
            widths.add(len(core))
            del pins[: len(core)]
    return widths.pop() if len(widths) == 1 else 1


def _highest_apic_id(topology: Topology) -> int:
    """Threads and cores are numbered in bit fields, so that ids have gaps where their numbers are no powers of two."""
    thread_bits = (topology.threads - 1).bit_length()
    socket_bits = thread_bits + (topology.cores - 1).bit_length()
    return (topology.sockets - 1 << socket_bits) + (topology.cores - 1 << thread_bits) + topology.threads - 1


def _features(spec: DomainSpec, host: HostProfile, topology: Topology) -> tuple[CpuFeature, ...]:
    """CPUs of AMD tell their threads by an extension that QEMU does not pass through by itself.

    Source: QEMU, target/i386/cpu.c, no_autoenable_flags of FEAT_8000_0001_ECX.
    """
    passed_through = spec.cpu_mode != CpuMode.CPU_MODE_CUSTOM and host.domain_type == "kvm"
    if passed_through and topology.threads > 1 and host.cpu_vendor in _AMD_VENDORS:
        return (CpuFeature("require", "topoext"),)
    return ()


def _cpu(spec: DomainSpec, host: HostProfile) -> Cpu:
    if spec.cpu_mode == CpuMode.CPU_MODE_CUSTOM:
        return Cpu("custom", match="exact", check="none", model=Model(_model(spec, host), "forbid"))
    if host.domain_type == "kvm":
        return Cpu("host-passthrough", check="none", migratable=True)
    # Without KVM there is no host CPU to pass through: the nearest is everything that TCG can emulate.
    return Cpu("maximum", check="none", migratable=True)


def _model(spec: DomainSpec, host: HostProfile) -> str:
    if spec.cpu_model:
        if spec.cpu_model not in host.cpu_models:
            raise CapabilityMissing(f"cpu_model: this node cannot run guests with {spec.cpu_model}")
        return spec.cpu_model
    for model in _CONSERVATIVE_MODELS:
        if model in host.cpu_models:
            return model
    raise CapabilityMissing("cpu_model: this node has none of the conservative models")
