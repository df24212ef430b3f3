"""The parts of an agent, put together once: everything gets what it needs from here, and nothing is global."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agent.assignment import Assignments, UsbReturn
from agent.attachment import DiskAttachments, DiskReturn
from agent.config import AgentConfig
from agent.configure.host_profile import HostProfile, supports_direct_io
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
from agent.facts.host import HostReader
from agent.facts.sysfs import Sysfs
from agent.hypervisor.affinity import Affinities
from agent.hypervisor.capability import CapabilityReader
from agent.hypervisor.connection import Connection
from agent.hypervisor.disk import find_disk_users
from agent.hypervisor.disk_change import DiskPlugs
from agent.hypervisor.events import DomainEvents
from agent.hypervisor.guest import Guests
from agent.hypervisor.guest_agent import GuestAgents
from agent.hypervisor.hostdev import find_device_users
from agent.hypervisor.hostdev_change import DevicePlugs
from agent.hypervisor.migration_job import Migrations
from agent.hypervisor.network import Networks
from agent.hypervisor.nodedev import NodeDevices
from agent.hypervisor.prober import GuestAgentProber
from agent.hypervisor.reboot import Reboots
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
from agent.storage.directory import DirectoryBackend
from agent.storage.image_cache import ImageCache
from agent.storage.receiving import Receivers
from agent.storage.seed import Seeds
from agent.storage.sending import Sends
from agent.watchdog.record import FenceRecord

_ALL_GUEST_COMMANDS = ("guest-*",)


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
    reboots: Reboots
    definitions: Definitions
    assignments: Assignments
    attachments: DiskAttachments
    usb_return: UsbReturn
    disk_return: DiskReturn
    domain_locks: DomainLocks
    migrations: Migrations
    incoming: IncomingGuests
    peers: Peers
    roles: NetworkRoles
    images: ImageCache
    volumes: DirectoryBackend
    sends: Sends
    receivers: Receivers
    networks: NatBackend
    host: HostReader
    device_watch: DeviceWatch
    keeper: DeviceKeeper
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
    guests = _build_guests(connection, events, self_fence, ends)
    affinities = Affinities(connection)
    guest_agents = GuestAgents(connection, allowed_commands=config.guest_commands or _ALL_GUEST_COMMANDS)
    stops = Stops(guests, guest_agents, events)
    images, volumes = _build_storage(config, membership.node_id, coordinator, connection)
    networks = NatBackend(Networks(connection), PortJournal(config.journal_dir / "ports"), Firewall())
    seeds = Seeds(config.seeds_dir)
    remove_leftovers(images, volumes, seeds)
    networks.prepare()
    capability = CapabilityReader(connection, config.state_dir / "accelerator.json")
    roles = NetworkRoles(config.networks, lambda: find_own_address(config, membership))
    device_parts = _build_device_parts(config, connection)
    host = _build_host_reader(config, connection, capability, volumes, roles, device_parts)
    device_watch = _build_device_watch(device_parts)
    keeper = _build_keeper(config, device_parts, host, device_watch)
    locks = DomainLocks()
    plugs = DevicePlugs(connection, events, affinities)
    assignments = Assignments(plugs, keeper, locks)
    disk_plugs = DiskPlugs(connection, events, affinities)
    read_profile = _build_profile(config, capability)
    attachments = DiskAttachments(disk_plugs, volumes, read_profile, locks)
    definitions = Definitions(
        guests,
        affinities,
        seeds,
        read_profile,
        volumes=volumes,
        subnets=networks,
        ha_guests=self_fence,
        assignments=assignments,
        disks=disk_plugs,
    )
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
        reboots=Reboots(
            guests,
            stops,
            config.journal_dir / "reboots",
            check_startable=definitions.check_startable,
            locks=locks,
        ),
        definitions=definitions,
        assignments=assignments,
        attachments=attachments,
        disk_return=DiskReturn(attachments, events),
        usb_return=UsbReturn(plugs, assignments, DeviceWatch(DeviceEvents)),
        domain_locks=locks,
        migrations=Migrations(connection, guests, config.journal_dir / "migrations", sever=sever_migrations),
        incoming=IncomingGuests(connection, guests, definitions, roles, lambda: membership.node_id),
        peers=Peers(config.peer_dir),
        roles=roles,
        images=images,
        volumes=volumes,
        sends=Sends(volumes, config.journal_dir / "transfers", find_image=images.find),
        receivers=_build_receivers(config, membership.node_id, volumes, roles),
        networks=networks,
        host=host,
        device_watch=device_watch,
        keeper=keeper,
        metrics=Metrics(),
    )


def _build_guests(connection: Connection, events: DomainEvents, self_fence: SelfFence, ends: EndRecord) -> Guests:
    def check_start(uuid: str) -> None:
        self_fence.check_startable(uuid)
        # Before it runs: should the power fail right afterwards, it has not ended by itself.
        ends.discard(uuid)

    return Guests(connection, events, check_start=check_start)


def _build_receivers(config: AgentConfig, node_id: str, volumes: DirectoryBackend, roles: NetworkRoles) -> Receivers:
    return Receivers(volumes, roles, lambda: node_id, direct_io=supports_direct_io(config.volumes_dir))


def _build_host_reader(
    config: AgentConfig,
    connection: Connection,
    capability: CapabilityReader,
    volumes: DirectoryBackend,
    roles: NetworkRoles,
    device_parts: DeviceParts,
) -> HostReader:
    return HostReader(
        read_machine_uuid(config.machine_uuid),
        capability.get,
        volumes.capacity,
        read_device_users=lambda besides: find_device_users(connection, besides),
        read_role_addresses=roles.addresses,
        read_storage_id=volumes.storage_id,
        read_disk_locks=lambda: DiskLocks().find_gap() is None,
        read_gpu_mode=lambda: device_parts.modes.mode,
        complete_devices=device_parts.states.complete,
    )


@dataclass(frozen=True)
class DeviceParts:
    """What those who tell of devices and those who give them away have in common."""

    journal: DeviceJournal
    faults: Faults
    states: DeviceStates
    tools: Tools
    modes: GpuModes


def _build_device_parts(config: AgentConfig, connection: Connection) -> DeviceParts:
    sysfs = Sysfs()
    journal = DeviceJournal(config.journal_dir / "devices")
    faults = Faults(sysfs)
    tools = Tools(sysfs, SysfsWriter(), NodeDevices(connection), run_ip)
    modes = GpuModes(config.journal_dir / "gpu-mode.json", tools)
    journal.prepare()
    modes.prepare()
    return DeviceParts(journal, faults, DeviceStates(journal, faults), tools, modes)


def _build_device_watch(parts: DeviceParts) -> DeviceWatch:
    return DeviceWatch(DeviceEvents, LinkEvents, lambda: KernelLog(parts.faults))


def _build_keeper(config: AgentConfig, parts: DeviceParts, host: HostReader, watch: DeviceWatch) -> DeviceKeeper:
    return DeviceKeeper(
        parts.journal,
        parts.modes,
        parts.tools,
        host.survey,
        virtual_functions=config.virtual_functions,
        notice=watch.notice,
    )


def _build_storage(
    config: AgentConfig, node_id: str, coordinator: CoordinatorClient, connection: Connection
) -> tuple[ImageCache, DirectoryBackend]:
    reserved_bytes = config.reserved_storage_bytes

    async def find_image_users(image_id: str) -> list[str]:
        return await volumes.volumes_backed_by(image_id)

    images = ImageCache(
        config.images_dir,
        read_image=coordinator.read_image,
        find_users=find_image_users,
        reserved_bytes=reserved_bytes,
    )
    volumes = DirectoryBackend(
        config.volumes_dir,
        owner=node_id,
        find_image=images.find,
        find_users=lambda path: find_disk_users(connection, path),
        reserved_bytes=reserved_bytes,
    )
    return images, volumes


def _build_profile(config: AgentConfig, capability: CapabilityReader) -> Callable[[], Awaitable[HostProfile]]:
    direct_io = supports_direct_io(config.volumes_dir)

    async def read_profile() -> HostProfile:
        return (await capability.get()).host_profile(
            seed_directory=config.seeds_dir,
            serial_log_directory=config.serial_dir,
            vnc_address=config.vnc_listen,
            direct_io=direct_io,
        )

    return read_profile
