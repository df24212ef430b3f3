"""The agent's domain and guest services over real gRPC, on libvirt's test driver."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from agent.assignment import Assignments, DeviceProvider
from agent.attachment import DiskAttachments
from agent.configure.host_profile import HostProfile
from agent.definition import Definitions
from agent.domain_lock import DomainLocks
from agent.errors import SubnetNotFound, VolumeNotFound
from agent.hypervisor.affinity import Affinities
from agent.hypervisor.connection import Connection
from agent.hypervisor.disk_change import DiskPlugs
from agent.hypervisor.events import DomainEvents
from agent.hypervisor.growth import Growths
from agent.hypervisor.guest import Guests
from agent.hypervisor.guest_agent import GuestAgents
from agent.hypervisor.hibernation import Hibernations
from agent.hypervisor.hostdev_change import DevicePlugs
from agent.hypervisor.prober import GuestAgentProber
from agent.hypervisor.reboot import Reboots
from agent.hypervisor.stop import Stops
from agent.rpc.device import DeviceServicer
from agent.rpc.domain import DomainServicer
from agent.rpc.guest import GuestServicer
from agent.rpc.interceptor import CODE_METADATA_KEY, ErrorInterceptor
from agent.self_fence import SelfFence
from agent.storage.base import Resize, Volume
from agent.storage.image_cache import CachedImage
from agent.storage.image_transfer import ImageRef
from agent.storage.seed import Seeds
from agent.watchdog.record import FenceRecord
from protos.agent.v1 import device_pb2_grpc, domain_pb2_grpc, guest_pb2_grpc
from tests.unit.agent.device_provider import AProvider
from tests.unit.agent.guest_builder import ISO_ID, ANetwork, AVolume, a_host

FOREIGN_UUID = "aaaaaaaa-7e64-4a7e-9c60-0e2a4a7a7d11"
# A node of its own for each connection: with a domain that Nodewright did not create.
_NODE = f"""
<node>
  <domain type="test">
    <name>foreign</name>
    <uuid>{FOREIGN_UUID}</uuid>
    <memory>1024</memory>
    <os><type>hvm</type></os>
  </domain>
</node>
"""


class _Directories:
    """The volumes and subnets that `guest_builder` speaks of."""

    async def describe_volume(self, uuid: str) -> AVolume:
        if uuid not in a_host().volumes:
            raise VolumeNotFound(f"volume {uuid} is not on this node")
        return AVolume(Path("/srv/agent/volumes/root.qcow2"))

    async def find(self, image_id: str) -> CachedImage | None:
        """The image that `guest_builder` speaks of, and others by a name alike."""
        if not image_id.startswith(ISO_ID[:8]):
            return None
        return CachedImage(ImageRef(image_id, "ab" * 32, "iso", 1), Path(f"/srv/agent/images/{image_id}.iso"), 1)

    async def grow_volume(self, uuid: str, size_bytes: int, resize: Resize) -> Volume:
        raise VolumeNotFound(f"volume {uuid} has no file")

    async def describe_subnet(self, subnet_id: str) -> ANetwork:
        if subnet_id not in a_host().networks:
            raise SubnetNotFound(f"subnet {subnet_id} has no port on this node")
        return ANetwork()


@dataclass(frozen=True)
class DomainServer:
    """A running server, its clients, and what is behind it."""

    domains: Any
    guests_api: Any
    connection: Connection
    guests: Guests
    affinities: Affinities
    events: DomainEvents
    stops: Stops
    directory: Path
    self_fence: SelfFence
    devices: Any
    assignments: Assignments
    provider: AProvider
    definitions: Definitions


@asynccontextmanager
async def serve(directory: Path, devices: DeviceProvider | None = None) -> AsyncIterator[DomainServer]:
    """Serves with all its state in the directory; a second time is a restart. Devices are a script's, or real ones."""
    node = directory / "node.xml"
    node.write_text(_NODE)
    connection = Connection(f"test://{node}")
    events = DomainEvents(connection)
    (directory / "run").mkdir(exist_ok=True)
    self_fence = SelfFence(directory / "run", FenceRecord(directory / "fenced"))
    guests = Guests(connection, events, check_start=self_fence.check_startable)
    affinities = Affinities(connection)
    guest_agents = GuestAgents(connection, allowed_commands=("guest-*",))
    prober = GuestAgentProber(guests, guest_agents, events)
    stops = Stops(guests, guest_agents, events)
    profile = a_host(
        domain_type="test",
        emulator=None,
        firmwares=frozenset(("bios",)),
        seed_directory=directory / "seeds",
        serial_log_directory=directory / "serial",
    )

    async def read_profile() -> HostProfile:
        return profile

    directories = _Directories()
    provider, locks = AProvider(), DomainLocks()
    assignments = Assignments(DevicePlugs(connection, events, affinities), devices or provider, locks)
    disk_plugs = DiskPlugs(connection, events, affinities)
    attachments = DiskAttachments(disk_plugs, directories, directories, read_profile, locks)
    definitions = Definitions(
        guests,
        affinities,
        Seeds(directory / "seeds"),
        read_profile,
        volumes=directories,
        images=directories,
        subnets=directories,
        ha_guests=self_fence,
        assignments=assignments,
        disks=disk_plugs,
    )
    reboots = Reboots(guests, stops, directory / "journal", check_startable=definitions.check_startable, locks=locks)
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    domain_pb2_grpc.add_DomainServiceServicer_to_server(
        DomainServicer(
            guests,
            definitions,
            stops,
            reboots,
            events,
            prober,
            locks,
            attachments,
            Growths(connection, guests, guest_agents, affinities, events),
            Hibernations(connection, guests, guest_agents, affinities, events, directory / "save"),
        ),
        server,
    )
    device_pb2_grpc.add_DeviceServiceServicer_to_server(DeviceServicer(assignments), server)
    guest_pb2_grpc.add_GuestServiceServicer_to_server(GuestServicer(guest_agents, prober), server)
    address = f"unix:{directory}/agent.sock"
    server.add_insecure_port(address)
    await connection.open()
    await server.start()
    probing = asyncio.create_task(prober.run())
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield DomainServer(
                domains=domain_pb2_grpc.DomainServiceStub(channel),
                guests_api=guest_pb2_grpc.GuestServiceStub(channel),
                connection=connection,
                guests=guests,
                affinities=affinities,
                events=events,
                stops=stops,
                directory=directory,
                self_fence=self_fence,
                devices=device_pb2_grpc.DeviceServiceStub(channel),
                assignments=assignments,
                provider=provider,
                definitions=definitions,
            )
    finally:
        probing.cancel()
        with suppress(asyncio.CancelledError):
            await probing
        await server.stop(None)
        await connection.close()


async def failure(call: Callable[[], Any]) -> tuple[str, str]:
    """The status and the code with which a call, or the reading of a stream, fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await drain(call())
    trailers: Any = caught.value.trailing_metadata()
    codes = [str(value) for key, value in trailers if key == CODE_METADATA_KEY]
    return caught.value.code().name, " ".join(codes)


async def drain(call: Any) -> list[Any]:
    """All messages of a stream, or the one of a unary call."""
    if inspect.isawaitable(call):
        return [await call]
    return [message async for message in call]
