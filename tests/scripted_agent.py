"""An agent that keeps what it is told in memory and fails where a test says so; real gRPC, real certificates.

It stands for injected failures only: what real nodes do is tested with libvirt.
"""

import asyncio
import hashlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from coordinator.agents.client import AgentClients
from coordinator.pki import Authority, CoordinatorIdentity
from coordinator.runtime import Runtime
from coordinator.store.tables import Node
from coordinator.tasks.engine import TaskEngine
from coordinator.tasks.kinds import KINDS
from coordinator.tasks.ledger import OnCommit
from protos.agent.v1 import (
    device_pb2,
    device_pb2_grpc,
    domain_pb2,
    domain_pb2_grpc,
    guest_pb2,
    guest_pb2_grpc,
    host_pb2,
    host_pb2_grpc,
    migration_pb2,
    migration_pb2_grpc,
    network_pb2,
    network_pb2_grpc,
    snapshot_pb2,
    snapshot_pb2_grpc,
    storage_pb2,
    storage_pb2_grpc,
)

# Nobody waits for so long unless the machine stands still.
_PATIENCE_SECONDS = 120.0


def _ignore(point: str) -> None:
    """Nobody watches the commits."""


@dataclass(frozen=True)
class Refusal:
    """How a call fails; `times` is how often before it succeeds."""

    status: grpc.StatusCode = grpc.StatusCode.INTERNAL
    code: str = "HypervisorFailed"
    message: str = "injected"
    times: int = 1_000_000


@dataclass
class ScriptedAgent:
    """What the node holds, which calls came, which of them are to fail or to wait."""

    calls: list[str] = field(default_factory=list)
    domains: dict[str, domain_pb2.Domain] = field(default_factory=dict)
    specs: dict[str, domain_pb2.DomainSpec] = field(default_factory=dict)
    volumes: dict[str, int] = field(default_factory=dict)
    # Where volumes are, as a test says.
    places: dict[str, str] = field(default_factory=dict)
    # Those that several domains may have.
    shared: set[str] = field(default_factory=set)
    # What was attached, by domain and volume; what domains were defined with is in their specs.
    disks: dict[str, dict[str, domain_pb2.Disk]] = field(default_factory=dict)
    # What volumes hold, by volume and id; rolled back to which, in their order.
    snapshots: dict[str, set[str]] = field(default_factory=dict)
    rolled_back: list[tuple[str, str]] = field(default_factory=list)
    # What is written on volumes, and what their snapshots keep of it.
    contents: dict[str, str] = field(default_factory=dict)
    kept: dict[tuple[str, str], str] = field(default_factory=dict)
    # Where volumes are made, by their types.
    backends: dict[str, storage_pb2.VolumeBackend] = field(default_factory=dict)
    # What was put into drives, by domain and number of the drive; what domains were defined with is in their specs.
    media: dict[str, dict[int, str]] = field(default_factory=dict)
    ports: dict[str, network_pb2.Port] = field(default_factory=dict)
    images: set[str] = field(default_factory=set)
    # Ids of copies of volumes, and what each of them consists of.
    exports: set[str] = field(default_factory=set)
    exported: bytes = b""
    # Why guests that run are not frozen for that.
    unfrozen_reason: str = ""
    reboots: Counter[str] = field(default_factory=Counter)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    # Calls by these names wait until the event is set.
    gates: dict[str, threading.Event] = field(default_factory=dict)
    # The newest that it has, and those that it has not.
    machine: str = "pc-q35-7.2"
    missing_machines: set[str] = field(default_factory=set)
    guest_agent_state: Any = domain_pb2.GUEST_AGENT_STATE_RUNNING
    guest_answer: str = "{}"
    guest_commands: list[str] = field(default_factory=list)
    # Instead of that answer, what says something to each command.
    guest: Callable[[str], str] | None = None
    # What keeps guests from leaving, by code; how migrations end, by their id, once they have.
    blockers: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, Any] = field(default_factory=dict)
    # How a migration ends that nobody cancels.
    ending: Any = migration_pb2.MIGRATION_STATE_COMPLETED
    orders: list[Any] = field(default_factory=list)
    incoming: list[Any] = field(default_factory=list)
    # Devices that were prepared for domains, and those of them that a domain has, by the domains' and their own UUIDs.
    journal: dict[str, dict[str, Any]] = field(default_factory=dict)
    plugged: dict[str, set[str]] = field(default_factory=dict)
    # Ids of devices that were overwritten before they were given back.
    wiped: list[str] = field(default_factory=list)
    inventory: host_pb2.HostInventory = field(default_factory=host_pb2.HostInventory)
    gpu_mode: str = "passthrough"
    encrypted: set[str] = field(default_factory=set)
    # It knows nothing of encryption.
    is_old: bool = False
    # Where guests go to.
    peer: "ScriptedAgent | None" = None

    def is_empty(self) -> bool:
        """Whether nothing of any instance is left; cached images are no instance's."""
        return not (self.domains or self.volumes or self.ports or self.journal)

    async def enter(self, name: str, context: Any) -> None:
        """Notes a call, holds it up and refuses it as the test wants."""
        self.calls.append(name)
        while (gate := self.gates.get(name)) and not gate.is_set():
            await asyncio.sleep(0.01)
        refusal = self.refusals.get(name)
        if refusal and self.calls.count(name) <= refusal.times:
            metadata = (("nodewright-code", refusal.code),) if refusal.code else ()
            await context.abort(refusal.status, refusal.message, metadata)

    async def prepare(self, domain_uuid: str, device: Any, context: Any) -> None:
        """The device is the domain's in the journal, unless it is another one's as a whole or in the same slice."""
        for other, devices in self.journal.items():
            taken = {it.device_id for it in devices.values() if not it.vgpu_type_id}
            if other != domain_uuid and (device.device_id in taken or device.uuid in devices):
                await refuse(context, "DeviceInUse", f"{device.device_id} is {other}'s")
        self.journal.setdefault(domain_uuid, {})[device.uuid] = device

    def devices_of(self, domain_uuid: str) -> set[str]:
        """Ids of the devices that the domain has."""
        return {self.journal[domain_uuid][uuid].device_id for uuid in self.plugged.get(domain_uuid, ())}

    def set_power(self, uuid: str, state: domain_pb2.PowerState) -> domain_pb2.Domain:
        """The domain, now in that state."""
        domain = self.domains[uuid]
        domain.power_state = state
        return domain


async def refuse(context: Any, code: str, message: str) -> None:
    """Ends a call that makes no sense now."""
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, message, (("nodewright-code", code),))


class _Domains(domain_pb2_grpc.DomainServiceServicer):
    def __init__(self, agent: ScriptedAgent) -> None:
        self._agent = agent

    async def EnsureDefined(self, request: Any, context: Any) -> domain_pb2.Domain:
        await self._agent.enter("ensure_defined", context)
        spec = request.spec
        if spec.machine in self._agent.missing_machines:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "old", (("nodewright-code", "CapabilityMissing"),))
        for device in spec.host_devices:
            await self._agent.prepare(spec.uuid, device, context)
        self._agent.plugged[spec.uuid] = {device.uuid for device in spec.host_devices}
        self._agent.specs[spec.uuid] = spec
        return self._agent.domains.setdefault(
            spec.uuid,
            domain_pb2.Domain(
                uuid=spec.uuid,
                name=spec.name,
                power_state=domain_pb2.POWER_STATE_SHUTOFF,
                machine=spec.machine or self._agent.machine,
            ),
        )

    async def EnsureRunning(self, request: Any, context: Any) -> domain_pb2.Domain:
        # A start that fails may have begun all the same.
        domain = self._agent.set_power(request.uuid, domain_pb2.POWER_STATE_RUNNING)
        await self._agent.enter("ensure_running", context)
        return domain

    async def EnsureStopped(self, request: Any, context: Any) -> AsyncIterator[domain_pb2.StopProgress]:
        if request.HasField("grace") and not request.grace.ToTimedelta():
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "grace: more than 0 s")
        await self._agent.enter("ensure_stopped_by_force" if request.force else "ensure_stopped", context)
        domain = self._agent.set_power(request.uuid, domain_pb2.POWER_STATE_SHUTOFF)
        yield domain_pb2.StopProgress(method="destroy" if request.force else "guest-agent", domain=domain)

    async def Reboot(self, request: Any, context: Any) -> AsyncIterator[domain_pb2.RebootProgress]:
        await self._agent.enter("reboot", context)
        self._agent.reboots[request.operation_id] += 1
        yield domain_pb2.RebootProgress(method="guest-agent", domain=self._agent.domains[request.uuid])

    async def EnsurePaused(self, request: Any, context: Any) -> domain_pb2.Domain:
        await self._agent.enter("ensure_paused", context)
        return self._agent.set_power(request.uuid, domain_pb2.POWER_STATE_PAUSED)

    async def EnsureResumed(self, request: Any, context: Any) -> domain_pb2.Domain:
        await self._agent.enter("ensure_resumed", context)
        return self._agent.set_power(request.uuid, domain_pb2.POWER_STATE_RUNNING)

    async def EnsureGrown(self, request: Any, context: Any) -> domain_pb2.Domain:
        await self._agent.enter("ensure_grown", context)
        self._agent.orders.append(request)
        domain = self._agent.domains[request.uuid]
        domain.vcpus, domain.memory_bytes = request.vcpus, request.memory_bytes
        return domain

    async def EnsureHibernated(self, request: Any, context: Any) -> AsyncIterator[domain_pb2.HibernateProgress]:
        yield domain_pb2.HibernateProgress(done_bytes=1 << 20, total_bytes=4 << 20)
        await self._agent.enter("ensure_hibernated", context)
        domain = self._agent.set_power(request.uuid, domain_pb2.POWER_STATE_HIBERNATED)
        yield domain_pb2.HibernateProgress(domain=domain)

    async def CancelHibernation(self, request: Any, context: Any) -> domain_pb2.Domain:
        await self._agent.enter("cancel_hibernation", context)
        return self._agent.set_power(request.uuid, domain_pb2.POWER_STATE_RUNNING)

    async def EnsureDiskAttached(self, request: Any, context: Any) -> domain_pb2.EnsureDiskAttachedResponse:
        # A call that fails may have been done all the same.
        self._agent.disks.setdefault(request.domain_uuid, {})[request.disk.volume_uuid] = request.disk
        await self._agent.enter("ensure_disk_attached", context)
        return domain_pb2.EnsureDiskAttachedResponse()

    async def EnsureDiskDetached(self, request: Any, context: Any) -> domain_pb2.EnsureDiskDetachedResponse:
        await self._agent.enter("ensure_disk_detached", context)
        self._agent.disks.get(request.domain_uuid, {}).pop(request.volume_uuid, None)
        return domain_pb2.EnsureDiskDetachedResponse()

    async def EnsureMedium(self, request: Any, context: Any) -> domain_pb2.EnsureMediumResponse:
        await self._agent.enter("ensure_medium_by_force" if request.force else "ensure_medium", context)
        image_id = request.drive.image.image_id
        if image_id and image_id not in self._agent.images:
            await refuse(context, "ImageNotFound", image_id)
        self._agent.media.setdefault(request.domain_uuid, {})[request.drive.number] = image_id
        return domain_pb2.EnsureMediumResponse()

    async def Get(self, request: Any, context: Any) -> domain_pb2.Domain:
        await self._agent.enter("get_domain", context)
        return self._agent.domains[request.uuid]

    async def EnsureRemoved(self, request: Any, context: Any) -> domain_pb2.EnsureRemovedResponse:
        await self._agent.enter("ensure_removed", context)
        self._agent.domains.pop(request.uuid, None)
        self._agent.plugged.pop(request.uuid, None)
        self._agent.disks.pop(request.uuid, None)
        return domain_pb2.EnsureRemovedResponse()


class _Devices(device_pb2_grpc.DeviceServiceServicer):
    def __init__(self, agent: ScriptedAgent) -> None:
        self._agent = agent

    async def EnsureAttached(self, request: Any, context: Any) -> device_pb2.EnsureAttachedResponse:
        # What a failed call half made is there all the same: the undo must take it away.
        await self._agent.prepare(request.domain_uuid, request.device, context)
        await self._agent.enter("ensure_attached", context)
        if request.domain_uuid not in self._agent.domains:
            await refuse(context, "DomainNotFound", "no such domain")
        self._agent.plugged.setdefault(request.domain_uuid, set()).add(request.device.uuid)
        return device_pb2.EnsureAttachedResponse()

    async def EnsureDetached(self, request: Any, context: Any) -> device_pb2.EnsureDetachedResponse:
        await self._agent.enter("ensure_detached", context)
        self._agent.plugged.get(request.domain_uuid, set()).discard(request.device_uuid)
        return device_pb2.EnsureDetachedResponse()

    async def EnsureReleased(self, request: Any, context: Any) -> AsyncIterator[device_pb2.ReleaseProgress]:
        await self._agent.enter("ensure_released", context)
        journal = self._agent.journal.get(request.domain_uuid, {})
        for uuid in list(request.device_uuids or journal):
            if uuid in self._agent.plugged.get(request.domain_uuid, ()):
                await refuse(context, "DeviceInUse", f"domain {request.domain_uuid} has it")
            if (device := journal.get(uuid)) is None:
                continue
            if device.wipe_on_release:
                yield device_pb2.ReleaseProgress(device_id=device.device_id, done_bytes=1 << 30, total_bytes=2 << 30)
                await self._agent.enter("wipe", context)
                self._agent.wiped.append(device.device_id)
            del journal[uuid]
        if not journal:
            self._agent.journal.pop(request.domain_uuid, None)

    async def EnsureForcedRelease(self, request: Any, context: Any) -> AsyncIterator[device_pb2.ReleaseProgress]:
        """What cannot be wiped is given up."""
        await self._agent.enter("ensure_forced_release", context)
        for domain_uuid, devices in list(self._agent.journal.items()):
            for uuid, device in list(devices.items()):
                if device.device_id == request.device_id:
                    yield device_pb2.ReleaseProgress(device_id=device.device_id)
                    del devices[uuid]
            if not devices:
                del self._agent.journal[domain_uuid]

    async def EnsureGpuMode(self, request: Any, context: Any) -> device_pb2.EnsureGpuModeResponse:
        await self._agent.enter("ensure_gpu_mode", context)
        if self._agent.journal:
            await refuse(context, "GpuInUse", "guests have some of them")
        self._agent.gpu_mode = request.mode
        return device_pb2.EnsureGpuModeResponse(device_ids=["0000:3b:00.0"])


class _Host(host_pb2_grpc.HostServiceServicer):
    def __init__(self, agent: ScriptedAgent) -> None:
        self._agent = agent

    async def GetInventory(self, request: Any, context: Any) -> host_pb2.HostInventory:
        await self._agent.enter("get_inventory", context)
        return self._agent.inventory


class _Images(storage_pb2_grpc.ImageServiceServicer):
    def __init__(self, agent: ScriptedAgent) -> None:
        self._agent = agent

    async def EnsureCached(self, request: Any, context: Any) -> AsyncIterator[storage_pb2.ImageProgress]:
        await self._agent.enter("ensure_image_cached", context)
        self._agent.images.add(request.image.image_id)
        yield storage_pb2.ImageProgress(done_bytes=1, total_bytes=1, cached=True)

    async def List(self, request: Any, context: Any) -> storage_pb2.ListImagesResponse:
        await self._agent.enter("list_images", context)
        images = [storage_pb2.ImageRef(image_id=image_id) for image_id in sorted(self._agent.images)]
        return storage_pb2.ListImagesResponse(images=images)

    async def EnsureEvicted(self, request: Any, context: Any) -> storage_pb2.EnsureImageEvictedResponse:
        await self._agent.enter("ensure_image_evicted", context)
        self._agent.images.discard(request.image_id)
        return storage_pb2.EnsureImageEvictedResponse()


class _Volumes(storage_pb2_grpc.VolumeServiceServicer):
    def __init__(self, agent: ScriptedAgent) -> None:
        self._agent = agent

    async def EnsureVolume(self, request: Any, context: Any) -> storage_pb2.Volume:
        # What a failed call half made is there all the same: the undo must take it away.
        self._agent.volumes.setdefault(request.uuid, request.size_bytes)
        self._agent.contents.setdefault(request.uuid, request.image.image_id)
        if request.shared:
            self._agent.shared.add(request.uuid)
        await self._agent.enter("ensure_volume", context)
        backend = self._agent.backends.get(request.volume_type)
        if request.encrypted and not self._agent.is_old:
            self._agent.encrypted.add(request.uuid)
        is_encrypted = request.uuid in self._agent.encrypted
        return storage_pb2.Volume(
            uuid=request.uuid, size_bytes=request.size_bytes, backend=backend, encrypted=is_encrypted
        )

    async def EnsureRemoved(self, request: Any, context: Any) -> storage_pb2.EnsureVolumeRemovedResponse:
        await self._agent.enter("ensure_volume_removed", context)
        self._agent.volumes.pop(request.uuid, None)
        self._agent.snapshots.pop(request.uuid, None)
        self._agent.contents.pop(request.uuid, None)
        return storage_pb2.EnsureVolumeRemovedResponse()

    async def EnsureCopied(self, request: Any, context: Any) -> AsyncIterator[storage_pb2.VolumeCopyProgress]:
        self._agent.volumes[request.uuid] = request.size_bytes
        origin = self._agent.contents.get(request.origin.volume_uuid, "")
        copied = self._agent.kept.get((request.origin.volume_uuid, request.origin.snapshot_id), origin)
        self._agent.contents.setdefault(request.uuid, copied)
        self._agent.orders.append(request)
        await self._agent.enter("ensure_volume_copied", context)
        yield storage_pb2.VolumeCopyProgress(percent=50)
        backend = self._agent.backends.get(request.volume_type)
        volume = storage_pb2.Volume(uuid=request.uuid, size_bytes=request.size_bytes, backend=backend)
        yield storage_pb2.VolumeCopyProgress(percent=100, volume=volume)

    async def EnsureGrown(self, request: Any, context: Any) -> storage_pb2.Volume:
        # A call that fails may have been done all the same.
        self._agent.volumes[request.uuid] = max(self._agent.volumes.get(request.uuid, 0), request.size_bytes)
        self._agent.orders.append(request)
        await self._agent.enter("ensure_volume_grown", context)
        return storage_pb2.Volume(uuid=request.uuid, size_bytes=self._agent.volumes[request.uuid])

    async def List(self, request: Any, context: Any) -> storage_pb2.ListVolumesResponse:
        await self._agent.enter("list_volumes", context)
        volumes = [storage_pb2.Volume(uuid=uuid, size_bytes=size) for uuid, size in self._agent.volumes.items()]
        return storage_pb2.ListVolumesResponse(volumes=volumes)

    async def Locate(self, request: Any, context: Any) -> storage_pb2.LocateVolumesResponse:
        await self._agent.enter("locate_volumes", context)
        places = {uuid: self._agent.places[uuid] for uuid in request.uuids if uuid in self._agent.places}
        return storage_pb2.LocateVolumesResponse(storage_ids=places)


class _Snapshots(snapshot_pb2_grpc.SnapshotServiceServicer):
    def __init__(self, agent: ScriptedAgent) -> None:
        self._agent = agent

    async def EnsureTaken(self, request: Any, context: Any) -> snapshot_pb2.TakenSnapshot:
        # A call that fails may have been done all the same.
        for uuid in request.volume_uuids:
            self._agent.snapshots.setdefault(uuid, set()).add(request.snapshot_id)
            self._agent.kept.setdefault((uuid, request.snapshot_id), self._agent.contents.get(uuid, ""))
        self._agent.orders.append(request)
        await self._agent.enter("ensure_snapshot_taken", context)
        return snapshot_pb2.TakenSnapshot(
            consistency=snapshot_pb2.SNAPSHOT_CONSISTENCY_FILE_SYSTEM,
            volumes=[
                snapshot_pb2.VolumeSnapshot(volume_uuid=uuid, allocated_bytes=4096) for uuid in request.volume_uuids
            ],
        )

    async def EnsureRemoved(self, request: Any, context: Any) -> snapshot_pb2.EnsureSnapshotRemovedResponse:
        await self._agent.enter("ensure_snapshot_removed", context)
        for uuid in request.volume_uuids:
            self._agent.snapshots.get(uuid, set()).discard(request.snapshot_id)
            self._agent.kept.pop((uuid, request.snapshot_id), None)
        return snapshot_pb2.EnsureSnapshotRemovedResponse()

    async def EnsureRolledBack(self, request: Any, context: Any) -> snapshot_pb2.EnsureRolledBackResponse:
        for uuid in request.volume_uuids:
            if request.snapshot_id not in self._agent.snapshots.get(uuid, set()):
                await context.abort(grpc.StatusCode.NOT_FOUND, uuid, (("nodewright-code", "SnapshotNotFound"),))
        self._agent.rolled_back += [(uuid, request.snapshot_id) for uuid in request.volume_uuids]
        for uuid in request.volume_uuids:
            self._agent.contents[uuid] = self._agent.kept.get((uuid, request.snapshot_id), "")
        await self._agent.enter("ensure_rolled_back", context)
        return snapshot_pb2.EnsureRolledBackResponse()


class _Exports(storage_pb2_grpc.VolumeExportServiceServicer):
    def __init__(self, agent: ScriptedAgent) -> None:
        self._agent = agent

    async def EnsureExported(self, request: Any, context: Any) -> AsyncIterator[storage_pb2.VolumeExportProgress]:
        await self._agent.enter("ensure_volume_exported", context)
        self._agent.exports.add(request.export_id)
        yield storage_pb2.VolumeExportProgress(percent=50)
        self._agent.orders.append(request)
        digest = hashlib.sha256(self._agent.exported).hexdigest()
        consistency = snapshot_pb2.SNAPSHOT_CONSISTENCY_FILE_SYSTEM
        if self._agent.unfrozen_reason:
            consistency = snapshot_pb2.SNAPSHOT_CONSISTENCY_CRASH
        done = storage_pb2.VolumeExportProgress(
            percent=100,
            size_bytes=len(self._agent.exported),
            sha256=digest,
            consistency=consistency,
            reason=self._agent.unfrozen_reason,
        )
        if request.parent_snapshot_id:
            done.is_increment = request.parent_snapshot_id in self._agent.snapshots.get(request.uuid, set())
            done.whole_because = "" if done.is_increment else "the volume does not hold the former state any more"
        yield done

    async def Read(self, request: Any, context: Any) -> AsyncIterator[storage_pb2.VolumeExportChunk]:
        await self._agent.enter("read_volume_export", context)
        if request.export_id not in self._agent.exports:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no copy", (("nodewright-code", "ExportNotFound"),))
        for start in range(request.offset_bytes, len(self._agent.exported), 1000):
            yield storage_pb2.VolumeExportChunk(data=self._agent.exported[start : start + 1000])

    async def EnsureRemoved(self, request: Any, context: Any) -> storage_pb2.EnsureVolumeExportRemovedResponse:
        await self._agent.enter("ensure_volume_export_removed", context)
        self._agent.exports.discard(request.export_id)
        return storage_pb2.EnsureVolumeExportRemovedResponse()


class _Ports(network_pb2_grpc.NetworkServiceServicer):
    def __init__(self, agent: ScriptedAgent) -> None:
        self._agent = agent

    async def EnsurePort(self, request: Any, context: Any) -> network_pb2.Port:
        self._agent.ports[request.port.port_id] = request.port
        await self._agent.enter("ensure_port", context)
        return request.port  # type: ignore[no-any-return]

    async def EnsurePortRemoved(self, request: Any, context: Any) -> network_pb2.EnsurePortRemovedResponse:
        await self._agent.enter("ensure_port_removed", context)
        self._agent.ports.pop(request.port_id, None)
        return network_pb2.EnsurePortRemovedResponse()


class _Guests(guest_pb2_grpc.GuestServiceServicer):
    def __init__(self, agent: ScriptedAgent) -> None:
        self._agent = agent

    async def RunCommand(self, request: Any, context: Any) -> guest_pb2.RunGuestCommandResponse:
        await self._agent.enter("run_guest_command", context)
        self._agent.guest_commands.append(request.command_json)
        answer = self._agent.guest_answer
        if self._agent.guest is not None:
            try:
                answer = self._agent.guest(request.command_json)
            except ValueError as error:
                metadata = (("nodewright-code", "GuestAgentCommandFailed"),)
                await context.abort(grpc.StatusCode.ABORTED, str(error), metadata)
        return guest_pb2.RunGuestCommandResponse(return_json=answer)

    async def Probe(self, request: Any, context: Any) -> guest_pb2.GuestProbe:
        await self._agent.enter("probe_guest", context)
        return guest_pb2.GuestProbe(state=self._agent.guest_agent_state)


class _Migrations(migration_pb2_grpc.MigrationServiceServicer):
    def __init__(self, agent: ScriptedAgent) -> None:
        self._agent = agent

    async def InspectOutgoing(self, request: Any, context: Any) -> migration_pb2.OutgoingGuest:
        await self._agent.enter("inspect_outgoing", context)
        blockers = [migration_pb2.MigrationBlocker(code=it, detail=why) for it, why in self._agent.blockers.items()]
        return migration_pb2.OutgoingGuest(machine="pc-q35-7.2", cpu_xml="<cpu/>", blockers=blockers)

    async def PrepareIncoming(self, request: Any, context: Any) -> migration_pb2.IncomingGuest:
        self._agent.incoming.append(request)
        await self._agent.enter("prepare_incoming", context)
        for device in request.spec.host_devices:
            await self._agent.prepare(request.spec.uuid, device, context)
        return migration_pb2.IncomingGuest(definition_xml="<domain/>", data_address="192.0.2.1")

    async def Migrate(self, request: Any, context: Any) -> AsyncIterator[migration_pb2.MigrationProgress]:
        agent, migration_id = self._agent, request.migration_id
        if request.HasField("target"):
            agent.orders.append(request)
            agent.outcomes.setdefault(migration_id, None)
        elif migration_id not in agent.outcomes:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown", (("nodewright-code", "MigrationNotFound"),))
        yield migration_pb2.MigrationProgress(memory_total_bytes=100, memory_remaining_bytes=40, iteration=2)
        gate = agent.gates.get("move")
        while gate and not gate.is_set() and agent.outcomes[migration_id] is None:
            await asyncio.sleep(0.01)
            yield migration_pb2.MigrationProgress(memory_total_bytes=100, memory_remaining_bytes=40, iteration=2)
        await agent.enter("migrate", context)
        yield migration_pb2.MigrationProgress(outcome=self._end(request, agent.ending))

    async def Cancel(self, request: Any, context: Any) -> migration_pb2.MigrationOutcome:
        await self._agent.enter("cancel_migration", context)
        return self._end(request, migration_pb2.MIGRATION_STATE_CANCELED)

    async def EnsureIncomingRemoved(self, request: Any, context: Any) -> migration_pb2.EnsureIncomingRemovedResponse:
        await self._agent.enter("ensure_incoming_removed", context)
        if request.uuid in self._agent.domains:
            code = (("nodewright-code", "MigrationCompleted"),)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "it has come", code)
        return migration_pb2.EnsureIncomingRemovedResponse()

    def _end(self, request: Any, state: Any) -> migration_pb2.MigrationOutcome:
        agent = self._agent
        if agent.outcomes.get(request.migration_id) is None:
            agent.outcomes[request.migration_id] = migration_pb2.MigrationOutcome(state=state, reason="injected")
            if state == migration_pb2.MIGRATION_STATE_COMPLETED and agent.peer:
                agent.peer.domains[request.uuid] = agent.domains.pop(request.uuid)
                agent.plugged.pop(request.uuid, None)
                agent.peer.plugged[request.uuid] = set(agent.peer.journal.get(request.uuid, ()))
        outcome: migration_pb2.MigrationOutcome = agent.outcomes[request.migration_id]
        return outcome


class _Transfers(storage_pb2_grpc.VolumeTransferServiceServicer):
    def __init__(self, agent: ScriptedAgent) -> None:
        self._agent = agent

    async def InspectOutgoing(self, request: Any, context: Any) -> storage_pb2.OutgoingVolume:
        await self._agent.enter("inspect_outgoing_volume", context)
        if request.content == storage_pb2.TRANSFER_CONTENT_SAVED_MEMORY:
            if self._agent.domains[request.uuid].power_state != domain_pb2.POWER_STATE_HIBERNATED:
                await refuse(context, "DomainStateConflict", f"domain {request.uuid} does not hibernate")
            return storage_pb2.OutgoingVolume(size_bytes=1 << 20, content=request.content, cpu_xml="<cpu/>")
        return storage_pb2.OutgoingVolume(size_bytes=self._agent.volumes[request.uuid])

    async def PrepareReceive(self, request: Any, context: Any) -> storage_pb2.IncomingVolume:
        await self._agent.enter("prepare_volume_receive", context)
        self._agent.incoming.append(request)
        return storage_pb2.IncomingVolume(address="192.0.2.1", port=1)

    async def Send(self, request: Any, context: Any) -> AsyncIterator[storage_pb2.VolumeTransferProgress]:
        self._agent.orders.append(request)
        if self._agent.peer:
            self._agent.peer.contents[request.uuid] = self._agent.contents.get(request.uuid, "")
        await self._agent.enter("send_volume", context)
        state = storage_pb2.VOLUME_TRANSFER_STATE_SENT
        yield storage_pb2.VolumeTransferProgress(
            outcome=storage_pb2.VolumeTransferOutcome(state=state, sha256="0" * 64)
        )

    async def CancelSend(self, request: Any, context: Any) -> storage_pb2.VolumeTransferOutcome:
        await self._agent.enter("cancel_volume_send", context)
        return storage_pb2.VolumeTransferOutcome(state=storage_pb2.VOLUME_TRANSFER_STATE_CANCELED)

    async def CompleteReceive(self, request: Any, context: Any) -> storage_pb2.Volume:
        # What a failed call half made is there all the same: the cleaning must take it away.
        if request.content == storage_pb2.TRANSFER_CONTENT_SAVED_MEMORY:
            self._agent.set_power(request.uuid, domain_pb2.POWER_STATE_HIBERNATED)
            await self._agent.enter("complete_memory_receive", context)
            return storage_pb2.Volume(uuid=request.uuid)
        self._agent.volumes[request.uuid] = 1
        await self._agent.enter("complete_volume_receive", context)
        return storage_pb2.Volume(uuid=request.uuid)

    async def EnsureReceiveEnded(self, request: Any, context: Any) -> storage_pb2.EnsureVolumeReceiveEndedResponse:
        await self._agent.enter("ensure_volume_receive_ended", context)
        return storage_pb2.EnsureVolumeReceiveEndedResponse()


@contextmanager
def at_work(runtime: Runtime, node: Node, directory: Path, on_commit: OnCommit = _ignore) -> Iterator[ScriptedAgent]:
    """A task engine over `runtime` and the agent of `node`, both at work in a loop of their own."""
    with all_at_work(runtime, [node], directory, on_commit) as (agent,):
        yield agent


@contextmanager
def all_at_work(
    runtime: Runtime, nodes: Sequence[Node], directory: Path, on_commit: OnCommit = _ignore
) -> Iterator[list[ScriptedAgent]]:
    """The same with the agents of several nodes; the engine tells `on_commit` of its commits."""
    agents = [ScriptedAgent() for _ in nodes]
    started, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(_work(runtime, nodes, directory, agents, started, stop, on_commit)),
        daemon=True,
    )
    thread.start()
    assert started.wait(_PATIENCE_SECONDS)
    try:
        yield agents
    finally:
        for gate in [gate for agent in agents for gate in agent.gates.values()]:
            gate.set()
        loop.call_soon_threadsafe(stop.set)
        thread.join(_PATIENCE_SECONDS)
        loop.close()


async def _work(
    runtime: Runtime,
    nodes: Sequence[Node],
    directory: Path,
    agents: Sequence[ScriptedAgent],
    started: threading.Event,
    stop: asyncio.Event,
    on_commit: OnCommit,
) -> None:
    authority = Authority.open(directory)
    servers = []
    for node, agent in zip(nodes, agents, strict=True):
        server, port = _make_server(agent, authority, node.id)
        await server.start()
        servers.append(server)
        with runtime.database.write() as session:
            session.get_one(Node, node.id).address = f"127.0.0.1:{port}"
    identity = CoordinatorIdentity(authority, directory, ["localhost"])
    runtime.agents = AgentClients(runtime.database, identity, asyncio.get_running_loop())
    engine = TaskEngine(runtime, KINDS, on_commit)
    working = asyncio.create_task(engine.run())
    # Once the engine has begun it can be woken.
    await asyncio.sleep(0)
    started.set()
    await stop.wait()
    engine.stop()
    await working
    await runtime.agents.close()
    for server in servers:
        await server.stop(0)


def _make_server(agent: ScriptedAgent, authority: Authority, node_id: str) -> tuple[grpc.aio.Server, int]:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    issued = authority.sign_agent(node_id, request.public_bytes(serialization.Encoding.PEM))
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server = grpc.aio.server()
    # Methods that no task calls are left out, which the generated types do not like.
    servicers: tuple[tuple[Any, Any], ...] = (
        (domain_pb2_grpc.add_DomainServiceServicer_to_server, _Domains),
        (device_pb2_grpc.add_DeviceServiceServicer_to_server, _Devices),
        (host_pb2_grpc.add_HostServiceServicer_to_server, _Host),
        (storage_pb2_grpc.add_ImageServiceServicer_to_server, _Images),
        (storage_pb2_grpc.add_VolumeServiceServicer_to_server, _Volumes),
        (snapshot_pb2_grpc.add_SnapshotServiceServicer_to_server, _Snapshots),
        (storage_pb2_grpc.add_VolumeExportServiceServicer_to_server, _Exports),
        (network_pb2_grpc.add_NetworkServiceServicer_to_server, _Ports),
        (guest_pb2_grpc.add_GuestServiceServicer_to_server, _Guests),
        (migration_pb2_grpc.add_MigrationServiceServicer_to_server, _Migrations),
        (storage_pb2_grpc.add_VolumeTransferServiceServicer_to_server, _Transfers),
    )
    for add, servicer in servicers:
        add(servicer(agent), server)
    trust = grpc.ssl_server_credentials(
        [(key_pem, issued.certificate_pem)], root_certificates=authority.pem, require_client_auth=True
    )
    return server, server.add_secure_port("127.0.0.1:0", trust)
