"""Calls to agents, a method a call: a deadline on each, failures told as AgentCallError."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Coroutine
from datetime import timedelta
from typing import Any, Final, TypeVar

from coordinator.agents.call import OnProgress
from coordinator.agents.channel import ChannelPool, Credentials
from coordinator.agents.device import DeviceCalls
from coordinator.agents.error import AgentCallError, NodeAway
from coordinator.agents.export import ExportCalls
from coordinator.agents.snapshot import SnapshotCalls
from coordinator.agents.transfer import TRANSFER_SECONDS, TransferCalls
from coordinator.store.database import Database
from protos.agent.v1 import (
    domain_pb2,
    domain_pb2_grpc,
    guest_pb2,
    guest_pb2_grpc,
    migration_pb2,
    migration_pb2_grpc,
    network_pb2,
    network_pb2_grpc,
    storage_pb2,
    storage_pb2_grpc,
)

__all__ = ["AgentCallError", "AgentClient", "AgentClients", "Credentials", "NodeAway"]

QUICK_SECONDS: Final = 15.0
DEFINE_SECONDS: Final = 60.0
# Forced stops and removals wait for QEMU to end, which takes long on a host with busy disks.
POWER_SECONDS: Final = 90.0
# libvirt waits some seconds for a guest to open the tray.
MEDIUM_SECONDS: Final = 60.0
VOLUME_SECONDS: Final = 300.0
IMAGE_SECONDS: Final = 6 * 3600.0
# A guest with large disks takes its time; that it gets on is watched by the agent.
MIGRATION_SECONDS: Final = 24 * 3600.0
# What the agent may take beyond the time that a guest was given.
MARGIN_SECONDS: Final = 30.0

Answer = TypeVar("Answer")


class AgentClients:
    """The agents of all nodes.

    `loop` is the one on which all calls run; `call_sync` hands work over to it from other threads.
    """

    def __init__(
        self, database: Database, credentials: Credentials, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self._channels = ChannelPool(database, credentials)
        self._loop = loop

    def of(self, node_id: str) -> "AgentClient":
        """The agent of one node; nothing is sent yet."""
        return AgentClient(node_id, self._channels)

    def node_registered(self, node_id: str) -> None:
        """The node registered, perhaps with another address. Callable from any thread."""
        self._channels.node_returned(node_id)

    def call_sync(self, coroutine: Coroutine[Any, Any, Answer], timeout_seconds: float = 60.0) -> Answer:
        """The result of `coroutine`, run on the loop, for callers in other threads."""
        if self._loop is None:
            coroutine.close()
            raise RuntimeError("these clients have no event loop")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout_seconds)
        except TimeoutError:
            future.cancel()
            raise AgentCallError("AgentTimeout", "the node did not answer in time", transient=True) from None

    async def iterate(self, source: AsyncGenerator[Answer]) -> AsyncGenerator[Answer]:
        """What `source` yields, run on the loop, for callers on this or another one; to close it closes `source`."""
        loop = self._loop or asyncio.get_running_loop()

        async def take() -> tuple[Answer, ...]:
            async for found in source:
                return (found,)
            return ()

        try:
            while found := await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(take(), loop)):
                yield found[0]
        finally:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_close(source), loop))

    async def close(self) -> None:
        """Closes all channels."""
        await self._channels.close()


async def _close(source: AsyncGenerator[Any]) -> None:
    await source.aclose()


class AgentClient(DeviceCalls, SnapshotCalls, ExportCalls, TransferCalls):
    """The agent of one node. Every method raises AgentCallError; every Ensure… may be repeated at will."""

    async def ensure_image_cached(
        self, image: storage_pb2.ImageRef, on_progress: OnProgress[storage_pb2.ImageProgress] | None = None
    ) -> None:
        """The image is in the node's cache, its checksum verified."""
        stub = storage_pb2_grpc.ImageServiceStub(await self._channel())
        request = storage_pb2.EnsureImageCachedRequest(image=image)
        last = await self._follow(stub.EnsureCached, request, IMAGE_SECONDS, on_progress)
        if not last.cached:
            raise AgentCallError("AgentCallFailed", "the agent ended the transfer early", transient=True)

    async def ensure_image_evicted(self, image_id: str) -> None:
        """The image is not in the node's cache."""
        stub = storage_pb2_grpc.ImageServiceStub(await self._channel())
        await self._ensure(stub.EnsureEvicted, storage_pb2.EnsureImageEvictedRequest(image_id=image_id), DEFINE_SECONDS)

    async def list_cached_images(self) -> list[str]:
        """Ids of the images in the node's cache."""
        stub = storage_pb2_grpc.ImageServiceStub(await self._channel())
        images = (await self._call(stub.List, storage_pb2.ListImagesRequest(), QUICK_SECONDS)).images
        return [image.image_id for image in images]

    async def ensure_volume(
        self,
        uuid: str,
        size_bytes: int,
        volume_type: str,
        image: storage_pb2.ImageRef | None = None,
        *,
        shared: bool = False,
        encrypted: bool = False,
    ) -> storage_pb2.Volume:
        """The volume exists, backed by `image` (cached before) or empty; `shared`: several domains may have it.

        CapabilityMissing where an older agent has made one in the clear that was to be encrypted; it is removed.
        """
        stub = storage_pb2_grpc.VolumeServiceStub(await self._channel())
        request = storage_pb2.EnsureVolumeRequest(
            uuid=uuid, size_bytes=size_bytes, volume_type=volume_type, image=image, shared=shared, encrypted=encrypted
        )
        made = await self._ensure(stub.EnsureVolume, request, VOLUME_SECONDS)
        if encrypted and not made.encrypted:
            await self.ensure_volume_removed(uuid)
            reason = "the node's agent is too old for encrypted volumes"
            raise AgentCallError("CapabilityMissing", reason, transient=False)
        return made

    async def ensure_volume_removed(self, uuid: str) -> None:
        """The volume's data is gone."""
        stub = storage_pb2_grpc.VolumeServiceStub(await self._channel())
        await self._ensure(stub.EnsureRemoved, storage_pb2.EnsureVolumeRemovedRequest(uuid=uuid), VOLUME_SECONDS)

    async def ensure_volume_grown(self, uuid: str, size_bytes: int, domain_uuid: str) -> storage_pb2.Volume:
        """The volume has at least this size, and the guest that has it knows; `domain_uuid` is empty without one."""
        stub = storage_pb2_grpc.VolumeServiceStub(await self._channel())
        request = storage_pb2.EnsureVolumeGrownRequest(uuid=uuid, size_bytes=size_bytes, domain_uuid=domain_uuid)
        return await self._ensure(stub.EnsureGrown, request, VOLUME_SECONDS)

    async def list_volumes(self) -> list[storage_pb2.Volume]:
        """All volumes of the node."""
        stub = storage_pb2_grpc.VolumeServiceStub(await self._channel())
        return list((await self._call(stub.List, storage_pb2.ListVolumesRequest(), QUICK_SECONDS)).volumes)

    async def locate_volumes(self, uuids: Collection[str]) -> dict[str, str]:
        """Identities of the places where the volumes are, by UUID; without those that are not on the node."""
        stub = storage_pb2_grpc.VolumeServiceStub(await self._channel())
        request = storage_pb2.LocateVolumesRequest(uuids=uuids)
        return dict((await self._call(stub.Locate, request, QUICK_SECONDS)).storage_ids)

    async def ensure_port(self, port: network_pb2.Port) -> network_pb2.Port:
        """The port's network is active and DHCP knows its addresses."""
        stub = network_pb2_grpc.NetworkServiceStub(await self._channel())
        return await self._ensure(stub.EnsurePort, network_pb2.EnsurePortRequest(port=port), DEFINE_SECONDS)

    async def ensure_port_removed(self, port_id: str) -> None:
        """No DHCP entry of the port is left."""
        stub = network_pb2_grpc.NetworkServiceStub(await self._channel())
        await self._ensure(
            stub.EnsurePortRemoved, network_pb2.EnsurePortRemovedRequest(port_id=port_id), DEFINE_SECONDS
        )

    async def list_ports(self) -> list[network_pb2.Port]:
        """All ports of the node."""
        stub = network_pb2_grpc.NetworkServiceStub(await self._channel())
        return list((await self._call(stub.ListPorts, network_pb2.ListPortsRequest(), QUICK_SECONDS)).ports)

    async def ensure_defined(self, spec: domain_pb2.DomainSpec) -> domain_pb2.Domain:
        """libvirt holds this definition; volumes and ports were ensured before."""
        stub = domain_pb2_grpc.DomainServiceStub(await self._channel())
        return await self._ensure(stub.EnsureDefined, domain_pb2.EnsureDefinedRequest(spec=spec), DEFINE_SECONDS)

    async def ensure_disk_attached(self, uuid: str, disk: domain_pb2.Disk) -> None:
        """The domain has the disk, also while it runs."""
        stub = domain_pb2_grpc.DomainServiceStub(await self._channel())
        request = domain_pb2.EnsureDiskAttachedRequest(domain_uuid=uuid, disk=disk)
        await self._ensure(stub.EnsureDiskAttached, request, VOLUME_SECONDS)

    async def ensure_disk_detached(self, uuid: str, volume_uuid: str, grace_seconds: float) -> None:
        """The domain does not have the disk; DeviceStillAttached when its guest has not let go within the grace."""
        stub = domain_pb2_grpc.DomainServiceStub(await self._channel())
        request = domain_pb2.EnsureDiskDetachedRequest(domain_uuid=uuid, volume_uuid=volume_uuid)
        request.grace.FromTimedelta(timedelta(seconds=grace_seconds))
        await self._call(stub.EnsureDiskDetached, request, VOLUME_SECONDS + grace_seconds)

    async def ensure_medium(self, uuid: str, drive: domain_pb2.OpticalDrive, *, force: bool = False) -> None:
        """The domain's drive has the image in it, cached before, or nothing; MediumLocked when the guest keeps it."""
        stub = domain_pb2_grpc.DomainServiceStub(await self._channel())
        request = domain_pb2.EnsureMediumRequest(domain_uuid=uuid, drive=drive, force=force)
        await self._ensure(stub.EnsureMedium, request, MEDIUM_SECONDS)

    async def ensure_running(self, uuid: str) -> domain_pb2.Domain:
        """The domain runs."""
        stub = domain_pb2_grpc.DomainServiceStub(await self._channel())
        return await self._ensure(stub.EnsureRunning, domain_pb2.EnsureRunningRequest(uuid=uuid), POWER_SECONDS)

    async def ensure_grown(self, uuid: str, vcpus: int, memory_bytes: int) -> domain_pb2.Domain:
        """The running domain has, and uses, as much; DomainGrowthUnsupported when it must be restarted for it."""
        stub = domain_pb2_grpc.DomainServiceStub(await self._channel())
        request = domain_pb2.EnsureGrownRequest(uuid=uuid, vcpus=vcpus, memory_bytes=memory_bytes)
        return await self._call(stub.EnsureGrown, request, VOLUME_SECONDS)

    async def ensure_hibernated(
        self, uuid: str, on_progress: OnProgress[domain_pb2.HibernateProgress] | None = None
    ) -> domain_pb2.Domain:
        """The domain is off, with its memory on disk. To stop waiting ends nothing; see cancel_hibernation."""
        stub = domain_pb2_grpc.DomainServiceStub(await self._channel())
        request = domain_pb2.EnsureHibernatedRequest(uuid=uuid)
        last = await self._follow(stub.EnsureHibernated, request, TRANSFER_SECONDS, on_progress)
        if not last.HasField("domain"):
            raise AgentCallError("AgentCallFailed", "the agent ended the call early", transient=True)
        return last.domain

    async def cancel_hibernation(self, uuid: str) -> domain_pb2.Domain:
        """The domain runs, whether or not it had been saved by then."""
        stub = domain_pb2_grpc.DomainServiceStub(await self._channel())
        return await self._call(stub.CancelHibernation, domain_pb2.CancelHibernationRequest(uuid=uuid), VOLUME_SECONDS)

    async def ensure_stopped(
        self,
        uuid: str,
        force: bool,
        grace_seconds: float,
        on_progress: OnProgress[domain_pb2.StopProgress] | None = None,
    ) -> domain_pb2.Domain:
        """The domain is shut off; without `force` it fails with DomainStopTimeout after the grace."""
        stub = domain_pb2_grpc.DomainServiceStub(await self._channel())
        request = domain_pb2.EnsureStoppedRequest(uuid=uuid, force=force)
        if not force:
            request.grace.FromTimedelta(timedelta(seconds=grace_seconds))
        deadline_seconds = POWER_SECONDS if force else grace_seconds + MARGIN_SECONDS
        return (await self._follow(stub.EnsureStopped, request, deadline_seconds, on_progress)).domain

    async def reboot(
        self,
        uuid: str,
        operation_id: str,
        force: bool,
        grace_seconds: float,
        on_progress: OnProgress[domain_pb2.RebootProgress] | None = None,
    ) -> domain_pb2.Domain:
        """The guest was rebooted once for this operation id."""
        stub = domain_pb2_grpc.DomainServiceStub(await self._channel())
        request = domain_pb2.RebootRequest(uuid=uuid, operation_id=operation_id, force=force)
        request.grace.FromTimedelta(timedelta(seconds=grace_seconds))
        deadline_seconds = POWER_SECONDS + (0 if force else grace_seconds)
        return (await self._follow(stub.Reboot, request, deadline_seconds, on_progress)).domain

    async def ensure_paused(self, uuid: str) -> domain_pb2.Domain:
        """The domain's vCPUs stand still."""
        stub = domain_pb2_grpc.DomainServiceStub(await self._channel())
        return await self._ensure(stub.EnsurePaused, domain_pb2.EnsurePausedRequest(uuid=uuid), DEFINE_SECONDS)

    async def ensure_resumed(self, uuid: str) -> domain_pb2.Domain:
        """The domain's vCPUs run again."""
        stub = domain_pb2_grpc.DomainServiceStub(await self._channel())
        return await self._ensure(stub.EnsureResumed, domain_pb2.EnsureResumedRequest(uuid=uuid), DEFINE_SECONDS)

    async def ensure_removed(self, uuid: str) -> None:
        """Nothing of the domain is left; a running guest is ended."""
        stub = domain_pb2_grpc.DomainServiceStub(await self._channel())
        await self._ensure(stub.EnsureRemoved, domain_pb2.EnsureRemovedRequest(uuid=uuid), POWER_SECONDS)

    async def get_domain(self, uuid: str) -> domain_pb2.Domain:
        """The domain as it is now."""
        stub = domain_pb2_grpc.DomainServiceStub(await self._channel())
        return await self._call(stub.Get, domain_pb2.GetDomainRequest(uuid=uuid), QUICK_SECONDS)

    async def list_domains(self) -> list[domain_pb2.Domain]:
        """All domains of the node, foreign ones included."""
        stub = domain_pb2_grpc.DomainServiceStub(await self._channel())
        return list((await self._call(stub.List, domain_pb2.ListDomainsRequest(), QUICK_SECONDS)).domains)

    async def run_guest_command(self, uuid: str, command_json: str, timeout_seconds: float) -> str:
        """The guest agent's answer to one command, as JSON."""
        stub = guest_pb2_grpc.GuestServiceStub(await self._channel())
        request = guest_pb2.RunGuestCommandRequest(uuid=uuid, command_json=command_json)
        request.timeout.FromTimedelta(timedelta(seconds=timeout_seconds))
        return (await self._call(stub.RunCommand, request, timeout_seconds + MARGIN_SECONDS)).return_json

    async def probe_guest(self, uuid: str) -> guest_pb2.GuestProbe:
        """Whether the guest agent answers; a silent guest is an answer, not a failure."""
        stub = guest_pb2_grpc.GuestServiceStub(await self._channel())
        return await self._call(stub.Probe, guest_pb2.ProbeGuestRequest(uuid=uuid), QUICK_SECONDS)

    async def inspect_outgoing(self, uuid: str) -> migration_pb2.OutgoingGuest:
        """What a target has to know of a guest, and what keeps it from being moved."""
        stub = migration_pb2_grpc.MigrationServiceStub(await self._channel())
        return await self._call(stub.InspectOutgoing, migration_pb2.InspectOutgoingRequest(uuid=uuid), QUICK_SECONDS)

    async def prepare_incoming(self, request: migration_pb2.PrepareIncomingRequest) -> migration_pb2.IncomingGuest:
        """The node can take the guest; volumes and ports were ensured before."""
        stub = migration_pb2_grpc.MigrationServiceStub(await self._channel())
        return await self._ensure(stub.PrepareIncoming, request, DEFINE_SECONDS)

    async def migrate(
        self,
        request: migration_pb2.MigrateRequest,
        on_progress: OnProgress[migration_pb2.MigrationProgress] | None = None,
    ) -> migration_pb2.MigrationOutcome:
        """How the migration of this id ended; it is begun when the node does not know it yet."""
        stub = migration_pb2_grpc.MigrationServiceStub(await self._channel())
        last = await self._follow(stub.Migrate, request, MIGRATION_SECONDS, on_progress)
        if not last.HasField("outcome"):
            raise AgentCallError("AgentCallFailed", "the agent ended the migration's report early", transient=True)
        return last.outcome

    async def cancel_migration(self, uuid: str, migration_id: str) -> migration_pb2.MigrationOutcome:
        """How the migration ended: it is given up unless it was over before."""
        stub = migration_pb2_grpc.MigrationServiceStub(await self._channel())
        request = migration_pb2.CancelMigrationRequest(uuid=uuid, migration_id=migration_id)
        return await self._call(stub.Cancel, request, POWER_SECONDS)

    async def ensure_incoming_removed(self, uuid: str, migration_id: str) -> None:
        """Nothing is left here of a guest that has not come; MigrationCompleted when it has."""
        stub = migration_pb2_grpc.MigrationServiceStub(await self._channel())
        request = migration_pb2.EnsureIncomingRemovedRequest(uuid=uuid, migration_id=migration_id)
        await self._ensure(stub.EnsureIncomingRemoved, request, POWER_SECONDS)
