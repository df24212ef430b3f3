"""A libvirt domain: the root of the document (https://libvirt.org/formatdomain.html)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from agent.domainxml.boot import Features, Os, SystemInformation
from agent.domainxml.clock import Clock
from agent.domainxml.device import Devices
from agent.domainxml.element import YES_NO, Element, attribute, child, text_child
from agent.domainxml.memory import MaxMemory, Memory, MemoryBacking
from agent.domainxml.metadata import Metadata
from agent.domainxml.processor import Cpu, Vcpu
from agent.domainxml.tuning import CpuTune, NumaTune


@dataclass(frozen=True)
class SuspendToMemory(Element, tag="suspend-to-mem"):
    """Whether the firmware offers ACPI S3."""

    enabled: bool = attribute("enabled", YES_NO)


@dataclass(frozen=True)
class SuspendToDisk(Element, tag="suspend-to-disk"):
    """Whether the firmware offers ACPI S4."""

    enabled: bool = attribute("enabled", YES_NO)


@dataclass(frozen=True)
class PowerManagement(Element, tag="pm"):
    """ACPI sleep states that the firmware offers."""

    suspend_to_memory: SuspendToMemory | None = child(SuspendToMemory, default=None)
    suspend_to_disk: SuspendToDisk | None = child(SuspendToDisk, default=None)


@dataclass(frozen=True)
class Domain(Element, tag="domain"):
    """A virtual machine."""

    type: str = attribute("type")
    name: str | None = text_child("name", default=None)
    uuid: str | None = text_child("uuid", default=None)
    title: str | None = text_child("title", default=None)
    metadata: Metadata | None = child(Metadata, default=None)
    max_memory: MaxMemory | None = child(MaxMemory, default=None)
    memory: Memory | None = child(Memory, default=None)
    memory_backing: MemoryBacking | None = child(MemoryBacking, default=None)
    vcpu: Vcpu | None = child(Vcpu, default=None)
    io_threads: int | None = text_child("iothreads", int, default=None)
    cpu_tune: CpuTune | None = child(CpuTune, default=None)
    numa_tune: NumaTune | None = child(NumaTune, default=None)
    system_information: SystemInformation | None = child(SystemInformation, default=None)
    os: Os | None = child(Os, default=None)
    features: Features | None = child(Features, default=None)
    cpu: Cpu | None = child(Cpu, default=None)
    clock: Clock | None = child(Clock, default=None)
    on_poweroff: str | None = text_child("on_poweroff", default=None)
    on_reboot: str | None = text_child("on_reboot", default=None)
    on_crash: str | None = text_child("on_crash", default=None)
    power_management: PowerManagement | None = child(PowerManagement, default=None)
    devices: Devices = child(Devices, default=Devices())

    def with_devices(self, **changes: Any) -> Self:
        """The same domain with other devices: a tuple is added to those that are there, anything else replaces."""
        merged = {
            name: getattr(self.devices, name) + value if isinstance(value, tuple) else value
            for name, value in changes.items()
        }
        return replace(self, devices=replace(self.devices, **merged))
