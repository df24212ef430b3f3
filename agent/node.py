"""The parts of an agent, put together once: everything gets what it needs from here, and nothing is global."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

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
from agent.disk_limit import DiskLimits
from agent.disk_lock import DiskLocks
from agent.domain_lock import DomainLocks
from agent.ended_guest import EndRecord
from agent.errors import StorageFailed
from agent.facts.host import HostReader
from agent.facts.sysfs import Sysfs
from agent.hibernated import HibernatedGuests
from agent.hypervisor.affinity import Affinities
from agent.hypervisor.backup import Backups
from agent.hypervisor.capability import CapabilityReader, read_libvirt_version
from agent.hypervisor.connection import Connection
from agent.hypervisor.disk import find_disk_users, find_file_holders
from agent.hypervisor.disk_change import DiskPlugs
from agent.hypervisor.disk_limit import apply_disk_limits
from agent.hypervisor.events import DomainEvents
from agent.hypervisor.freeze import Freezes
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
from agent.hypervisor.secret import ensure_secret
from agent.hypervisor.snapshot import LiveSnapshots
from agent.hypervisor.stop import Stops
from agent.identity import Identity, read_machine_uuid
from agent.incoming import IncomingGuests
from agent.metric import Metrics
from agent.network.firewall import Firewall
from agent.network.journal import PortJournal
from agent.network.nat import NatBackend
from agent.network.role import NetworkRoles, find_own_address
from agent.network.severance import sever_migrations
from agent.peer import Peers
from agent.recovery import remove_leftovers
from agent.self_fence import SelfFence
from agent.snapshot import Snapshots
from agent.storage.choice import ANY_TYPE, StorageChoice
from agent.storage.copying import VolumeCopies
from agent.storage.directory import DirectoryBackend
from agent.storage.exporting import Exports
from agent.storage.image_cache import ImageCache
from agent.storage.lvm import LvmBackend
from agent.storage.lvm_tool import LvmTool
from agent.storage.moving import Content, Movable
from agent.storage.rbd import RbdBackend
from agent.storage.rbd_base import shorten
from agent.storage.rbd_tool import CephAccess, RbdTool
from agent.storage.receiving import Receivers
from agent.storage.seed import Seeds
from agent.storage.sending import Sends
from agent.storage.share import Share
from agent.storage.snapshot import SnapshotFiles
from agent.storage.volume_moving import VolumeMoves
from agent.watchdog.record import FenceRecord

_ALL_GUEST_COMMANDS = ("guest-*",)


@dataclass(frozen=True)
class Hardware:
    """The node as it is told of, and its devices in the hands of guests."""

    host: HostReader
    watch: DeviceWatch
    keeper: DeviceKeeper


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
class SnapshotParts:
    """Snapshots of volumes, in files and in guests that run."""

    snapshots: Snapshots
    files: SnapshotFiles
    copies: VolumeCopies
    freezes: Freezes


@dataclass(frozen=True)
class Node:
    """An agent's parts."""

    config: AgentConfig
    identity: Identity
    coordinator: CoordinatorClient
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
    changes: GuestChanges
    snapshots: SnapshotParts
    migrations: Migrations
    incoming: IncomingGuests
    peers: Peers
    roles: NetworkRoles
    images: ImageCache
    volumes: DirectoryBackend
    storage: StorageChoice
    disk_limits: DiskLimits
    sends: Sends
    receivers: Receivers
    exports: Exports
    networks: NatBackend
    hardware: Hardware
    metrics: Metrics


def build_node(config: AgentConfig) -> Node:
    """Makes the directories, clears what a crash left, and connects nothing yet. Raises IdentityMissing."""
    identity = Identity(config.state_dir, config.pki_dir)
    membership = identity.membership()
    address = config.coordinator_address or membership.coordinator_address
    coordinator = CoordinatorClient(address, identity.credentials())
    connection = Connection(config.libvirt_uri)
    events = DomainEvents(connection)
    self_fence = SelfFence(config.run_dir, FenceRecord(config.fence_dir))
    ends = EndRecord(config.journal_dir / "ended")
    guests = _build_guests(connection, events, self_fence, ends, config.saved_memory_dir)
    affinities = Affinities(connection)
    guest_agents = GuestAgents(connection, allowed_commands=config.guest_commands or _ALL_GUEST_COMMANDS)
    stops = Stops(guests, guest_agents, events)
    images, volumes = _build_storage(config, membership.node_id, coordinator, connection)
    storage = _build_choice(config, membership.node_id, volumes, images, connection)
    networks = NatBackend(Networks(connection), PortJournal(config.journal_dir / "ports"), Firewall())
    seeds = Seeds(config.seeds_dir)
    remove_leftovers(images, volumes, seeds)
    networks.prepare()
    capability = CapabilityReader(connection, config.state_dir / "accelerator.json")
    roles = NetworkRoles(config.networks, lambda: find_own_address(config, membership))
    hardware = _build_hardware(config, connection, capability, storage, roles)
    disk_limits = DiskLimits(
        config.journal_dir / "disk-limits.json",
        apply=partial(apply_disk_limits, connection),
        list_volumes=storage.list_volumes,
    )
    profile, keeper = _build_profile(config, capability, volumes, disk_limits), hardware.keeper
    changes = _build_changes(
        config,
        connection,
        events,
        guests,
        stops,
        affinities,
        seeds,
        profile,
        images,
        storage,
        networks,
        self_fence,
        keeper,
    )
    memory = SavedMemory(connection, events, config.saved_memory_dir)
    snapshots = _build_snapshots(config, connection, guest_agents, volumes, storage, changes.locks, memory)
    exports = Exports(
        config.exports_dir,
        storage,
        snapshots.files,
        Backups(connection, snapshots.freezes, changes.locks),
        find_image=images.find,
        reserved_bytes=config.reserved_storage_bytes,
    )
    exports.prepare()
    hibernated = HibernatedGuests(
        memory,
        changes.locks,
        profile,
        config.journal_dir / "memory",
    )
    hibernated.prepare()
    movables: dict[Content, Movable] = {
        "volume": VolumeMoves(volumes, storage, find_image=images.find),
        "saved-memory": hibernated,
    }
    return Node(
        config=config,
        identity=identity,
        coordinator=coordinator,
        connection=connection,
        events=events,
        self_fence=self_fence,
        ends=ends,
        guests=guests,
        affinities=affinities,
        guest_agents=guest_agents,
        prober=GuestAgentProber(guests, guest_agents, events),
        stops=stops,
        growths=Growths(connection, guests, guest_agents, affinities, events),
        hibernations=Hibernations(connection, guests, guest_agents, affinities, events, config.saved_memory_dir),
        changes=changes,
        snapshots=snapshots,
        migrations=Migrations(connection, guests, config.journal_dir / "migrations", sever=sever_migrations),
        incoming=IncomingGuests(connection, guests, changes.definitions, roles, lambda: membership.node_id),
        peers=Peers(config.peer_dir),
        roles=roles,
        images=images,
        volumes=volumes,
        storage=storage,
        disk_limits=disk_limits,
        sends=Sends(movables, config.journal_dir / "transfers"),
        receivers=_build_receivers(membership.node_id, volumes, movables, roles),
        exports=exports,
        networks=networks,
        hardware=hardware,
        metrics=Metrics(),
    )


def _build_changes(
    config: AgentConfig,
    connection: Connection,
    events: DomainEvents,
    guests: Guests,
    stops: Stops,
    affinities: Affinities,
    seeds: Seeds,
    read_profile: Callable[[], Awaitable[HostProfile]],
    images: ImageCache,
    volumes: StorageChoice,
    networks: NatBackend,
    self_fence: SelfFence,
    keeper: DeviceKeeper,
) -> GuestChanges:
    locks = DomainLocks()
    plugs, disk_plugs = DevicePlugs(connection, events, affinities), DiskPlugs(connection, events, affinities)
    assignments = Assignments(plugs, keeper, locks)
    attachments = DiskAttachments(disk_plugs, volumes, images, read_profile, locks, check_volume=volumes.check_volume)
    definitions = Definitions(
        guests,
        affinities,
        seeds,
        read_profile,
        volumes=volumes,
        images=images,
        subnets=networks,
        ha_guests=self_fence,
        assignments=assignments,
        disks=disk_plugs,
        check_image=volumes.check_image,
    )
    startable = definitions.check_startable
    return GuestChanges(
        locks,
        definitions,
        Reboots(guests, stops, config.journal_dir / "reboots", check_startable=startable, locks=locks),
        assignments,
        UsbReturn(plugs, assignments, DeviceWatch(DeviceEvents)),
        attachments,
        DiskReturn(attachments, events),
    )


def _build_snapshots(
    config: AgentConfig,
    connection: Connection,
    guest_agents: GuestAgents,
    volumes: DirectoryBackend,
    storage: StorageChoice,
    locks: DomainLocks,
    memory: SavedMemory,
) -> SnapshotParts:
    live, files = LiveSnapshots(connection), SnapshotFiles(volumes, storage)
    copies = VolumeCopies(volumes, storage, files)
    freezes = Freezes(guest_agents, live, config.journal_dir / "freezes")
    snapshots = Snapshots(files, live, freezes, locks, memory.find_holder)
    return SnapshotParts(snapshots, files, copies, freezes)


def _build_guests(
    connection: Connection, events: DomainEvents, self_fence: SelfFence, ends: EndRecord, saved_memory: Path
) -> Guests:
    def check_start(uuid: str) -> None:
        self_fence.check_startable(uuid)
        # Before it runs: should the power fail right afterwards, it has not ended by itself.
        ends.discard(uuid)

    return Guests(connection, events, check_start=check_start, saved_memory=saved_memory)


def _build_receivers(
    node_id: str, volumes: DirectoryBackend, movables: Mapping[Content, Movable], roles: NetworkRoles
) -> Receivers:
    return Receivers(movables, roles, lambda: node_id, supports_direct_io=volumes.supports_direct_io)


def _build_hardware(
    config: AgentConfig,
    connection: Connection,
    capability: CapabilityReader,
    volumes: StorageChoice,
    roles: NetworkRoles,
) -> Hardware:
    sysfs = Sysfs()
    journal, faults = DeviceJournal(config.journal_dir / "devices"), Faults(sysfs)
    tools = Tools(sysfs, SysfsWriter(), NodeDevices(connection), run_ip)
    modes = GpuModes(config.journal_dir / "gpu-mode.json", tools)
    journal.prepare()
    modes.prepare()
    host = HostReader(
        read_machine_uuid(config.machine_uuid),
        capability.get,
        volumes.capacity,
        read_device_users=lambda besides: find_device_users(connection, besides),
        read_role_addresses=roles.addresses,
        read_storage_id=volumes.storage_id,
        read_disk_locks=lambda: DiskLocks().find_gap() is None,
        read_gpu_mode=lambda: modes.mode,
        complete_devices=DeviceStates(journal, faults).complete,
        read_libvirt_version=partial(read_libvirt_version, connection),
    )
    watch = DeviceWatch(DeviceEvents, LinkEvents, lambda: KernelLog(faults))
    functions = config.virtual_functions
    keeper = DeviceKeeper(journal, modes, tools, host.survey, virtual_functions=functions, notice=watch.notice)
    return Hardware(host, watch, keeper)


def _build_storage(
    config: AgentConfig, node_id: str, coordinator: CoordinatorClient, connection: Connection
) -> tuple[ImageCache, DirectoryBackend]:
    reserved_bytes = config.reserved_storage_bytes
    mount_point = Path(config.volumes_mount) if config.volumes_mount else None
    share = Share(config.volumes_dir, mount_point=mount_point)

    async def find_image_users(image_id: str) -> list[str]:
        backed, path = await volumes.volumes_backed_by(image_id), config.images_dir / f"{image_id}.iso"
        # Nothing else is in drives, and to ask for every domain takes its time.
        return [*backed, *(await find_file_holders(connection, path) if path.exists() else ())]

    images = ImageCache(
        config.images_dir,
        read_image=coordinator.read_image,
        find_users=find_image_users,
        reserved_bytes=reserved_bytes,
        unused_life_seconds=config.unused_image_hours * 3600,
    )
    volumes = DirectoryBackend(
        config.volumes_dir,
        owner=node_id,
        find_image=images.find,
        find_users=lambda path: find_disk_users(connection, path),
        reserved_bytes=reserved_bytes,
        share=share,
    )
    return images, volumes


def _build_choice(
    config: AgentConfig, node_id: str, volumes: DirectoryBackend, images: ImageCache, connection: Connection
) -> StorageChoice:
    find_users = partial(find_disk_users, connection)
    default = config.volume_backends.get(ANY_TYPE, "")
    # The coordinator knows one storage of a node: what nodes share there, they share in the other pools as well.
    others = shorten(default if default.startswith("rbd:") else node_id)

    def build(name: str) -> LvmBackend | RbdBackend:
        kind, _, place = name.partition(":")
        if kind == "lvm":
            group, _, pool = place.partition("/")
            return LvmBackend(LvmTool(group), pool=pool, find_image=images.find, find_users=find_users)
        return RbdBackend(
            RbdTool(CephAccess(config.ceph_config, config.ceph_user), place),
            owner=node_id,
            namespace="" if name == default else others,
            find_image=images.find,
            find_users=find_users,
            keep_key=partial(ensure_secret, connection),
        )

    backends = {name: build(name) for name in set(config.volume_backends.values())}
    return StorageChoice(volumes, {kind: backends[name] for kind, name in config.volume_backends.items()})


def _build_profile(
    config: AgentConfig, capability: CapabilityReader, volumes: DirectoryBackend, disk_limits: DiskLimits
) -> Callable[[], Awaitable[HostProfile]]:
    async def read_profile() -> HostProfile:
        direct_io = False
        with contextlib.suppress(StorageFailed):  # no file is given to a guest while that cannot be told
            direct_io = await volumes.supports_direct_io()
        profile = (await capability.get()).host_profile(
            seed_directory=config.seeds_dir,
            serial_log_directory=config.serial_dir,
            vnc_address=config.vnc_listen,
            direct_io=direct_io,
        )
        return replace(profile, disk_limits=disk_limits.limits)

    return read_profile
