"""Devices on the wire."""

from pydantic import Field
from pydantic.alias_generators import to_camel

from coordinator.api.schemas.base import AnswerModel, LenientModel
from coordinator.api.schemas.host import Cell, HostName
from coordinator.domain.device import DeviceState
from coordinator.services.device import DeviceView
from coordinator.services.host import HostReference


class VgpuTypeAvailableBody(AnswerModel):
    """A type of vGPU that a GPU can be split into now."""

    type_id: str = Field(examples=["nvidia-222"])
    type_name: str = Field(examples=["GRID T4-1B"])
    memory_size: int = Field(description="Framebuffer, bytes; 0: not told.")
    maximum: int = Field(description="How many an empty GPU has room for; 0: not told.")
    available: int = Field(description="How many more there can be, at most.")


class VgpuBody(AnswerModel):
    """A vGPU that exists."""

    id: str = Field(description="UUID of the mediated device, or PCI address of the virtual function.")
    type_id: str


class RdmaPortBody(AnswerModel):
    """A port of an InfiniBand or RoCE device."""

    number: int
    state: str = Field(examples=["ACTIVE"])
    link_layer: str = Field(description="InfiniBand or Ethernet.")
    rate: str = Field(examples=["200 Gb/sec (4X HDR)"])
    gid: str


class ReleaseDeviceRequest(LenientModel):
    """A device that is not given back by itself."""

    cell: Cell = ""
    name: HostName
    device_id: str = Field(max_length=127, examples=["wwn-0x5000c500a1b2c3d4"])

    def to_reference(self) -> HostReference:
        """The node."""
        return HostReference(self.cell, self.name)


class DeviceHolderBody(AnswerModel):
    """Who has a device."""

    ecs_id: str = Field(description="The instance; empty: an operation, or what another scheduler placed.")
    uuid: str
    milli: int = Field(description="How much of it: 1000 is all.")


class DeviceBody(AnswerModel):
    """A device of a node."""

    id: str = Field(description="Unique on its node, and the same after a reboot.", examples=["0000:3b:00.0"])
    kind: str = Field(description="gpu, gpu-vf, display, nic, vf, infiniband, mdev, disk or usb.")
    product: str = Field(description="What it is, for people.", examples=["NVIDIA T4"])
    node_id: str
    node_name: str
    az: str = Field(description="Zone of the node.")
    node_ready: bool = Field(description="False: this is what the node told last.")
    state: DeviceState
    withheld_reason: str = Field(description="Why nobody is given it; empty: it is offered.")
    fault: str = Field(description="What has failed about it, as far as its node has noticed; it is not offered then.")
    numa_node: int = Field(description="NUMA cell that it is attached to; -1: none, or not known.")
    size: int = Field(description="Capacity of a disk, framebuffer of a GPU, bytes; 0: of no meaning, or not told.")
    shareable: bool = Field(description="Slices of it can be given to several instances.")
    attributes: dict[str, str] = Field(description="What requests name: vendor, product, media, mode and others.")
    details: dict[str, str] = Field(description="What tells it from others that are alike, depending on the kind.")
    vgpu_types: list[VgpuTypeAvailableBody]
    vgpus: list[VgpuBody]
    rdma_ports: list[RdmaPortBody]
    holders: list[DeviceHolderBody]

    @classmethod
    def of(cls, view: DeviceView) -> "DeviceBody":
        row, report = view.device, view.report
        return cls(
            id=row.id,
            kind=row.kind,
            product=view.product,
            node_id=row.node_id,
            node_name=view.node_name,
            az=view.zone,
            node_ready=view.node_ready,
            state=view.state,
            withheld_reason=row.withheld_reason,
            fault=report.fault,
            numa_node=row.cell,
            size=row.size_bytes,
            shareable=row.shareable,
            attributes=row.attributes,
            details={to_camel(name): value for name, value in sorted(report.details.items())},
            vgpu_types=_vgpu_types(view),
            vgpus=[VgpuBody(id=vgpu.id, type_id=vgpu.type_id) for vgpu in report.vgpus],
            rdma_ports=[RdmaPortBody.model_validate(port) for port in report.rdma_ports],
            holders=[
                DeviceHolderBody(ecs_id=holder.ecs_id, uuid=holder.consumer_uuid, milli=holder.milli)
                for holder in view.holders
            ],
        )


def _vgpu_types(view: DeviceView) -> list[VgpuTypeAvailableBody]:
    return [
        VgpuTypeAvailableBody(
            type_id=kind.id,
            type_name=kind.name,
            memory_size=kind.framebuffer_bytes,
            maximum=kind.maximum_instances,
            available=kind.available_instances,
        )
        for kind in view.report.vgpu_types
    ]


class DeviceListBody(AnswerModel):
    """One page of devices."""

    size: int = Field(description="Entries on a page.")
    current: int = Field(description="Number of this page.")
    total: int = Field(description="On all pages together.")
    items: list[DeviceBody] = Field(alias="list")
