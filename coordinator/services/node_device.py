"""GPUs and disks of nodes, as lists of nodes show them."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from sqlmodel import Session, col

from coordinator.domain.device import DeviceKind
from coordinator.domain.gpu import load_catalogue
from coordinator.services.device import DeviceView, view_device
from coordinator.store.queries import device as queries
from coordinator.store.tables import Device

PASSTHROUGH = "passthrough"


@dataclass(frozen=True, slots=True)
class NodeGpu:
    """One GPU of a node."""

    # PCI id of vendor and product, eight hexadecimal digits.
    pci_id: str
    product: str
    # PASSTHROUGH; or the type of its vGPUs, as long as they are of one type; else "vgpu".
    mode: str
    # Of that type; empty: it is not split, or not into one type.
    vgpu_name: str
    in_use: bool


@dataclass(frozen=True, slots=True)
class DiskGroup:
    """Disks of one node that are alike."""

    # "HDD" or "SSD".
    disk_type: str
    # "NVME", "SAS", "SATA" or "VIRTIO"; "OTHER": the node cannot tell, or it is attached in another way.
    interface: str
    size_bytes: int
    count: int


@dataclass(frozen=True, slots=True)
class NodeDevices:
    """What lists of nodes show of the devices of one."""

    gpus: tuple[NodeGpu, ...]
    disk_groups: tuple[DiskGroup, ...]


def read_node_devices(session: Session, node_ids: Collection[str]) -> dict[str, NodeDevices]:
    """GPUs, by address, and disks, by kind, of each of these nodes, whether they are offered or not."""
    gpus: dict[str, list[NodeGpu]] = {node_id: [] for node_id in node_ids}
    is_gpu = col(Device.kind) == DeviceKind.GPU
    for row in queries.list_devices(session, col(Device.node_id).in_(node_ids), is_gpu):
        gpus[row.device.node_id].append(_gpu(view_device(row)))
    disks: dict[str, Counter[tuple[str, str, int]]] = {node_id: Counter() for node_id in node_ids}
    for node_id, attributes, size_bytes in queries.list_disks(session, node_ids):
        kind = (attributes.get("media", "").upper(), attributes.get("interface", "OTHER").upper(), size_bytes)
        disks[node_id][kind] += 1
    return {node_id: NodeDevices(tuple(gpus[node_id]), _group(disks[node_id])) for node_id in node_ids}


def _group(kinds: Counter[tuple[str, str, int]]) -> tuple[DiskGroup, ...]:
    return tuple(DiskGroup(*kind, count) for kind, count in sorted(kinds.items()))


def _gpu(view: DeviceView) -> NodeGpu:
    mode = view.device.attributes.get("mode", PASSTHROUGH)
    types = {vgpu.type_id for vgpu in view.report.vgpus}
    type_id = types.pop() if mode != PASSTHROUGH and len(types) == 1 else ""
    return NodeGpu(
        pci_id=view.pci_id,
        product=view.product,
        mode=type_id or mode,
        vgpu_name=_name_vgpu(view, type_id) if type_id else "",
        in_use=view.is_held,
    )


def _name_vgpu(view: DeviceView, type_id: str) -> str:
    """As our catalogue displays it, else as its driver names it."""
    model = load_catalogue().get(view.pci_id)
    known = model.find_vgpu(type_id) if model else None
    if known:
        return known.display_name
    return next((kind.name for kind in view.report.vgpu_types if kind.id == type_id), type_id)
