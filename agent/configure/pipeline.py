"""All configurators, in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agent.configure.affinity import configure_affinity
from agent.configure.check import check_spec
from agent.configure.cloud_init import configure_cloud_init
from agent.configure.console import configure_console
from agent.configure.disk import configure_disks
from agent.configure.firmware import configure_firmware
from agent.configure.graphics import configure_graphics
from agent.configure.growth import configure_growth
from agent.configure.guest_agent import configure_guest_agent
from agent.configure.host_device import configure_host_devices
from agent.configure.host_profile import HostProfile
from agent.configure.identity import configure_identity
from agent.configure.io_thread import configure_io_threads
from agent.configure.machine import configure_machine
from agent.configure.memory import configure_memory
from agent.configure.nic import configure_nics
from agent.configure.numa import configure_numa
from agent.configure.optical import configure_optical_drives
from agent.configure.pcie import configure_pcie
from agent.configure.processor import configure_processor
from agent.configure.rng import configure_rng
from agent.configure.tpm import configure_tpm
from agent.domainxml.domain import Domain
from agent.errors import CapabilityMissing
from protos.agent.v1.domain_pb2 import DomainSpec
from protos.agent.v1.host_pb2 import Architecture

Configurator = Callable[[Domain, DomainSpec, HostProfile], Domain]

# The machine comes first, since others refine what it sets; devices of the node and the ports come last, since they
# count the others.
CONFIGURATORS: Final[tuple[Configurator, ...]] = (
    configure_identity,
    configure_machine,
    configure_memory,
    configure_processor,
    configure_numa,
    configure_growth,
    configure_firmware,
    configure_tpm,
    configure_disks,
    configure_io_threads,
    configure_affinity,
    configure_cloud_init,
    configure_optical_drives,
    configure_nics,
    configure_graphics,
    configure_console,
    configure_guest_agent,
    configure_rng,
    configure_host_devices,
    configure_pcie,
)
_ARCHITECTURES = {Architecture.ARCHITECTURE_X86_64: "x86_64", Architecture.ARCHITECTURE_AARCH64: "aarch64"}


def build_domain(spec: DomainSpec, host: HostProfile) -> Domain:
    """The libvirt domain for what is asked, on this node.

    Raises RequestInvalid for a field that is wrong, CapabilityMissing for one that this node cannot provide,
    CpuPinned and CpusExhausted when other guests have the CPUs.
    """
    check_spec(spec)
    architecture = _ARCHITECTURES.get(spec.architecture, host.architecture)
    if architecture != host.architecture:
        raise CapabilityMissing(f"architecture: this node runs {host.architecture} guests, not {architecture}")
    domain = Domain(host.domain_type)
    for configure in CONFIGURATORS:
        domain = configure(domain, spec, host)
    return domain
