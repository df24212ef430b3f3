"""Local disks on the wire."""

from enum import StrEnum

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel
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
