"""GPU models that flavor types can offer: those of our catalogue, and what else nodes really have."""

from collections.abc import Mapping
from dataclasses import replace

from sqlmodel import Session, col

from coordinator.domain.caller import Caller
from coordinator.domain.device import DeviceKind
from coordinator.domain.gpu import GpuModel, VgpuType, load_catalogue
from coordinator.domain.unit import GIB, MIB
from coordinator.errors import ParameterInvalid
from coordinator.runtime import Runtime
from coordinator.services.device import DeviceView, view_device
from coordinator.store.queries import device as queries
from coordinator.store.tables import Device


def list_gpu_models(runtime: Runtime, caller: Caller) -> list[GpuModel]:
    """All of them, vendors together."""
    with runtime.database.read() as session:
        return list(read_gpu_models(session).values())


def get_gpu_model(runtime: Runtime, caller: Caller, gpu_type: str) -> GpuModel:
    """See `find_gpu_model`."""
    with runtime.database.read() as session:
        return find_gpu_model(session, gpu_type)


def read_gpu_models(session: Session) -> Mapping[str, GpuModel]:
    """All models by PCI id: the catalogue's in its order, then those that only nodes know, vendors together.

    A model has the types of vGPU that the catalogue names, and those that a driver on some node tells besides.
    """
    known = dict(load_catalogue())
    others: dict[str, GpuModel] = {}
    for view in map(view_device, queries.list_devices(session, col(Device.kind) == DeviceKind.GPU)):
        if view.pci_id in known:
            known[view.pci_id] = _with_types(known[view.pci_id], view)
        elif view.pci_id:
            others[view.pci_id] = _with_types(others.get(view.pci_id) or _model_of(view), view)
    vendors = [model.vendor for model in known.values()]
    merged = [*known.values(), *sorted(others.values(), key=lambda model: (model.vendor, model.pci_id))]
    order = {vendor: place for place, vendor in reversed(list(enumerate(vendors)))}
    merged.sort(key=lambda model: order.get(model.vendor, len(order) + len(vendors)))
    return {model.pci_id: model for model in merged}


def find_gpu_model(session: Session, gpu_type: str) -> GpuModel:
    """The model with that PCI id; ParameterInvalid when neither the catalogue nor a node has it.

    Printed copies of the API confuse the digit 1 with the letters l and I, which no PCI id contains.
    """
    model = read_gpu_models(session).get(normalize_gpu_type(gpu_type))
    if model is None:
        raise ParameterInvalid("gpuType", f"{gpu_type!r} is not a supported GPU", f"不支持的GPU型号{gpu_type!r}")
    return model


def normalize_gpu_type(gpu_type: str) -> str:
    """A PCI id in lower case, with digits where letters look like them."""
    return gpu_type.strip().lower().replace("l", "1").replace("i", "1")


def _model_of(view: DeviceView) -> GpuModel:
    vendor = view.report.details.get("vendor_name", "") or view.device.attributes.get("vendor", "")
    return GpuModel(view.pci_id, vendor, view.product, view.device.size_bytes // GIB, ())


def _with_types(model: GpuModel, view: DeviceView) -> GpuModel:
    told = tuple(
        VgpuType(kind.id, kind.name or kind.id, kind.framebuffer_bytes // MIB, "")
        for kind in view.report.vgpu_types
        if model.find_vgpu(kind.id) is None
    )
    return replace(model, vgpus=(*model.vgpus, *told)) if told else model
