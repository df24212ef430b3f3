"""The node as discovery reads it, for those who tell of its devices and those who give them away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.devices.base import GpuMode, Surroundings, Versions
from agent.devices.block_use import read_block_use
from agent.devices.inventory import discover_devices
from agent.devices.net_use import NetUse
from agent.errors import AgentError
from agent.facts.memory import Memory
from agent.facts.nic import collect_addresses
from agent.facts.sysfs import DeviceProperties, Sysfs, read_udev_properties
from protos.agent.v1.host_pb2 import Device

# Names of domains, except the one of this UUID, by the devices of the node that each has: see BlockUse.
ReadUsers = Callable[[str], Awaitable[Mapping[str, str]]]
# Adds what the agent knows of devices beyond what the node shows.
CompleteDevices = Callable[[Sequence[Device], Surroundings], list[Device]]


async def read_no_versions() -> Versions:
    """Nobody can tell."""
    return Versions()


async def read_no_users(_besides: str) -> Mapping[str, str]:
    """No domain has anything."""
    return {}


def keep_as_found(devices: Sequence[Device], _around: Surroundings) -> list[Device]:
    """Nothing more is known."""
    return list(devices)


@dataclass(frozen=True)
class DeviceSurvey:
    """Looks anew every time, unless it is told what is known."""

    sysfs: Sysfs = Sysfs()  # noqa: RUF009 - frozen
    read_properties: DeviceProperties = read_udev_properties
    read_users: ReadUsers = read_no_users
    procfs: Path = Path("/proc")
    # The node's address by network role.
    read_role_addresses: Callable[[], Mapping[str, str]] = dict
    read_gpu_mode: Callable[[], GpuMode] = GpuMode
    complete: CompleteDevices = keep_as_found
    read_versions: Callable[[], Awaitable[Versions]] = read_no_versions
    # See Surroundings.
    may_move_vgpus: bool = True

    async def look(self, besides: str = "") -> Surroundings:
        """The node with what guests have, but the domain of this UUID. Raises HypervisorUnavailable."""
        users, versions = await self.read_users(besides), await self.read_versions()
        return await asyncio.to_thread(self._read, users, versions)

    async def look_anyway(self, memory: Memory | None = None) -> Surroundings:
        """The same; while libvirt is away what guests have is not known, and nothing is offered.

        Of places that the memory knows only what nothing tells of is read; without one everything is.
        """
        guests, versions = None, Versions()
        with contextlib.suppress(AgentError):
            versions = await self.read_versions()
            guests = await self.read_users("")
        return await asyncio.to_thread(self._read, guests, versions, memory)

    async def discover(self, around: Surroundings) -> list[Device]:
        """All devices, in the order of kind and id."""
        return await asyncio.to_thread(lambda: self.complete(discover_devices(around), around))

    def _read(self, guests: Mapping[str, str] | None, versions: Versions, memory: Memory | None = None) -> Surroundings:
        use = read_block_use(self.procfs, guests)
        roles = {address: role for role, address in reversed(list(self.read_role_addresses().items()))}
        networks = NetUse(collect_addresses(), roles)
        mode, known = self.read_gpu_mode(), memory or Memory()
        may_move = self.may_move_vgpus
        return Surroundings(self.sysfs, self.read_properties, use, networks, mode, known, versions, may_move)
