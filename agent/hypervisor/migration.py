"""One migration as libvirt does it: from host to host, with the agent as a spectator.

Source: https://libvirt.org/migration.html, https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainMigrateToURI3.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import libvirt
import libvirt_qemu
from lxml import etree

from agent.configure.host_profile import HostProfile
from agent.domainxml.transfer import (
    adapt_definition,
    adapt_domain,
    find_blockers,
    find_cluster_disks,
    find_disk_targets,
    find_nvram,
    find_vgpu_names,
    has_coherent_disks,
    has_other_devices,
)
from agent.errors import GuestIncompatible, RequestInvalid
from agent.hypervisor.connection import Connection
from agent.hypervisor.description import PowerState, describe
from agent.hypervisor.guest import find_owned

# With the secrets, which the guest has on the other side, too.
_LIVE: Final = libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE
_ALWAYS: Final = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
)


@dataclass(frozen=True)
class MigrationOrder:
    """What is moved where, and how."""

    uuid: str
    migration_id: str
    # libvirt of the target, the name in its certificate, and its address for memory and disks.
    uri: str
    certificate_name: str
    data_address: str
    # The guest's definition on the target; holds the VNC password.
    definition_xml: str
    copied_volume_uuids: tuple[str, ...] = ()
    tls: bool = False
    # 0: all.
    bandwidth_mib_per_second: int = 0
    # 0: as QEMU has it.
    max_downtime_ms: int = 0
    # What it may grow to; 0: it stays.
    most_downtime_ms: int = 0
    auto_converge: bool = False
    allow_post_copy: bool = False
    # 0: no multifd.
    multifd_channels: int = 0
    stalled_iterations: int = 5
    most_iterations: int = 50


@dataclass(frozen=True)
class MigrationStats:
    """What libvirt tells of a migration that runs; 0 where it does not know."""

    elapsed_seconds: float = 0.0
    memory_total_bytes: int = 0
    memory_done_bytes: int = 0
    memory_remaining_bytes: int = 0
    disk_total_bytes: int = 0
    disk_done_bytes: int = 0
    disk_remaining_bytes: int = 0
    bytes_per_second: int = 0
    memory_iteration: int = 0
    dirty_bytes_per_second: int = 0
    expected_downtime_ms: int = 0
    throttle_percent: int = 0


@dataclass(frozen=True)
class OutgoingGuest:
    """What a target has to know of a guest, and what keeps the guest here."""

    machine: str
    cpu_xml: str
    # Kind, and words for people.
    blockers: tuple[tuple[str, str], ...]


async def inspect_outgoing(connection: Connection, uuid: str, host: HostProfile) -> OutgoingGuest:
    """Reads a guest of ours. Raises DomainNotFound, DomainForeign."""

    def run(handle: libvirt.virConnect) -> OutgoingGuest:
        domain = find_owned(handle, uuid)
        live_xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_UPDATE_CPU)
        description = describe(domain)
        blockers = find_blockers(live_xml, str(host.seed(uuid)))
        if description.power_state not in (PowerState.RUNNING, PowerState.PAUSED):
            blockers.append(("off", f"the guest is {description.power_state.value}"))
        else:
            blockers += [("vgpu", reason) for reason in _ask_qemu(domain, live_xml)]
        return OutgoingGuest(description.machine, read_cpu(handle, live_xml, host), tuple(blockers))

    return await connection.call(run)


def _ask_qemu(domain: libvirt.virDomain, live_xml: str) -> list[str]:
    """Why vGPUs stay: their driver tells it to none but the QEMU that has them open. Empty where QEMU cannot tell.

    Other devices may have reasons, too, and are given back before the guest goes.
    """
    names = find_vgpu_names(live_xml)
    if not names:
        return []
    answer = json.loads(libvirt_qemu.qemuMonitorCommand(domain, json.dumps({"execute": "query-migrate"}), 0))
    reasons = answer.get("return", {}).get("blocked-reasons", [])
    is_alone = not has_other_devices(live_xml)
    return [reason for reason in reasons if is_alone or any(name in reason for name in names)]


def read_cpu(handle: libvirt.virConnect, live_xml: str, host: HostProfile) -> str:
    """The guest's CPU; in place of "whatever the host has", which no other host can be compared with, its model."""
    cpu = etree.fromstring(live_xml.encode()).find("cpu")
    if cpu is None:
        return ""
    if cpu.get("mode") == "host-passthrough":
        capabilities = handle.getDomainCapabilities(host.emulator, host.architecture, host.machine, host.domain_type)
        model = etree.fromstring(capabilities.encode()).find("cpu/mode[@name='host-model']")
        if model is None:
            return ""
        cpu = etree.Element("cpu", mode="custom", match="exact")
        cpu.extend(list(model))
    return etree.tostring(cpu, encoding="unicode", with_tail=False)


async def check_cpu(connection: Connection, cpu_xml: str, host: HostProfile) -> None:
    """Raises GuestIncompatible when guests here cannot have this CPU; libvirt's words say what it lacks."""
    arguments = (host.emulator, host.architecture, host.machine, host.domain_type, cpu_xml)
    flags = libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE
    await connection.call(lambda handle: handle.compareHypervisorCPU(*arguments, flags))


async def read_nvram(connection: Connection, uuid: str) -> str:
    """The file of the firmware's variables; empty without one. Raises DomainNotFound, DomainForeign."""
    return await connection.call(lambda handle: find_nvram(find_owned(handle, uuid).XMLDesc(0)))


async def perform(connection: Connection, order: MigrationOrder) -> None:
    """Returns when the guest runs on the target and is gone here; raises what libvirt failed with."""

    def run(handle: libvirt.virConnect) -> None:
        domain = find_owned(handle, order.uuid)
        live_xml = domain.XMLDesc(_LIVE)
        flags = _flags(order)
        if not order.copied_volume_uuids and has_coherent_disks(live_xml):
            # That the nodes share them is known; libvirt only knows the kinds of some file systems.
            flags |= libvirt.VIR_MIGRATE_UNSAFE
        domain.migrateToURI3(order.uri, _parameters(order, live_xml), flags)

    await connection.call_migration(run)


async def read_stats(connection: Connection, uuid: str) -> MigrationStats | None:
    """How far the migration is; None when none runs. Raises DomainNotFound."""

    def run(handle: libvirt.virConnect) -> MigrationStats | None:
        stats = find_owned(handle, uuid).jobStats()
        if stats.get("type", libvirt.VIR_DOMAIN_JOB_NONE) == libvirt.VIR_DOMAIN_JOB_NONE:
            return None
        if stats.get("operation") not in (None, libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT):
            return None
        return _decode(stats)

    return await connection.call(run)


async def abort(connection: Connection, uuid: str) -> None:
    """Has libvirt give the migration up; returns before it has. Raises DomainStateConflict when none runs."""
    await connection.call(lambda handle: find_owned(handle, uuid).abortJob())


async def start_post_copy(connection: Connection, uuid: str) -> None:
    """The guest goes on at the target at once, and fetches the memory that it lacks."""
    await connection.call(lambda handle: find_owned(handle, uuid).migrateStartPostCopy())


async def limit_downtime(connection: Connection, uuid: str, max_downtime_ms: int) -> None:
    """The guest is cut over when it would pause for no longer than this."""
    await connection.call(lambda handle: find_owned(handle, uuid).migrateSetMaxDowntime(max_downtime_ms))


async def discard_incoming(connection: Connection, uuid: str) -> bool:
    """No domain that waits for a migration is left; True when the guest is here for good, and was left alone.

    What waits is paused for that reason and has no definition: libvirt defines it when it runs.
    """

    def run(handle: libvirt.virConnect) -> bool:
        domain = find_owned(handle, uuid)
        state, reason = domain.state()
        waits = (libvirt.VIR_DOMAIN_PAUSED_MIGRATION, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP)
        if domain.isPersistent() or state != libvirt.VIR_DOMAIN_PAUSED or reason not in waits:
            return True
        domain.destroy()
        return False

    return await connection.call(run, timeout_seconds=60.0)


def _parameters(order: MigrationOrder, live_xml: str) -> dict[str, Any]:
    address = f"[{order.data_address}]" if ":" in order.data_address else order.data_address
    parameters: dict[str, Any] = {
        libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://{address}",
        libvirt.VIR_MIGRATE_PARAM_LISTEN_ADDRESS: order.data_address,
        libvirt.VIR_MIGRATE_PARAM_DEST_XML: _adapt(order, live_xml),
        libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: adapt_definition(live_xml, order.definition_xml),
    }
    if order.copied_volume_uuids:
        parameters[libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS] = _find_copied(order, live_xml)
    if order.tls:
        parameters[libvirt.VIR_MIGRATE_PARAM_TLS_DESTINATION] = order.certificate_name
    if order.bandwidth_mib_per_second:
        parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = order.bandwidth_mib_per_second
    if order.multifd_channels:
        parameters[libvirt.VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS] = order.multifd_channels
    return parameters


def _adapt(order: MigrationOrder, live_xml: str) -> str:
    try:
        return adapt_domain(live_xml, order.definition_xml)
    except ValueError as error:
        raise GuestIncompatible(str(error)) from error


def _find_copied(order: MigrationOrder, live_xml: str) -> list[str]:
    """The guest's names of the disks that go along."""
    for document in (live_xml, order.definition_xml):
        if shared := find_cluster_disks(document, order.copied_volume_uuids):
            # On both sides it could be one and the same.
            raise GuestIncompatible(f"volume {', '.join(shared)} is in Ceph: it moves only between nodes that share it")
    try:
        return find_disk_targets(live_xml, order.copied_volume_uuids)
    except ValueError as error:
        raise RequestInvalid(f"copied_volume_uuids: {error}") from error


def _flags(order: MigrationOrder) -> int:
    wanted = (
        (order.copied_volume_uuids, libvirt.VIR_MIGRATE_NON_SHARED_INC),
        (order.tls, libvirt.VIR_MIGRATE_TLS),
        (order.auto_converge, libvirt.VIR_MIGRATE_AUTO_CONVERGE),
        (order.allow_post_copy, libvirt.VIR_MIGRATE_POSTCOPY),
        (order.multifd_channels, libvirt.VIR_MIGRATE_PARALLEL),
    )
    flags: int = _ALWAYS
    for is_wanted, flag in wanted:
        flags |= flag if is_wanted else 0
    return flags


def _decode(stats: dict[str, Any]) -> MigrationStats:
    def number(name: str) -> int:
        return int(stats.get(name, 0))

    return MigrationStats(
        elapsed_seconds=number("time_elapsed") / 1000,
        memory_total_bytes=number("memory_total"),
        memory_done_bytes=number("memory_processed"),
        memory_remaining_bytes=number("memory_remaining"),
        disk_total_bytes=number("disk_total"),
        disk_done_bytes=number("disk_processed"),
        disk_remaining_bytes=number("disk_remaining"),
        bytes_per_second=number("memory_bps") + number("disk_bps"),
        memory_iteration=number("memory_iteration"),
        dirty_bytes_per_second=number("memory_dirty_rate") * number("memory_page_size"),
        expected_downtime_ms=number("downtime"),
        throttle_percent=number("auto_converge_throttle"),
    )
