"""The parts of an agent, put together once: everything gets what it needs from here, and nothing is global."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from agent.assignment import Assignments, UsbReturn
from agent.attachment import DiskAttachments, DiskReturn
from agent.config import AgentConfig
from agent.configure.host_profile import HostProfile
from agent.coordinator_client import CoordinatorClient
from agent.definition import Definitions
from agent.devices.change import DeviceEvents, DeviceWatch, LinkEvents
from agent.devices.fault import Faults, KernelLog
from agent.devices.gpu_mode import GpuModes
from agent.devices.journal import DeviceJournal
from agent.devices.keeper import DeviceKeeper
from agent.devices.maker import Tools
from agent.devices.network_function_maker import run_ip
from agent.devices.state import DeviceStates
from agent.devices.writer import SysfsWriter
from agent.disk_lock import DiskLocks
from agent.domain_lock import DomainLocks
from agent.ended_guest import EndRecord
from agent.errors import StorageFailed
from agent.facts.host import HostReader
from agent.facts.sysfs import Sysfs
from agent.hibernated import HibernatedGuests
from agent.hypervisor.affinity import Affinities
from agent.hypervisor.backup import Backups
from agent.hypervisor.capability import CapabilityReader, read_versions
from agent.hypervisor.connection import Connection
from agent.hypervisor.disk_change import DiskPlugs
from agent.hypervisor.events import DomainEvents
from agent.hypervisor.growth import Growths
from agent.hypervisor.guest import Guests
from agent.hypervisor.guest_agent import GuestAgents
from agent.hypervisor.hibernation import Hibernations
from agent.hypervisor.hostdev import find_device_users
from agent.hypervisor.hostdev_change import DevicePlugs
from agent.hypervisor.migration_job import Migrations
from agent.hypervisor.network import Networks
from agent.hypervisor.nodedev import NodeDevices
from agent.hypervisor.prober import GuestAgentProber
from agent.hypervisor.reboot import Reboots
from agent.hypervisor.saved_memory import SavedMemory
from agent.hypervisor.stop import Stops
from agent.identity import Identity, read_machine_uuid
from agent.incoming import IncomingGuests
from agent.metric import Metrics
from agent.network.firewall import Firewall
from agent.network.journal import PortJournal
from agent.network.nat import NatBackend
from agent.network.role import NetworkRoles, find_own_address
from agent.network.severance import sever_migrations
from agent.node_storage import SnapshotParts, StorageParts, build_snapshots, build_storage
from agent.peer import Peers
from agent.recovery import remove_leftovers
from agent.self_fence import SelfFence
from agent.storage.exporting import Exports
from agent.storage.moving import Content, Movable
from agent.storage.receiving import Receivers
from agent.storage.sending import Sends
from agent.storage.volume_moving import VolumeMoves
from agent.watchdog.record import FenceRecord

_ALL_GUEST_COMMANDS = ("guest-*",)

ReadProfile = Callable[[], Awaitable[HostProfile]]


@dataclass(frozen=True)
class GuestParts:
    """libvirt, and its guests as they are: looked at, started and stopped."""

    connection: Connection
    events: DomainEvents
    self_fence: SelfFence
    ends: EndRecord
    guests: Guests
    affinities: Affinities
    guest_agents: GuestAgents
    prober: GuestAgentProber
    stops: Stops
    growths: Growths
    hibernations: Hibernations
    memory: SavedMemory


@dataclass(frozen=True)
class Hardware:
    """The node as it is told of, and its devices in the hands of guests."""

    host: HostReader
    watch: DeviceWatch
    keeper: DeviceKeeper
    read_profile: ReadProfile


@dataclass(frozen=True)
class GuestChanges:
    """Whatever gives something to guests or takes it from them; they know of each other by their locks."""

    locks: DomainLocks
    definitions: Definitions
    reboots: Reboots
    assignments: Assignments
    usb_return: UsbReturn
    attachments: DiskAttachments
    disk_return: DiskReturn


@dataclass(frozen=True)
class Moves:
    """What leaves the node and what comes to it: guests that run, volumes, copies of them."""

    migrations: Migrations
    incoming: IncomingGuests
    sends: Sends
    receivers: Receivers
    exports: Exports


@dataclass(frozen=True)
class Node:
    """An agent's parts."""

    config: AgentConfig
    identity: Identity
    coordinator: CoordinatorClient
    guests: GuestParts
    storage: StorageParts
    networks: NatBackend
    roles: NetworkRoles
    peers: Peers
    hardware: Hardware
    changes: GuestChanges
    snapshots: SnapshotParts
    moves: Moves
    metrics: Metrics


def build_node(config: AgentConfig) -> Node:
    """Makes the directories, clears what a crash left, and connects nothing yet. Raises IdentityMissing."""
    identity = Identity(config.state_dir, config.pki_dir)
    membership = identity.membership()
    node_id, address = membership.node_id, config.coordinator_address or membership.coordinator_address
    coordinator = CoordinatorClient(address, identity.credentials())
    guests = _build_guests(config)
    storage = build_storage(config, node_id, coordinator, guests.connection)
    networks = NatBackend(Networks(guests.connection), PortJournal(config.journal_dir / "ports"), Firewall())
    remove_leftovers(storage.images, storage.files, storage.seeds)
    networks.prepare()
    roles = NetworkRoles(config.networks, lambda: find_own_address(config, membership))
    hardware = _build_hardware(config, guests.connection, storage, roles)
    changes = _build_changes(config, guests, storage, networks, hardware)
    snapshots = build_snapshots(config, storage, guests.guests, guests.guest_agents, changes.locks, guests.memory)
    moves = _build_moves(config, node_id, guests, storage, roles, changes, snapshots, hardware.read_profile)
    peers, metrics = Peers(config.peer_dir), Metrics()
    return Node(
        *(config, identity, coordinator, guests, storage, networks, roles, peers),
        *(hardware, changes, snapshots, moves, metrics),
    )


def _build_guests(config: AgentConfig) -> GuestParts:
    connection = Connection(config.libvirt_uri)
    events, memory_dir = DomainEvents(connection), config.saved_memory_dir
    self_fence = SelfFence(config.run_dir, FenceRecord(config.fence_dir))
    ends = EndRecord(config.journal_dir / "ended")

    def check_start(uuid: str) -> None:
        self_fence.check_startable(uuid)
        # Before it runs: should the power fail right afterwards, it has not ended by itself.
        ends.discard(uuid)

    guests = Guests(connection, events, check_start=check_start, saved_memory=memory_dir)
    affinities = Affinities(connection)
    agents = GuestAgents(connection, allowed_commands=config.guest_commands or _ALL_GUEST_COMMANDS)
    return GuestParts(
        *(connection, events, self_fence, ends, guests, affinities, agents),
        prober=GuestAgentProber(guests, agents, events),
        stops=Stops(guests, agents, events),
        growths=Growths(connection, guests, agents, affinities, events),
        hibernations=Hibernations(connection, guests, agents, affinities, events, memory_dir),
        memory=SavedMemory(connection, events, memory_dir),
    )


def _build_changes(
    config: AgentConfig, parts: GuestParts, storage: StorageParts, networks: NatBackend, hardware: Hardware
) -> GuestChanges:
    locks, volumes, profile = DomainLocks(), storage.volumes, hardware.read_profile
    to_change = parts.connection, parts.events, parts.affinities
    plugs, disk_plugs = DevicePlugs(*to_change), DiskPlugs(*to_change)
    assignments = Assignments(plugs, hardware.keeper, locks)
    attachments = DiskAttachments(
        disk_plugs, volumes, storage.images, profile, locks, check_volume=volumes.check_volume
    )
    definitions = Definitions(
        *(parts.guests, parts.affinities, storage.seeds, profile),
        volumes=volumes,
        images=storage.images,
        subnets=networks,
        ha_guests=parts.self_fence,
        assignments=assignments,
        disks=disk_plugs,
        check_image=volumes.check_image,
        unlock=storage.keys.unlock,
    )
    startable, journal = definitions.check_startable, config.journal_dir / "reboots"
    reboots = Reboots(parts.guests, parts.stops, journal, check_startable=startable, locks=locks)
    usb_return = UsbReturn(plugs, assignments, DeviceWatch(DeviceEvents))
    disk_return = DiskReturn(attachments, parts.events)
    return GuestChanges(locks, definitions, reboots, assignments, usb_return, attachments, disk_return)


def _build_moves(
    config: AgentConfig,
    node_id: str,
    parts: GuestParts,
    storage: StorageParts,
    roles: NetworkRoles,
    changes: GuestChanges,
    snapshots: SnapshotParts,
    read_profile: ReadProfile,
) -> Moves:
    connection, guests, journals = parts.connection, parts.guests, config.journal_dir
    hibernated = HibernatedGuests(parts.memory, changes.locks, read_profile, journals / "memory")
    hibernated.prepare()
    files = VolumeMoves(storage.files, storage.volumes, find_image=storage.images.find)
    movables: dict[Content, Movable] = {"volume": files, "saved-memory": hibernated}
    direct_io = storage.files.supports_direct_io
    return Moves(
        Migrations(connection, guests, journals / "migrations", sever=sever_migrations),
        IncomingGuests(connection, guests, changes.definitions, roles, lambda: node_id),
        Sends(movables, journals / "transfers"),
        Receivers(movables, roles, lambda: node_id, supports_direct_io=direct_io),
        _build_exports(config, connection, storage, changes.locks, snapshots),
    )


def _build_exports(
    config: AgentConfig, connection: Connection, storage: StorageParts, locks: DomainLocks, snapshots: SnapshotParts
) -> Exports:
    exports = Exports(
        *(config.exports_dir, storage.volumes, snapshots.stores, Backups(connection, snapshots.freezes, locks)),
        find_image=storage.images.find,
        reserved_bytes=config.reserved_storage_bytes,
    )
    exports.prepare()
    return exports


def _build_hardware(
    config: AgentConfig, connection: Connection, storage: StorageParts, roles: NetworkRoles
) -> Hardware:
    sysfs, capability = Sysfs(), CapabilityReader(connection, config.state_dir / "accelerator.json")
    journal, faults = DeviceJournal(config.journal_dir / "devices"), Faults(sysfs)
    tools = Tools(sysfs, SysfsWriter(), NodeDevices(connection), run_ip)
    modes = GpuModes(config.journal_dir / "gpu-mode.json", tools)
    journal.prepare()
    modes.prepare()
    host = HostReader(
        read_machine_uuid(config.machine_uuid),
        capability.get,
        storage.volumes.capacity,
        read_device_users=lambda besides: find_device_users(connection, besides),
        read_role_addresses=roles.addresses,
        read_storage_id=storage.volumes.storage_id,
        read_disk_locks=lambda: DiskLocks().find_gap() is None,
        read_gpu_mode=lambda: modes.mode,
        complete_devices=DeviceStates(journal, faults).complete,
        read_local_storage=storage.volumes.local_bytes,
        read_places=storage.volumes.places,
        read_versions=partial(read_versions, connection),
        may_move_vgpus=config.vgpu_migration == "auto",
    )
    watch, functions = DeviceWatch(DeviceEvents, LinkEvents, lambda: KernelLog(faults)), config.virtual_functions
    keeper = DeviceKeeper(journal, modes, tools, host.survey, virtual_functions=functions, notice=watch.notice)
    return Hardware(host, watch, keeper, _build_profile(config, capability, storage))


def _build_profile(config: AgentConfig, capability: CapabilityReader, storage: StorageParts) -> ReadProfile:
    async def read_profile() -> HostProfile:
        direct_io = False
        with contextlib.suppress(StorageFailed):  # no file is given to a guest while that cannot be told
            direct_io = await storage.files.supports_direct_io()
        profile = (await capability.get()).host_profile(
            seed_directory=config.seeds_dir,
            serial_log_directory=config.serial_dir,
            vnc_address=config.vnc_listen,
            direct_io=direct_io,
        )
        return replace(profile, disk_limits=storage.disk_limits.limits)

    return read_profile
