"""Looks at a host the way an experienced colleague would: what is well, what is not, and what to do about it.

Changes nothing, except that a probe guest runs for a moment to see whether KVM works.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from agent.config import AgentConfig, split_address
from agent.coordinator_client import CoordinatorClient
from agent.disk_lock import DiskLocks
from agent.errors import AgentError, NetworkRoleMissing
from agent.finding import Finding
from agent.hypervisor.capability import Capability, read_capability
from agent.hypervisor.connection import Connection
from agent.hypervisor.disk import find_written_files
from agent.identity import Identity, IdentityMissing, now_utc, read_machine_uuid
from agent.network.role import MANAGE, ROLES, NetworkRoles, find_own_address
from agent.peer import describe_settings, try_libvirt
from agent.pool_check import examine_pools
from agent.storage.directory import measure_capacity
from agent.storage.shared import list_other_nodes
from agent.watchdog.lease import read_boot_id, read_clock, read_health

_LITTLE_SPACE_BYTES: Final = 10 * 1024**3
_LIBVIRT_SECONDS: Final = 10.0
_CONNECT_SECONDS: Final = 5.0
_BYTES_PER_GIB: Final = 1024**3
_QEMU_CONF: Final = Path("/etc/libvirt/qemu.conf")
_LIBVIRT_GUESTS: Final = Path("/etc/default/libvirt-guests")
_AUTOSTART: Final = Path("/etc/libvirt/qemu/autostart")


@dataclass(frozen=True)
class Patient:
    """What checks look at."""

    config: AgentConfig
    # None: libvirt does not answer.
    capability: Capability | None
    libvirt_complaint: str
    # An agent serves on this host already, so its ports are taken rightly.
    agent_runs: bool
    # Names of running guests by the file of each disk that they may write to.
    written_files: Mapping[Path, Sequence[str]]


Check = Callable[[Patient], Awaitable[list[Finding]]]


async def examine(config: AgentConfig) -> list[Finding]:
    """All checks, in an order in which a failure comes before what follows from it."""
    capability, written_files, complaint = await _ask_libvirt(config)
    agent_runs = await _listens(*split_address("metrics_listen", config.metrics_listen))
    patient = Patient(config, capability, complaint, agent_runs, written_files)
    return [finding for check in CHECKS for finding in await check(patient)]


def show(findings: list[Finding], *, as_json: bool) -> None:
    """Prints the findings for people, or for programs."""
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))  # noqa: T201 - this is its output
        return
    # Only people need it, and it would stay in the memory of `serve`.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "Check", "Found", "What to do", box=None, pad_edge=False)
    styles = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    for finding in findings:
        # Not as markup, which addresses like "[fd00::1]:8446" would be taken for.
        words = (Text(text) for text in (finding.check, finding.detail, finding.remedy))
        table.add_row(Text(finding.verdict, styles[finding.verdict]), *words)
    Console().print(table)


async def _ask_libvirt(config: AgentConfig) -> tuple[Capability | None, Mapping[Path, Sequence[str]], str]:
    connection = Connection(config.libvirt_uri, worker_count=1, guest_agent_worker_count=1)
    try:
        async with asyncio.timeout(_LIBVIRT_SECONDS):
            await connection.open()
        with tempfile.TemporaryDirectory() as directory:
            capability = await read_capability(connection, Path(directory) / "accelerator.json")
        return capability, await find_written_files(connection), ""
    except (AgentError, TimeoutError) as error:
        return None, {}, str(error) or "no answer"
    finally:
        await connection.close()


async def _check_rights(_patient: Patient) -> list[Finding]:
    if os.geteuid() == 0:
        return [Finding("user", "ok", "root")]
    remedy = "run the agent (and this command) as root: volumes change their owner, networks need privileges"
    return [Finding("user", "fail", f"uid {os.geteuid()}", remedy)]


async def _check_libvirt(patient: Patient) -> list[Finding]:
    capability = patient.capability
    if capability is None:
        remedy = "install libvirt-daemon-system and start libvirtd; see `virsh --connect qemu:///system version`"
        return [Finding("libvirt", "fail", f"{patient.config.libvirt_uri}: {patient.libvirt_complaint}", remedy)]
    findings = [Finding("libvirt", "ok", capability.libvirt_version)]
    if capability.emulator:
        findings.append(Finding("qemu", "ok", f"{capability.qemu_version}, {capability.emulator}"))
    else:
        findings.append(
            Finding("qemu", "fail", f"no emulator for {capability.architecture}", "install qemu-system-x86")
        )
    return findings


async def _check_accelerator(patient: Patient) -> list[Finding]:
    if patient.capability is None:
        return []
    if patient.capability.domain_type == "kvm":
        return [Finding("kvm", "ok", "a probe guest ran under it")]
    remedy = "guests are emulated, which is slow: enable virtualisation in the firmware (or nesting in the hypervisor)"
    return [Finding("kvm", "warn", patient.capability.accelerator_reason, remedy)]


async def _check_firmware(patient: Patient) -> list[Finding]:
    if patient.capability is None:
        return []
    firmwares, versions = patient.capability.firmwares, patient.capability.tpm_versions
    uefi, secure = "uefi" in firmwares, "uefi-secure-boot" in firmwares
    detail = f"UEFI {'yes' if uefi else 'no'}, secure boot {'yes' if secure else 'no'}"
    return [
        Finding("firmware", "ok", detail) if uefi and secure else Finding("firmware", "warn", detail, "install ovmf"),
        Finding("tpm", "ok", f"swtpm {', '.join(sorted(versions))}")
        if versions
        else Finding("tpm", "warn", "libvirt finds no TPM emulator", "install swtpm and swtpm-tools, restart libvirtd"),
    ]


async def _check_programs(_patient: Patient) -> list[Finding]:
    needed: tuple[tuple[tuple[str, ...], str, str], ...] = (
        (("qemu-img",), "qemu-utils", "volumes"),
        (("qemu-nbd",), "qemu-utils", "volumes that come from other nodes"),
        (("prlimit",), "util-linux", "volumes"),
        (("setpriv",), "util-linux", "volumes that go to other nodes and come from them"),
        (("genisoimage",), "genisoimage", "cloud-init seeds"),
        (("dnsmasq",), "dnsmasq-base", "addresses of guests"),
        (("iptables-restore",), "iptables", "the guests' way out"),
        (("ss",), "iproute2", "migrations whose network is cut"),
    )
    findings = []
    for names, package, purpose in needed:
        found = next((path for name in names if (path := _find_program(name))), None)
        label = " or ".join(names)
        if found:
            findings.append(Finding(label, "ok", found))
        else:
            findings.append(Finding(label, "fail", f"not there: needed for {purpose}", f"install {package}"))
    return findings


def _find_program(name: str) -> str | None:
    """Root's shell may lack the directories in which libvirt looks."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


async def _check_storage(patient: Patient) -> list[Finding]:
    directory = patient.config.state_dir
    while not directory.exists():
        directory = directory.parent
    capacity = measure_capacity(directory, patient.config.reserved_storage_bytes)
    detail = f"{capacity.free_bytes / _BYTES_PER_GIB:.1f} GiB free of {capacity.total_bytes / _BYTES_PER_GIB:.1f}"
    if capacity.free_bytes >= _LITTLE_SPACE_BYTES:
        return [Finding("space", "ok", f"{detail} for {patient.config.state_dir}")]
    remedy = "free some, or put state_dir on a larger file system"
    return [Finding("space", "warn" if capacity.free_bytes else "fail", detail, remedy)]


async def _check_pools(patient: Patient) -> list[Finding]:
    return await examine_pools(patient.config)


async def _check_time(_patient: Patient) -> list[Finding]:
    remedy = "install chrony: certificates and leases depend on the clock"
    program = _find_program("timedatectl")
    if program is None or not _uses_systemd():
        return [Finding("clock", "warn", "nobody here tells whether it is synchronised", remedy)]
    process = await asyncio.create_subprocess_exec(
        program, "show", "--property=NTPSynchronized", "--value", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if output.strip() == b"yes":
        return [Finding("clock", "ok", "synchronised")]
    return [Finding("clock", "warn", "not synchronised", remedy)]


def _uses_systemd() -> bool:
    return Path("/run/systemd/system").exists()


async def _check_ports(patient: Patient) -> list[Finding]:
    if patient.agent_runs:
        return [Finding("ports", "ok", "an agent serves on this host")]
    findings = []
    for name in ("listen", "metrics_listen"):
        address = getattr(patient.config, name)
        complaint = _try_to_listen(*split_address(name, address))
        if complaint:
            findings.append(Finding(name, "fail", f"{address}: {complaint}", f"stop who uses it, or set {name}"))
        else:
            findings.append(Finding(name, "ok", f"{address} is free"))
    return findings


def _try_to_listen(host: str, port: int) -> str:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


async def _check_identity(patient: Patient) -> list[Finding]:
    config = patient.config
    try:
        machine = Finding("machine", "ok", read_machine_uuid(config.machine_uuid))
    except IdentityMissing as error:
        machine = Finding("machine", "fail", str(error), "set machine_uuid")
    identity = Identity(config.state_dir, config.pki_dir)
    try:
        membership, credentials = identity.membership(), identity.credentials()
    except IdentityMissing:
        remedy = "run `nodewright-agent join` with a token from `nwctl node enrolment-token create`"
        return [machine, Finding("membership", "warn", "not joined yet", remedy)]
    left = credentials.validity.left(now_utc())
    joined = Finding("membership", "ok", f"{membership.node_id} in {membership.region}")
    if left.total_seconds() <= 0:
        return [machine, joined, Finding("certificate", "fail", "expired", "join again with a new token")]
    return [machine, joined, Finding("certificate", "ok", f"valid for {left.days} days")]


async def _check_watchdog(patient: Patient) -> list[Finding]:
    """Whether highly available guests end here in time when the coordinator is not heard of."""
    health = read_health(patient.config.run_dir)
    if health and health.is_alive(read_boot_id(), read_clock()):
        tolerance = health.tolerance_seconds
        detail = f"fences after {tolerance} s without the coordinator" if tolerance else "runs, nothing to fence yet"
        return [Finding("watchdog", "ok", detail)]
    remedy = "start nodewright-watchdog: without it, or a BMC, no highly available guest is started elsewhere"
    return [Finding("watchdog", "warn", "does not run", remedy)]


async def _check_boot(_patient: Patient) -> list[Finding]:
    """Whether anybody else than the coordinator starts guests after a boot: they may run elsewhere by then."""
    if await asyncio.to_thread(_has_lines, _LIBVIRT_GUESTS, "ON_BOOT=start"):
        detail = "libvirt-guests starts guests before the coordinator has said whether they run elsewhere"
        return [Finding("boot", "warn", detail, f"set ON_BOOT=ignore in {_LIBVIRT_GUESTS}")]
    names = await asyncio.to_thread(lambda: sorted(path.stem for path in _AUTOSTART.glob("ecs-*.xml")))
    if names:
        detail = f"libvirt starts {', '.join(names)} before the coordinator has said whether they run elsewhere"
        return [Finding("boot", "warn", detail, "virsh autostart --disable, for each of them")]
    return [Finding("boot", "ok", "guests are started by the coordinator alone")]


async def _check_disk_locks(patient: Patient) -> list[Finding]:
    """Whether a second QEMU can run on a disk that a guest of this node or of another one has."""
    try:
        node_id = Identity(patient.config.state_dir, patient.config.pki_dir).membership().node_id
    except IdentityMissing:
        return []
    locks = DiskLocks()
    gap = await asyncio.to_thread(locks.find_gap)
    if gap is None:
        return [await asyncio.to_thread(_find_unlocked, locks, patient.written_files)]
    others = await asyncio.to_thread(list_other_nodes, patient.config.volumes_dir, node_id)
    if not others:
        return [Finding("disk locks", "ok", f"{gap.reason}: none is needed while no other node has these volumes")]
    detail = (
        f"{gap.reason}, and volumes are shared with {', '.join(others)}: only QEMU keeps its images from a second one"
    )
    return [Finding("disk locks", "warn", detail, gap.remedy)]


def _find_unlocked(locks: DiskLocks, written_files: Mapping[Path, Sequence[str]]) -> Finding:
    found = [names for file, names in written_files.items() if file.exists() and not locks.is_locked(file)]
    unlocked = sorted({name for names in found for name in names})
    if not unlocked:
        return Finding("disk locks", "ok", "libvirt locks the disks of running guests")
    detail = (
        f"guests run without: {', '.join(unlocked)}; they were started before libvirt locked disks, or virtlockd ended"
    )
    # Not suspended and resumed: virtlockd then keeps the lock when the guest has ended.
    return Finding("disk locks", "warn", detail, "migrate each to another node, or stop and start it")


async def _check_coordinator(patient: Patient) -> list[Finding]:
    identity = Identity(patient.config.state_dir, patient.config.pki_dir)
    try:
        membership, credentials = identity.membership(), identity.credentials()
    except IdentityMissing:
        return []
    address = patient.config.coordinator_address or membership.coordinator_address
    client = CoordinatorClient(address, credentials)
    try:
        await client.wait_until_reachable(_CONNECT_SECONDS)
    except TimeoutError:
        remedy = "is it running, is its port open, has its certificate this name, is this clock right?"
        return [Finding("coordinator", "fail", f"{address}: no connection with mutual TLS", remedy)]
    finally:
        await client.close()
    return [Finding("coordinator", "ok", address)]


async def _check_networks(patient: Patient) -> list[Finding]:
    try:
        membership = Identity(patient.config.state_dir, patient.config.pki_dir).membership()
    except IdentityMissing:
        return []
    roles = NetworkRoles(patient.config.networks, lambda: find_own_address(patient.config, membership))
    findings = []
    for role in ROLES:
        try:
            findings.append(Finding(f"{role} network", "ok", roles.address(role)))
        except NetworkRoleMissing as error:
            remedy = f"bring the interface up, or set {role}_network"
            findings.append(Finding(f"{role} network", "fail", error.message, remedy))
    return findings


async def _check_peers(patient: Patient) -> list[Finding]:
    """Whether guests can come from other nodes: libvirt admits this node itself by its certificate."""
    config = patient.config
    try:
        membership = Identity(config.state_dir, config.pki_dir).membership()
        roles = NetworkRoles(config.networks, lambda: find_own_address(config, membership))
        address = roles.address(MANAGE)
    except (IdentityMissing, NetworkRoleMissing):
        return []
    wanted = describe_settings(config.peer_dir)
    complaint = await try_libvirt(config.peer_dir, membership.node_id, address)
    lines = "; ".join(f"/etc/libvirt/{name}: {', '.join(text.splitlines())}" for name, text in wanted.items())
    remedy = f"start the agent once, then libvirtd with --listen (or its TLS socket) and these settings: {lines}"
    if complaint:
        return [Finding("migration", "warn", f"no guest can come here: {complaint}", remedy)]
    if not await asyncio.to_thread(_has_lines, _QEMU_CONF, wanted["qemu.conf"]):
        return [Finding("migration", "warn", "no guest can come here with TLS", remedy)]
    return [Finding("migration", "ok", f"libvirt admits other nodes at {address}")]


def _has_lines(path: Path, lines: str) -> bool:
    try:
        return set(lines.splitlines()) <= set(path.read_text().splitlines())
    except OSError:
        return False


async def _listens(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), _CONNECT_SECONDS)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


CHECKS: Final[tuple[Check, ...]] = (
    _check_rights,
    _check_libvirt,
    _check_accelerator,
    _check_firmware,
    _check_programs,
    _check_storage,
    _check_pools,
    _check_time,
    _check_ports,
    _check_identity,
    _check_watchdog,
    _check_boot,
    _check_disk_locks,
    _check_coordinator,
    _check_networks,
    _check_peers,
)
