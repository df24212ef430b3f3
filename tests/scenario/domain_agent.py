"""The agent's parts that deal with domains, on a host of the lab, without an agent's process."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from agent.assignment import Assignments
from agent.configure.host_profile import HostProfile
from agent.definition import Definitions
from agent.domain_lock import DomainLocks
from agent.hypervisor.affinity import Affinities
from agent.hypervisor.capability import CapabilityReader
from agent.hypervisor.connection import Connection
from agent.hypervisor.description import PowerState
from agent.hypervisor.disk_change import DiskPlugs
from agent.hypervisor.events import DomainEvents
from agent.hypervisor.guest import Guests
from agent.hypervisor.guest_agent import GuestAgents
from agent.hypervisor.hostdev_change import DevicePlugs
from agent.hypervisor.prober import GuestAgentProber, GuestAgentState
from agent.hypervisor.reboot import Reboots
from agent.hypervisor.stop import Stops
from agent.self_fence import SelfFence
from agent.storage.image_cache import CachedImage
from agent.storage.image_transfer import ImageRef
from agent.storage.seed import Seeds
from agent.watchdog.record import FenceRecord
from protos.agent.v1.domain_pb2 import DomainSpec
from tests.lab.host import Host
from tests.unit.agent.device_provider import AProvider
from tests.unit.agent.guest_builder import GUEST_UUID, ANetwork, AVolume

DEMO_IMAGE = os.environ.get("NODEWRIGHT_DEMO_IMAGE", "")


@dataclass(frozen=True)
class IsoImages:
    """ISO images that a test has put into a directory."""

    directory: Path

    async def find(self, image_id: str) -> CachedImage | None:
        """As the cache finds it."""
        path = self.directory / f"{image_id}.iso"
        return CachedImage(ImageRef(image_id, "ab" * 32, "iso", 1), path, 1) if path.exists() else None


class DomainAgent:
    """Connects when it is asked to; directories of the agent are the host's."""

    def __init__(self, host: Host) -> None:
        self.directory = host.directory
        self.connection = Connection(f"qemu+unix:///system?socket={host.namespace.path('/run/libvirt/libvirt-sock')}")
        self.events = DomainEvents(self.connection)
        self.self_fence = SelfFence(host.namespace.path("/run"), FenceRecord(self.directory / "fenced"))
        self.guests = Guests(self.connection, self.events, check_start=self.self_fence.check_startable)
        self.affinities = Affinities(self.connection)
        self.guest_agents = GuestAgents(self.connection)
        self.prober = GuestAgentProber(self.guests, self.guest_agents, self.events)
        self.stops = Stops(self.guests, self.guest_agents, self.events)
        self.capability = CapabilityReader(self.connection, self.directory / "accelerator.json")
        self.provider = AProvider()
        self.images = IsoImages(self.directory)
        self.plugs = DevicePlugs(self.connection, self.events, self.affinities)
        self.disk_plugs = DiskPlugs(self.connection, self.events, self.affinities)
        locks = DomainLocks()
        self.assignments = Assignments(self.plugs, self.provider, locks)
        self.definitions = Definitions(
            self.guests,
            self.affinities,
            Seeds(self.directory / "seeds"),
            self.read_profile,
            volumes=self,
            images=self.images,
            subnets=self,
            ha_guests=self.self_fence,
            assignments=self.assignments,
            disks=self.disk_plugs,
            check_image=self.check_image,
        )
        self.reboots = Reboots(
            self.guests,
            self.stops,
            self.directory / "journal",
            check_startable=self.definitions.check_startable,
            locks=locks,
        )

    async def read_profile(self) -> HostProfile:
        capability = await self.capability.get()
        return capability.host_profile(
            seed_directory=self.directory / "seeds",
            serial_log_directory=self.directory / "serial",
            vnc_address="127.0.0.1",
            direct_io=False,
        )

    async def describe_volume(self, uuid: str) -> AVolume:
        """A disk with the demo guest, or an empty one."""
        path = self.directory / f"{uuid}.qcow2"
        base = ("-b", DEMO_IMAGE, "-F", "qcow2") if DEMO_IMAGE else ()
        size = () if DEMO_IMAGE else ("64M",)
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *base, path, *size], check=True)
        return AVolume(path)

    async def check_image(self, path: Path, domain_uuid: str) -> None:
        """No guest here has anything in Ceph."""

    async def describe_subnet(self, subnet_id: str) -> ANetwork:
        """No guest here has a network."""
        raise NotImplementedError(subnet_id)

    async def start(self, spec: DomainSpec) -> None:
        """The guest is defined and runs."""
        await self.definitions.ensure_defined(spec)
        await self.guests.start(spec.uuid)

    async def state(self) -> PowerState:
        """What the guest of the builder does."""
        return (await self.guests.get(GUEST_UUID)).power_state

    async def agent_state(self) -> GuestAgentState:
        """What is known of its guest agent."""
        return self.prober.last(await self.guests.get(GUEST_UUID)).state
