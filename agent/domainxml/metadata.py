"""What Nodewright writes into a domain's metadata; a domain without it is foreign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.domainxml.element import CPU_LIST, YES_NO, Element, attribute, child, children, text

NAMESPACE: Final = "https://nodewright.dev/xmlns/domain/1"


@dataclass(frozen=True)
class Label(Element, tag="label", namespace=NAMESPACE):
    """One name and value for people and for recovery."""

    name: str = attribute("name")
    value: str = text()


@dataclass(frozen=True)
class PlacedCell(Element, tag="cell", namespace=NAMESPACE):
    """What a guest has of one NUMA cell of the node.

    Affinities alone do not tell pins from the one CPU that is left to float on.
    """

    host_cell: int = attribute("host", int)
    vcpus: int = attribute("vcpus", int)
    # One CPU for each vCPU; None: they float.
    pins: tuple[int, ...] | None = attribute("pins", CPU_LIST, default=None)


@dataclass(frozen=True)
class AssignedDevice(Element, tag="device", namespace=NAMESPACE):
    """A device of the node that the guest has: what was asked for, of which the addresses in the definition follow."""

    uuid: str = attribute("uuid")
    device_id: str = attribute("id")
    vgpu_type_id: str | None = attribute("vgpu-type", default=None)
    mac_address: str | None = attribute("mac", default=None)
    vlan_id: int | None = attribute("vlan", int, default=None)
    trusted: bool | None = attribute("trusted", YES_NO, default=None)
    boot_index: int | None = attribute("boot", int, default=None)
    wipe_on_release: bool | None = attribute("wipe", YES_NO, default=None)
    native: bool | None = attribute("native", YES_NO, default=None)


@dataclass(frozen=True)
class Ownership(Element, tag="domain", namespace=NAMESPACE):
    """The mark of a domain that Nodewright created."""

    generation: int = attribute("generation", int)
    labels: tuple[Label, ...] = children(Label)
    cells: tuple[PlacedCell, ...] = children(PlacedCell)
    # "yes" when it is started elsewhere as soon as this node counts as lost; absent otherwise.
    ha_enabled: bool | None = attribute("ha", YES_NO, default=None)
    devices: tuple[AssignedDevice, ...] = children(AssignedDevice)

    @property
    def pins(self) -> frozenset[int]:
        """All CPUs that the guest has for itself."""
        return frozenset(cpu for cell in self.cells for cpu in cell.pins or ())


@dataclass(frozen=True)
class Metadata(Element, tag="metadata"):
    """Application data in a domain; libvirt keeps it and does not read it."""

    ownership: Ownership | None = child(Ownership, default=None)
