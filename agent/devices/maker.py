"""How devices become something that a domain's definition can name, and are the node's again: one way a class."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.devices.base import Surroundings
from agent.devices.binding import Bindings
from agent.devices.journal import Entry, Making
from agent.devices.source import DeviceSource
from agent.devices.writer import SysfsWriter
from agent.facts.sysfs import Sysfs
from protos.agent.v1.device_pb2 import HostDevice
from protos.agent.v1.host_pb2 import Device


class MdevDefinitions(Protocol):
    """Who makes mediated devices that outlast a reboot. Both raise AgentError where that cannot be."""

    async def ensure(self, uuid: str, parent: str, type_id: str) -> None:
        """There is such a device, now and after each start of the node."""

    async def ensure_removed(self, uuid: str) -> None:
        """There is none, and none comes back. Absence is success."""


# Runs `ip` with these arguments; raises DeviceFailed.
RunIp = Callable[[Sequence[str]], Awaitable[None]]


@dataclass(frozen=True)
class Tools:
    """What devices are made with."""

    sysfs: Sysfs
    writer: SysfsWriter
    mdevs: MdevDefinitions
    run_ip: RunIp

    @property
    def bindings(self) -> Bindings:
        """Drivers of PCI functions."""
        return Bindings(self.sysfs, self.writer)


@dataclass(frozen=True)
class Order:
    """What a guest is to have."""

    wish: HostDevice
    # As it is now, or was when it was given.
    device: Device
    # What the journal says was made for the guest already, or was about to be.
    former: Making | None = None
    # PCI functions that the journal gives to others.
    taken: frozenset[str] = frozenset()


class Maker(Protocol):
    """One way. The journal is written between `plan` and `make`, and again after `unmake`."""

    def plan(self, order: Order, around: Surroundings) -> Making:
        """What to make and what was before; only looks. Raises DeviceNotFound, DeviceWithheld, DeviceInUse,
        RequestInvalid."""

    async def make(self, entry: Entry, around: Surroundings) -> DeviceSource:
        """It is there. May be repeated. Raises DeviceFailed, DeviceNotFound, DeviceInUse."""

    async def unmake(self, entry: Entry, around: Surroundings) -> None:
        """What was made is gone, and the rest as it was before. May be repeated, and what is gone is success.

        Raises DeviceFailed, HypervisorUnavailable.
        """

    def find_domain(self, entry: Entry, around: Surroundings) -> str:
        """Which domain of the surroundings has it; empty: none."""

    def find_needs(self, entry: Entry, around: Surroundings) -> Iterator[str]:
        """What the host itself does with it."""
