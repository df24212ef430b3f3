"""What a domain is at one moment, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import libvirt
from lxml import etree

from agent.domainxml.character import GUEST_AGENT_CHANNEL
from agent.domainxml.element import parse_document
from agent.domainxml.metadata import NAMESPACE, Ownership
from agent.domainxml.summary import DomainSummary

_BYTES_PER_KIB = 1024


class PowerState(Enum):
    """What a domain does; the values are the words of the agent's API."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    SHUTOFF = "SHUTOFF"
    CRASHED = "CRASHED"
    SUSPENDED = "SUSPENDED"
    ABSENT = "ABSENT"
    # Off, with its memory on disk.
    HIBERNATED = "HIBERNATED"


_STATES: Final = {
    libvirt.VIR_DOMAIN_NOSTATE: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_RUNNING: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: PowerState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: PowerState.SHUTTING_DOWN,
    libvirt.VIR_DOMAIN_SHUTOFF: PowerState.SHUTOFF,
    libvirt.VIR_DOMAIN_CRASHED: PowerState.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: PowerState.SUSPENDED,
}


def _reason_words(state_name: str) -> dict[int, str]:
    """libvirt's own names for the reasons of a state: VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT is "from-snapshot"."""
    prefix = f"VIR_DOMAIN_{state_name}_"
    return {
        number: name.removeprefix(prefix).lower().replace("_", "-")
        for name, number in vars(libvirt).items()
        if name.startswith(prefix)
    }


_REASONS: Final = {
    libvirt.VIR_DOMAIN_RUNNING: _reason_words("RUNNING"),
    libvirt.VIR_DOMAIN_PAUSED: _reason_words("PAUSED"),
    libvirt.VIR_DOMAIN_SHUTDOWN: _reason_words("SHUTDOWN"),
    libvirt.VIR_DOMAIN_SHUTOFF: _reason_words("SHUTOFF"),
    libvirt.VIR_DOMAIN_CRASHED: _reason_words("CRASHED"),
    libvirt.VIR_DOMAIN_PMSUSPENDED: _reason_words("PMSUSPENDED"),
}


@dataclass(frozen=True)
class GuestDescription:
    """A domain as libvirt knows it."""

    uuid: str
    name: str
    power_state: PowerState
    power_state_reason: str
    foreign: bool
    # Of the definition that counts from the next start; 0 for a foreign domain.
    generation: int
    # libvirt's name of the machine and its version, "pc-q35-7.2"; empty when it has none.
    machine: str
    vcpus: int
    memory_bytes: int
    # Empty and 0 when there is no VNC server at this moment.
    vnc_address: str
    vnc_port: int
    # Whether somebody in the guest has opened the guest agent's channel.
    channel_connected: bool
    # Must not run here without a lease.
    ha_enabled: bool = False


def absent(uuid: str, name: str) -> GuestDescription:
    """A domain that is not there any more."""
    return GuestDescription(uuid, name, PowerState.ABSENT, "", False, 0, "", 0, 0, "", 0, False)


def name_saved_memory(directory: Path, domain: libvirt.virDomain) -> Path:
    """The file from which libvirt starts the domain when it is there."""
    return directory / f"{domain.name()}.save"


def read_power_state(domain: libvirt.virDomain, saved_memory: Path | None = None) -> PowerState:
    """What one domain does; blocks.

    `saved_memory` is where libvirt keeps what it saves: what was put there by others it notices late.
    """
    state, reason = domain.state()
    return _power_state(domain, state, reason, saved_memory)


def describe(domain: libvirt.virDomain, saved_memory: Path | None = None) -> GuestDescription:
    """Reads one domain; blocks. See `read_power_state`."""
    state, reason = domain.state()
    summary = parse_document(DomainSummary, domain.XMLDesc(0))
    ownership = read_ownership(domain)
    address, port = _vnc(summary)
    return GuestDescription(
        uuid=domain.UUIDString(),
        name=domain.name(),
        power_state=_power_state(domain, state, reason, saved_memory),
        power_state_reason=_REASONS.get(state, {}).get(reason, "unknown"),
        foreign=ownership is None,
        generation=ownership.generation if ownership else 0,
        machine=(summary.os.type and summary.os.type.machine) or "",
        vcpus=(summary.vcpu.current or summary.vcpu.count) if summary.vcpu else 0,
        memory_bytes=summary.memory.amount * _BYTES_PER_KIB if summary.memory else 0,
        vnc_address=address,
        vnc_port=port,
        channel_connected=any(
            channel.target.name == GUEST_AGENT_CHANNEL and channel.target.state == "connected"
            for channel in summary.devices.channels
        ),
        ha_enabled=bool(ownership and ownership.ha_enabled),
    )


def read_ownership(domain: libvirt.virDomain, scope: int | None = None) -> Ownership | None:
    """Our mark in the domain's definition, None when it is foreign; blocks.

    The scope is one of libvirt's VIR_DOMAIN_AFFECT_…; by itself it is what counts from the next start.
    """
    if scope is None:
        scope = libvirt.VIR_DOMAIN_AFFECT_CONFIG if domain.isPersistent() else libvirt.VIR_DOMAIN_AFFECT_LIVE
    try:
        document = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, scope)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            return None
        raise
    # libvirt answers the element without its namespace, which it takes as known.
    found = etree.fromstring(f'<metadata xmlns="{NAMESPACE}">{document}</metadata>').find(Ownership.qualified_tag())
    return None if found is None else Ownership.parse(found)


def _power_state(domain: libvirt.virDomain, state: int, reason: int, saved_memory: Path | None) -> PowerState:
    if state == libvirt.VIR_DOMAIN_SHUTOFF and _is_saved(domain, saved_memory):
        return PowerState.HIBERNATED
    if state == libvirt.VIR_DOMAIN_SHUTOFF and reason == libvirt.VIR_DOMAIN_SHUTOFF_CRASHED:
        return PowerState.CRASHED
    return _STATES.get(state, PowerState.RUNNING)


def _is_saved(domain: libvirt.virDomain, saved_memory: Path | None) -> bool:
    """Whether libvirt starts the domain from its memory, whatever ended it, also after a reboot of the node."""
    if saved_memory is not None and name_saved_memory(saved_memory, domain).exists():
        return bool(domain.isPersistent())
    try:
        return bool(domain.hasManagedSaveImage())
    except libvirt.libvirtError as error:
        # Not every driver can save, and a transient domain is gone with its process.
        if error.get_error_code() not in (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_OPERATION_INVALID):
            raise
        return False


def _vnc(summary: DomainSummary) -> tuple[str, int]:
    for graphics in summary.devices.graphics:
        if graphics.type == "vnc" and graphics.port is not None and graphics.port > 0:
            return (graphics.listen and graphics.listen.address) or "", graphics.port
    return "", 0
