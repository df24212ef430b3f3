"""Devices of an instance on the wire."""

from collections import Counter
from collections.abc import Iterable

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, Moment
from coordinator.api.schemas.usb import UsbDeviceBody
from coordinator.domain.device import DeviceKind
from coordinator.domain.usb import is_replaceable
from coordinator.services.device import DeviceView
from coordinator.services.instance_view import InstanceView
from coordinator.store.queries.instance_view import InstanceRow
from coordinator.store.tables import Instance


class HostGpuBody(AnswerModel):
    """GPUs that an instance has as a whole, of one model."""

    gpu_type: str = Field(description="PCI id of vendor and device.", examples=["10de1eb8"])
    product: str = Field(examples=["NVIDIA T4"])
    number: int
    ids: list[str] = Field(description="Addresses on the node.", examples=[["0000:3b:00.0"]])

    @classmethod
    def list_of(cls, views: Iterable[DeviceView]) -> "list[HostGpuBody]":
        """The models in the order of their first GPU."""
        groups: dict[tuple[str, str], list[str]] = {}
        for view in views:
            groups.setdefault((view.pci_id, view.product), []).append(view.device.id)
        return [
            cls(gpu_type=pci_id, product=product, number=len(ids), ids=ids) for (pci_id, product), ids in groups.items()
        ]


class InstanceVgpuBody(AnswerModel):
    """A vGPU of an instance."""

    created_at: Moment
    updated_at: Moment
    deleted_at: None = None
    ecs_id: str
    vgpu_type_id: str = Field(examples=["nvidia-222"])
    name: str = Field(description="Name people know its type by.", examples=["NVIDIA GRID T4-1B (1GB)"])
    gpu_type: str = Field(description="PCI id of the GPU that it is a slice of.")
    product: str
    gpu_id: str = Field(description="Address of that GPU on the node.")

    @classmethod
    def of(cls, view: DeviceView, instance: InstanceView) -> "InstanceVgpuBody":
        flavor, row = instance.flavor, instance.instance
        return cls(
            created_at=row.created_at,
            updated_at=row.updated_at,
            ecs_id=row.ecs_id,
            vgpu_type_id=flavor.vgpu_type_id,
            name=flavor.vgpu_display_name or flavor.vgpu_type_name or flavor.vgpu_type_id,
            gpu_type=view.pci_id,
            product=view.product,
            gpu_id=view.device.id,
        )


class UsbMappingBody(UsbDeviceBody):
    """A USB device of an instance."""

    ecs_id: str
    replaceable: bool = Field(description="Whether the instance moves live, and has another one of the model then.")

    @classmethod
    def of_instance(cls, view: DeviceView, instance: Instance | InstanceRow) -> "UsbMappingBody":
        replaceable = is_replaceable(view.device.attributes, instance.options)
        shown = UsbDeviceBody.of(view).model_dump(by_alias=False)
        return cls(**shown, ecs_id=instance.ecs_id, replaceable=replaceable)


class InstanceIbNicBody(AnswerModel):
    """An InfiniBand adapter of an instance."""

    vendor_id: str = Field(alias="vendorID", description="PCI id.", examples=["15b3"])
    product_id: str = Field(alias="productID", description="PCI id.", examples=["1021"])
    vendor: str
    product: str
    id: str = Field(description="Address on the node.", examples=["0000:af:00.0"])

    @classmethod
    def of(cls, view: DeviceView) -> "InstanceIbNicBody":
        attributes = view.device.attributes
        return cls(
            vendor_id=attributes.get("vendor", ""),
            product_id=attributes.get("product", ""),
            vendor=view.report.details.get("vendor_name", "") or attributes.get("vendor", ""),
            product=view.product,
            id=view.device.id,
        )


class InstanceDeviceBodies(AnswerModel):
    """The fields of an instance that tell of its devices."""

    local_disk: int = Field(description="How many local disks it has.")
    host_gpus: list[HostGpuBody] = Field(alias="hostGPUs")
    vgpus: list[InstanceVgpuBody]
    usb_mappings: list[UsbMappingBody]
    ib_nics: list[InstanceIbNicBody]
    sriov: int = Field(description="How many virtual functions of network cards it has.")

    @classmethod
    def fields_of(cls, instance: InstanceView) -> dict[str, object]:
        """Values of these fields; the GPUs of an instance are all whole ones, or all vGPUs of one type."""
        kinds = Counter(view.device.kind for view in instance.devices)
        gpus = [view for view in instance.devices if view.device.kind in (DeviceKind.GPU, DeviceKind.GPU_VF)]
        is_split = bool(instance.flavor.vgpu_type_id)
        return {
            "local_disk": kinds[DeviceKind.DISK],
            "host_gpus": [] if is_split else HostGpuBody.list_of(gpus),
            "vgpus": [InstanceVgpuBody.of(view, instance) for view in gpus] if is_split else [],
            "usb_mappings": [
                UsbMappingBody.of_instance(view, instance.instance)
                for view in instance.devices
                if view.device.kind == DeviceKind.USB
            ],
            "ib_nics": [
                InstanceIbNicBody.of(view) for view in instance.devices if view.device.kind == DeviceKind.INFINIBAND
            ],
            "sriov": kinds[DeviceKind.VF],
        }
