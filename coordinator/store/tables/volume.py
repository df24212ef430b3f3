"""Volumes: disks of instances."""

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field

from coordinator.domain.volume import VolumeBackend
from coordinator.store.tables.base import Timestamped

# In the order of lists: what lists are narrowed by, and what quotas are summed from, is found without the rows.
_LISTED = ("created_at", "id", "status", "name", "instance_id", "node_id", "size_gib")


class Volume(Timestamped, table=True):
    """A disk. Made real on a node when an instance first needs it."""

    __table_args__ = (
        Index("ix_volume_listed", *_LISTED),
        Index("ix_volume_listed_by_tenant_id", "tenant_id", *_LISTED),
        # Sums are made of it alone.
        Index("ix_volume_space", "storage_pool_id", "size_gib"),
    )

    id: int | None = Field(default=None, primary_key=True)
    # UUID without the API's "volume-" prefix.
    uuid: str = Field(unique=True, max_length=36)
    name: str = Field(max_length=127)
    tenant_id: str = Field(foreign_key="tenant.id")
    size_gib: int
    volume_type: str = Field(max_length=32)
    # "available", "creating", "inUse", "deleting" or "error".
    status: str = Field(max_length=16)
    # Never of a shared one, whose instances are in VolumeAttachment.
    instance_id: int | None = Field(default=None, foreign_key="instance.id", index=True)
    # Node that holds the data; None before it is made.
    node_id: str | None = Field(default=None, foreign_key="node.id")
    # The StoragePool whose space it takes, from when it is to be made; None: none yet, or none that is known.
    storage_pool_id: str | None = Field(default=None, max_length=36)
    image_id: str | None = Field(default=None, foreign_key="image.id")
    is_os_disk: bool = False
    disk_bus: str = Field(default="virtio", max_length=16)
    volume_mode: str = Field(default="Block", max_length=16)
    boot_index: int = 0
    delete_on_termination: bool = False
    multi_attach: bool = False
    # Itself encrypted; empty: the volume is not.
    encryption_key: str = Field(default="", max_length=255, repr=False)
    # A coordinator.domain.volume.VolumeBackend, as its node has told.
    backend: str = Field(default=VolumeBackend.UNKNOWN, max_length=16)

    @property
    def is_encrypted(self) -> bool:
        """Whether its node encrypts what guests write to it."""
        return bool(self.encryption_key)


class VolumeAttachment(Timestamped, table=True):
    """One of the instances that share a volume (`Volume.multi_attach`)."""

    __tablename__ = "volume_attachment"
    __table_args__ = (UniqueConstraint("volume_id", "instance_id"),)

    id: int | None = Field(default=None, primary_key=True)
    volume_id: int = Field(foreign_key="volume.id")
    instance_id: int = Field(foreign_key="instance.id", index=True)
    # "attaching", "inUse" or "detaching"; the volume's own status is that of all together.
    status: str = Field(max_length=16)
    # The volume is deleted together with this instance if no other one has it by then.
    delete_on_termination: bool = False
