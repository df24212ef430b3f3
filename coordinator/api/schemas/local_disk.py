"""Local disks on the wire."""

from enum import StrEnum

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, LenientModel
from coordinator.services.device import DeviceView
from coordinator.services.device_attachment import DiskReference
from coordinator.services.local_disk import DiskKind


class _AnyCase(StrEnum):
    """Values that are compared without regard to case."""

    @classmethod
    def _missing_(cls, value: object) -> "_AnyCase | None":
        return next((member for member in cls if member == str(value).lower()), None)


class DiskMedia(_AnyCase):
    """What a disk stores on."""

    HDD = "hdd"
    SSD = "ssd"


class DiskInterface(_AnyCase):
    """How a disk is connected."""

    SATA = "sata"
    SAS = "sas"
    NVME = "nvme"
    VIRTIO = "virtio"


class UnusedDiskBody(AnswerModel):
    """Disks of one node that are alike and that nobody has."""

    az: str = Field(description="Zone of the node.")
    cell: str = Field(description="Cluster of nodes that it belongs to.")
    node_name: str
    local_disk_type: str = Field(description="HDD or SSD.", examples=["SSD"])
    local_disk_interface: str = Field(description="SATA, SAS, NVME or VIRTIO.", examples=["NVME"])
    disk_size: int = Field(description="Size of one, bytes.")
    disk_num: int = Field(description="How many there are.")
    order_key: str = Field(description="Names the group.")

    @classmethod
    def of(cls, kind: DiskKind, count: int, cell: str) -> "UnusedDiskBody":
        return cls(
            az=kind.zone,
            cell=cell,
            node_name=kind.node_name,
            local_disk_type=kind.media,
            local_disk_interface=kind.interface,
            disk_size=kind.size_bytes,
            disk_num=count,
            order_key=f"{kind.node_name}_{kind.media}_{kind.interface}_{kind.size_bytes}",
        )


class LocalDiskBody(AnswerModel):
    """A disk that an instance on its node could have."""

    disk_name: str = Field(description="Unique on its node, and the same after a reboot.", examples=["wwn-0x5000c500"])
    node_name: str
    pci_address: str = Field(description="Of its controller.")
    product: str
    vendor: str
    size: int = Field(description="Bytes.")
    disk_type: str = Field(description="HDD or SSD.", examples=["SSD"])
    disk_interface: str = Field(description="SATA, SAS, NVME or VIRTIO.", examples=["NVME"])
    serial: str
    htcl: str = Field(description="SCSI address, host:channel:target:lun; empty without one.")
    hctl: str = Field(description="The same.")

    @classmethod
    def of(cls, view: DeviceView) -> "LocalDiskBody":
        attributes, details = view.device.attributes, view.report.details
        address = details.get("address", "")
        return cls(
            disk_name=view.device.id,
            node_name=view.node_name,
            pci_address=details.get("pci_address", ""),
            product=view.product,
            vendor=attributes.get("vendor", ""),
            size=view.device.size_bytes,
            disk_type=attributes.get("media", "").upper(),
            disk_interface=attributes.get("interface", "").upper(),
            serial=details.get("serial", ""),
            htcl=address,
            hctl=address,
        )


class DiskReferenceRequest(LenientModel):
    """A local disk of the instance's node."""

    disk_name: str = Field(max_length=127, description="As listed.", examples=["wwn-0x5000c500"])
    node_name: str = Field(default="", max_length=255, description="If given, the instance must be there.")
    hctl: str = Field(default="", max_length=63, description="If given, the disk must have that SCSI address.")

    def to_reference(self) -> DiskReference:
        """The same in our words."""
        return DiskReference(self.disk_name, self.node_name, self.hctl)
