"""Name, UUID, title and the mark that the domain is ours."""

from __future__ import annotations

from dataclasses import replace

from agent.configure.affinity import place_cells
from agent.configure.host_device import mark_device
from agent.configure.host_profile import HostProfile
from agent.domainxml.boot import SystemEntry, SystemInformation, SystemTable
from agent.domainxml.domain import Domain
from agent.domainxml.metadata import Label, Metadata, Ownership
from protos.agent.v1.domain_pb2 import DomainSpec


def configure_identity(domain: Domain, spec: DomainSpec, _host: HostProfile) -> Domain:
    """The guest finds its UUID and its maker in SMBIOS; an operator finds the labels in virsh."""
    labels = tuple(Label(name, value) for name, value in sorted(spec.labels.items()))
    system = (
        SystemEntry("manufacturer", "Nodewright"),
        SystemEntry("product", "Nodewright Compute"),
        SystemEntry("serial", spec.uuid),
        SystemEntry("uuid", spec.uuid),
    )
    devices = tuple(map(mark_device, spec.host_devices))
    ownership = Ownership(spec.generation, labels, place_cells(spec), spec.ha_enabled or None, devices)
    return replace(
        domain,
        name=spec.name,
        uuid=spec.uuid,
        title=spec.title or None,
        metadata=Metadata(ownership),
        system_information=SystemInformation("smbios", SystemTable(system)),
    )
