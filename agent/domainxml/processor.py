"""Virtual CPUs, their model, and the interrupt hardware around them."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domainxml.element import CPU_SET, ON_OFF, Element, attribute, child, children, text


@dataclass(frozen=True)
class Vcpu(Element, tag="vcpu"):
    """Number of virtual CPUs, at most; `current` of them are there, all unless it is said."""

    count: int = text(int)
    placement: str = attribute("placement", default="static")
    current: int | None = attribute("current", int, default=None)


@dataclass(frozen=True)
class Topology(Element, tag="topology"):
    """How the guest sees its CPUs arranged; the product is their number."""

    sockets: int = attribute("sockets", int)
    cores: int = attribute("cores", int)
    threads: int = attribute("threads", int)


@dataclass(frozen=True)
class Model(Element, tag="model"):
    """A named CPU model of libvirt."""

    name: str = text()
    fallback: str | None = attribute("fallback", default=None)


@dataclass(frozen=True)
class CpuFeature(Element, tag="feature"):
    """A feature that the model has or lacks by itself."""

    policy: str = attribute("policy")
    name: str = attribute("name")


@dataclass(frozen=True)
class NumaCell(Element, tag="cell"):
    """A NUMA cell that the guest sees."""

    id: int = attribute("id", int)
    cpus: frozenset[int] = attribute("cpus", CPU_SET)
    memory: int = attribute("memory", int)
    unit: str = attribute("unit", default="KiB")


@dataclass(frozen=True)
class Numa(Element, tag="numa"):
    """How the guest sees its CPUs and memory divided."""

    cells: tuple[NumaCell, ...] = children(NumaCell)


@dataclass(frozen=True)
class Cpu(Element, tag="cpu"):
    """What CPU the guest sees."""

    mode: str = attribute("mode", default="custom")
    match: str | None = attribute("match", default=None)
    check: str | None = attribute("check", default=None)
    migratable: bool | None = attribute("migratable", ON_OFF, default=None)
    model: Model | None = child(Model, default=None)
    topology: Topology | None = child(Topology, default=None)
    features: tuple[CpuFeature, ...] = children(CpuFeature)
    numa: Numa | None = child(Numa, default=None)


@dataclass(frozen=True)
class IommuDriver(Element, tag="driver"):
    """Abilities of the virtual IOMMU."""

    intremap: bool | None = attribute("intremap", ON_OFF, default=None)
    eim: bool | None = attribute("eim", ON_OFF, default=None)
    caching_mode: bool | None = attribute("caching_mode", ON_OFF, default=None)


@dataclass(frozen=True)
class Iommu(Element, tag="iommu"):
    """A virtual IOMMU."""

    model: str = attribute("model")
    driver: IommuDriver | None = child(IommuDriver, default=None)
