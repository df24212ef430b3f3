"""Ports as network cards of the guest."""

from __future__ import annotations

from agent.configure.host_profile import HostProfile
from agent.domainxml.address import Alias
from agent.domainxml.domain import Domain
from agent.domainxml.interface import (
    Interface,
    InterfaceDriver,
    InterfaceModel,
    InterfaceSource,
    MacAddress,
)
from agent.errors import RequestInvalid
from protos.agent.v1.domain_pb2 import DomainSpec, Nic

# The kernel's tap device takes no more, and more than this brings nothing.
_MOST_QUEUES = 8


def configure_nics(domain: Domain, spec: DomainSpec, host: HostProfile) -> Domain:
    """Cards keep the order of the request; the alias of each names its port."""
    return domain.with_devices(interfaces=tuple(_interface(nic, spec, host) for nic in spec.nics))


def _interface(nic: Nic, spec: DomainSpec, host: HostProfile) -> Interface:
    network = host.networks.get(nic.subnet_id)
    if network is None:
        raise RequestInvalid(f"nics.subnet_id: subnet {nic.subnet_id} is not on this node")
    queues = min(spec.vcpus, _MOST_QUEUES)
    # Queues are worked by vhost in the kernel, which QEMU uses together with KVM only.
    multiqueue = host.domain_type == "kvm" and queues > 1
    return Interface(
        "network",
        mac=MacAddress(nic.mac_address),
        source=InterfaceSource(network.name),
        model=InterfaceModel("virtio"),
        driver=InterfaceDriver(queues) if multiqueue else None,
        alias=Alias(f"ua-{nic.port_id}"),
    )
