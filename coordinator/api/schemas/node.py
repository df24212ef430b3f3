"""Nodes on the wire."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, LenientModel, Moment
from coordinator.api.schemas.host import Cell, HostName, host_architecture
from coordinator.services.host import HostReference
from coordinator.services.node import NodeLabels, NodeStorage, NodeView
from coordinator.services.node_device import DiskGroup, NodeGpu

# As HostFacts.traits names it.
_DISK_LOCKS = "disk-locks"
# Absent leaves it as it is; an empty one takes it off.
Label = Annotated[str | None, Field(max_length=63)]


class NodeGpuBody(AnswerModel):
    """One GPU of a node."""

    gpu_type: str = Field(description="PCI id of vendor and product.", examples=["10de1eb8"])
    product: str = Field(examples=["NVIDIA T4"])
    mode: str = Field(description="passthrough, the type of its vGPUs, or vgpu while they have none or several.")
    vgpu_display_name: str
    in_use: bool

    @classmethod
    def of(cls, gpu: NodeGpu) -> "NodeGpuBody":
        return cls(
            gpu_type=gpu.pci_id,
            product=gpu.product,
            mode=gpu.mode,
            vgpu_display_name=gpu.vgpu_name,
            in_use=gpu.in_use,
        )


class GpuInfoBody(AnswerModel):
    """GPUs of a node, and what the first of them is; empty without any."""

    gpu_type: str = ""
    product: str = ""
    mode: str = ""
    vgpu_display_name: str = ""
    gpus: list[NodeGpuBody] | None = None

    @classmethod
    def of(cls, view: NodeView) -> "GpuInfoBody":
        gpus = [NodeGpuBody.of(gpu) for gpu in view.devices.gpus]
        return cls(**gpus[0].model_dump(by_alias=False, exclude={"in_use"}), gpus=gpus) if gpus else cls()


class HardDiskBody(AnswerModel):
    """Local disks of one node that are alike."""

    az: str
    cell: str
    node_name: str
    local_disk_type: str = Field(description="HDD or SSD.", examples=["SSD"])
    local_disk_interface: str = Field(description="SATA, SAS, NVME, VIRTIO or OTHER.", examples=["NVME"])
    disk_size: int = Field(description="Size of one, bytes.")
    disk_num: int = Field(description="How many there are.")
    order_key: str = Field(description="Names the group.")

    @classmethod
    def of(cls, view: NodeView, group: DiskGroup, cell: str) -> "HardDiskBody":
        key = (view.node.name, group.disk_type, group.interface, str(group.size_bytes))
        return cls(
            az=view.node.zone,
            cell=cell,
            node_name=view.node.name,
            local_disk_type=group.disk_type,
            local_disk_interface=group.interface,
            disk_size=group.size_bytes,
            disk_num=group.count,
            order_key="_".join(key),
        )


class NodeStorageBody(AnswerModel):
    """Where a node makes volumes of some types, and the space there; several nodes may have one pool."""

    volume_types: list[str] = Field(description='"*": all that no other one has; none: there may be volumes still.')
    pool_id: str = Field(description="The space: what tells the same one, on whichever node, is the same space.")
    place_id: str = Field(description="Nodes with the same one share the volumes there.")
    total_gib: int = Field(description="All of it, GiB.")
    free_gib: int = Field(description="What nobody has written to, as the agent told last, GiB.")
    available_gib: int = Field(description="What new volumes may still take: others count with their whole size, GiB.")
    silent_since: Moment = Field(description="Since when it does not answer; year 1: it does.")

    @classmethod
    def of(cls, storage: NodeStorage) -> "NodeStorageBody":
        silent_since = datetime.fromisoformat(storage.silent_since) if storage.silent_since else None
        return cls(**{**asdict(storage), "silent_since": silent_since})


class NodeBody(AnswerModel):
    """A host that runs instances."""

    created_at: Moment
    updated_at: Moment
    cell: str = Field(description="Cluster of nodes that it belongs to.")
    host_id: str = Field(description="Id of the node.", examples=["node-5f0k2m9x1q7z3w"])
    name: str
    host_ip: str = Field(description="Address under which its agent is reached.")
    host_slot: str = Field(description="Its label; without one, the machine's serial number.")
    host_label: str = Field(description="What operators call its place.")
    host_rack: str
    host_switch: str
    host_net_switch: str
    arch: str = Field(description="amd64 or arm64.")
    az: str = Field(description="Zone.")
    cpu_model: str
    ready: bool = Field(description="Its agent is connected.")
    heard_at: Moment = Field(description="When its agent was last heard of, to a few seconds; year 1: never.")
    schedulable: bool = Field(description="New instances may be placed on it.")
    in_maintenance: bool = Field(description="Its instances move away, and none come.")
    agent_version: str
    storage_id: str = Field(description="Nodes with the same one share their volumes; empty until it registered.")
    storages: list[NodeStorageBody] = Field(description="Space by type of volume; empty where its agent is too old.")
    disk_locks: bool = Field(description="libvirt there locks the disks of running guests against a second QEMU.")
    rp_id: str = Field(description="Resource pool that it belongs to; empty without one.")
    rp_name: str
    hg_id: str = Field(description="Host group that it belongs to; empty without one.")
    hg_name: str
    cpu_allocation_ratio: float | None = Field(description="vCPUs for each of its CPUs; null until it registered.")
    reserved_vcpus: int | None = Field(description="CPUs that it keeps for itself; null: as configured.")
    reserved_memory_mib: int | None = Field(description="Memory that it keeps for itself, MiB; null: as configured.")
    is_gpu_node: bool = Field(alias="isGPUNode")
    gpu_info: GpuInfoBody
    hard_disk_list: list[HardDiskBody]

    @classmethod
    def of(cls, view: NodeView, cell: str) -> "NodeBody":
        row, pool, group = view.node, view.place.pool, view.place.group
        same = {"created_at", "updated_at", "name", "cpu_model", "ready", "schedulable", "agent_version", "storage_id"}
        same |= {"in_maintenance", "heard_at", "reserved_vcpus", "reserved_memory_mib"}
        return cls(
            **row.model_dump(include=same),
            cell=cell,
            host_id=row.id,
            host_ip=row.host_ip,
            host_slot=row.label or row.machine_uuid,
            host_label=row.label,
            host_rack=row.rack,
            host_switch=row.switch,
            host_net_switch=row.net_switch,
            arch=host_architecture(row),
            storages=[NodeStorageBody.of(storage) for storage in view.storages],
            disk_locks=_DISK_LOCKS in row.traits,
            az=row.zone,
            rp_id=pool.id if pool else "",
            rp_name=pool.name if pool else "",
            hg_id=group.id if group else "",
            hg_name=group.name if group else "",
            cpu_allocation_ratio=view.place.cpu_ratio,
            is_gpu_node=bool(view.devices.gpus),
            gpu_info=GpuInfoBody.of(view),
            hard_disk_list=[HardDiskBody.of(view, group, cell) for group in view.devices.disk_groups],
        )


class NodeReference(LenientModel):
    """A node by its names."""

    cell: Cell
    name: HostName
    inner_ip: str = Field(
        default="", max_length=255, description="Its address, where several have that name.", examples=["192.0.2.7"]
    )


class SetNodeLabelsRequest(LenientModel):
    """Nodes, and where they stand."""

    nodes: list[NodeReference] = Field(min_length=1, max_length=1000, description="Nodes: all of them or none.")
    host_label: Label = Field(default=None, description="Label of the host.", examples=["slot-07"])
    rack_label: Label = Field(default=None, description="Label of its rack.", examples=["rack-3"])
    switch_label: Label = Field(default=None, description="Label of its switch.", examples=["switch-12"])
    net_switch_label: Label = Field(default=None, description="Label of its network switch.", examples=["core-1"])

    def to_references(self) -> list[HostReference]:
        """The nodes in our words."""
        return [HostReference(node.cell, node.name, node.inner_ip) for node in self.nodes]

    def to_labels(self) -> NodeLabels:
        """The labels in our words."""
        return NodeLabels(self.host_label, self.rack_label, self.switch_label, self.net_switch_label)


class SetSchedulableRequest(LenientModel):
    """Whether a node takes new instances."""

    schedulable: bool = Field(description="False closes it for new instances.")


class SetReservedRequest(LenientModel):
    """What a node keeps for itself; absent: as much as the configuration says."""

    vcpus: int | None = Field(default=None, ge=0, le=4096, description="CPUs, not multiplied by any ratio.")
    memory_mib: int | None = Field(default=None, ge=0, le=2**31 - 1, description="Memory, MiB.", examples=[4096])


class NodeListBody(AnswerModel):
    """One page of nodes."""

    size: int = Field(description="Entries on a page.")
    current: int = Field(description="Number of this page.")
    total: int = Field(description="On all pages together.")
    items: list[NodeBody] = Field(alias="list")


class SetGpuModeRequest(LenientModel):
    """How the GPUs of a node work."""

    cell: Cell = ""
    name: HostName
    gpu_mode: str = Field(max_length=64, description="passthrough, or a type of vGPU.", examples=["nvidia-223"])

    def to_reference(self) -> HostReference:
        """The node."""
        return HostReference(self.cell, self.name)
