"""Hosts as pools and groups name and list them."""

from typing import Annotated

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, LenientModel
from coordinator.services.host import HostReference
from coordinator.services.node import NodeView
from coordinator.store.tables import Node

# How the API spells architectures of hosts.
HOST_ARCHITECTURES = {"x86": "amd64", "arm": "arm64"}

Cell = Annotated[str, Field(max_length=255, description="Cluster of nodes that it belongs to.", examples=["cell0"])]
HostName = Annotated[str, Field(min_length=1, max_length=255, description="Name of the host.", examples=["node-a"])]


def host_architecture(node: Node) -> str:
    """The architecture as the API spells that of hosts."""
    return HOST_ARCHITECTURES.get(node.architecture, node.architecture)


class HostRequest(LenientModel):
    """A host by its names."""

    cell: Cell
    name: HostName
    inner_ip: str = Field(max_length=255, description="Its address; empty: any of that name.", examples=["192.0.2.7"])

    def to_reference(self) -> HostReference:
        """The same in our words."""
        return HostReference(self.cell, self.name, self.inner_ip)


class HostsRequest(LenientModel):
    """Several hosts."""

    hosts: list[HostRequest] = Field(min_length=1, max_length=1000, description="Hosts: all of them or none.")

    def to_references(self) -> list[HostReference]:
        """The same in our words."""
        return [host.to_reference() for host in self.hosts]


class HostGpuBody(AnswerModel):
    """GPUs of a host; empty without any."""

    gpu_type: str = ""
    gpus: int = Field(default=0, description="How many there are.")
    mode: str = ""
    product: str = ""
    vgpu_display_name: str = ""

    @classmethod
    def of(cls, view: NodeView) -> "HostGpuBody":
        if not view.devices.gpus:
            return cls()
        first, *_ = view.devices.gpus
        return cls(
            gpu_type=first.pci_id,
            gpus=len(view.devices.gpus),
            mode=first.mode,
            product=first.product,
            vgpu_display_name=first.vgpu_name,
        )


class HostBody(AnswerModel):
    """A host, as short as it can be named."""

    cell: str = Field(description="Cluster of nodes that it belongs to.")
    inner_ip: str = Field(description="Address under which its agent is reached.")
    name: str
    host_id: str = Field(description="Id of the node.")
    gpu_info: HostGpuBody

    @classmethod
    def of(cls, view: NodeView, cell: str) -> "HostBody":
        return cls(
            cell=cell,
            inner_ip=view.node.host_ip,
            name=view.node.name,
            host_id=view.node.id,
            gpu_info=HostGpuBody.of(view),
        )
