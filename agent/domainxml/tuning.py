"""On which CPUs and NUMA cells of the node a guest runs."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domainxml.element import CPU_SET, Element, attribute, child, children


@dataclass(frozen=True)
class VcpuPin(Element, tag="vcpupin"):
    """The CPUs of the node that one vCPU may use."""

    vcpu: int = attribute("vcpu", int)
    cpus: frozenset[int] = attribute("cpuset", CPU_SET)


@dataclass(frozen=True)
class EmulatorPin(Element, tag="emulatorpin"):
    """The CPUs of the node that the rest of QEMU may use."""

    cpus: frozenset[int] = attribute("cpuset", CPU_SET)


@dataclass(frozen=True)
class IoThreadPin(Element, tag="iothreadpin"):
    """The CPUs of the node that one I/O thread may use."""

    io_thread: int = attribute("iothread", int)
    cpus: frozenset[int] = attribute("cpuset", CPU_SET)


@dataclass(frozen=True)
class CpuTune(Element, tag="cputune"):
    """Affinities; what is not named may use every CPU of the node."""

    vcpu_pins: tuple[VcpuPin, ...] = children(VcpuPin)
    emulator_pin: EmulatorPin | None = child(EmulatorPin, default=None)
    io_thread_pins: tuple[IoThreadPin, ...] = children(IoThreadPin)


@dataclass(frozen=True)
class NumaMemory(Element, tag="memory"):
    """The cells of the node that the guest's memory comes from."""

    mode: str | None = attribute("mode", default=None)
    node_set: frozenset[int] | None = attribute("nodeset", CPU_SET, default=None)


@dataclass(frozen=True)
class MemoryNode(Element, tag="memnode"):
    """The same for one NUMA cell of the guest."""

    cell_id: int = attribute("cellid", int)
    mode: str = attribute("mode")
    node_set: frozenset[int] = attribute("nodeset", CPU_SET)


@dataclass(frozen=True)
class NumaTune(Element, tag="numatune"):
    """Where on the node memory is."""

    memory: NumaMemory | None = child(NumaMemory, default=None)
    nodes: tuple[MemoryNode, ...] = children(MemoryNode)
