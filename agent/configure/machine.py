"""The machine itself: chipset, ACPI, clock, and what happens when the guest powers off, reboots or crashes."""

from __future__ import annotations

from dataclasses import replace

from agent.configure.host_profile import HostProfile
from agent.domainxml.boot import Features, Os, OsType, Smbios, VmPort
from agent.domainxml.clock import Clock, Timer
from agent.domainxml.device import Panic
from agent.domainxml.domain import Domain, PowerManagement, SuspendToDisk, SuspendToMemory
from agent.errors import CapabilityMissing
from protos.agent.v1.domain_pb2 import DomainSpec

_CLOCK = Clock(
    "utc",
    (
        Timer("rtc", tick_policy="catchup"),
        Timer("pit", tick_policy="delay"),
        # Costs the node's CPU in idle guests, and no guest system of today needs it.
        Timer("hpet", present=False),
    ),
)


def configure_machine(domain: Domain, _spec: DomainSpec, host: HostProfile) -> Domain:
    """A crashed guest stays down, so that it is seen; sleep states are off, as nothing would wake the guest."""
    if host.machines and host.machine not in host.machines:
        raise CapabilityMissing(f"machine: QEMU of this node has no {host.machine}, which the guest has")
    domain = replace(
        domain,
        os=Os(type=OsType("hvm", host.architecture, host.machine), smbios=Smbios("sysinfo")),
        features=Features(acpi=True, apic=True, vmport=VmPort(state=False)),
        clock=_CLOCK,
        on_poweroff="destroy",
        on_reboot="restart",
        on_crash="destroy",
        power_management=PowerManagement(SuspendToMemory(enabled=False), SuspendToDisk(enabled=False)),
    )
    return domain.with_devices(emulator=host.emulator, panic=Panic("isa"))
