"""Virtual CPUs: how many, which model, and the interrupt hardware that many of them need."""

from __future__ import annotations

from dataclasses import replace

from agent.configure.host_profile import HostProfile
from agent.domainxml.boot import Features, IoApic
from agent.domainxml.domain import Domain
from agent.domainxml.processor import Cpu, Iommu, IommuDriver, Model, Topology, Vcpu
from agent.errors import CapabilityMissing
from protos.agent.v1.domain_pb2 import CpuMode, DomainSpec

# x86-64-v2 without anything of one vendor first, then older ones: every guest system of the last ten years starts.
_CONSERVATIVE_MODELS = ("Westmere", "Nehalem", "Penryn", "qemu64", "kvm64")
# An APIC id has 8 bits; one more CPU needs x2APIC, which needs interrupt remapping.
_MOST_VCPUS_WITHOUT_IOMMU = 255


def configure_processor(domain: Domain, spec: DomainSpec, host: HostProfile) -> Domain:
    """One socket with a core for each vCPU: licences and schedulers of guests like that best."""
    topology = Topology(sockets=1, cores=spec.vcpus, threads=1)
    domain = replace(domain, vcpu=Vcpu(spec.vcpus), cpu=replace(_cpu(spec, host), topology=topology))
    if spec.vcpus <= _MOST_VCPUS_WITHOUT_IOMMU:
        return domain
    if host.domain_type != "kvm":
        raise CapabilityMissing(f"vcpus: more than {_MOST_VCPUS_WITHOUT_IOMMU} need KVM, which this node lacks")
    # Interrupt remapping works only with QEMU's own I/O APIC, not with the one in the kernel.
    domain = replace(domain, features=replace(domain.features or Features(), io_apic=IoApic("qemu")))
    return domain.with_devices(iommu=Iommu("intel", IommuDriver(intremap=True, eim=True)))


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
