"""Snapshots of instances on the wire."""

from typing import Final, Self

from pydantic import AliasChoices, Field

from coordinator.api.schemas.base import AnswerModel, LenientModel, Moment
from coordinator.domain.snapshot import SnapshotOrder
from coordinator.services.snapshot import SnapshotView
from coordinator.store.queries.snapshot import SnapshotPart, SnapshotRow

# What rows and answers call alike.
_SAME: Final = (
    *("department_id", "resource_group_id", "tenant_id", "consistency", "status", "type"),
    *("created_at", "updated_at", "deleted_at", "description", "error_message"),
)


class CreateSnapshotRequest(LenientModel):
    """A snapshot of all volumes of an instance."""

    ecs_id: str = Field(max_length=32, description="Id of the instance.", examples=["ecs-erxb7y4ohhk7kv"])
    snapshot_name: str = Field(
        validation_alias=AliasChoices("snapshotName", "ecsSnapshotName"),
        max_length=255,
        description="1 to 127 characters.",
        examples=["snapshot-test-001"],
    )
    description: str = Field(default="", max_length=255, description="For people.")
    quiesce: bool = Field(
        default=True, description="Freeze the guest's file systems meanwhile, if its guest agent answers."
    )

    def to_order(self) -> SnapshotOrder:
        """The same in our words."""
        return SnapshotOrder(self.snapshot_name, self.description, quiesces=self.quiesce)


class RollbackRequest(LenientModel):
    """How an instance is put back."""

    force: bool = Field(default=False, description="End a guest that runs, instead of asking it to shut down.")


class VolumeSnapshotBody(AnswerModel):
    """What a snapshot holds of one volume."""

    volume_id: int
    volume_uuid: str = Field(examples=["volume-0b8c3f0e-5d0e-4b8f-9a57-1f1d3f1b7c55"])
    volume_name: str
    volume_size: int = Field(description="Size of the volume when the snapshot was taken, GiB.")
    is_os_disk: bool = Field(alias="isOSDisk")
    image_id: str = Field(description="What the volume was made from; empty: nothing.")
    allocated_bytes: int = Field(
        description="Space of the volume on its node when the snapshot was taken, its older snapshots included."
    )

    @classmethod
    def of(cls, item: SnapshotPart) -> Self:
        """The same of a row."""
        return cls(
            volume_id=item.part.volume_id,
            volume_uuid=f"volume-{item.volume.uuid}",
            volume_name=item.volume.name,
            volume_size=item.part.size_gib,
            is_os_disk=item.part.is_os_disk,
            image_id=item.part.image_id or "",
            allocated_bytes=item.part.allocated_bytes,
        )


class SnapshotBody(AnswerModel):
    """All volumes of an instance at one moment."""

    ecs_snapshot_id: str = Field(examples=["ecs.snapshot-x7jz40yae9lrepr5"])
    ecs_snapshot_name: str
    id: int = Field(description="Number of the snapshot; addresses it, too.", examples=[15])
    region: str
    department_id: str
    resource_group_id: str
    tenant_id: str
    tenant_name: str
    # Not the first: what is noted of an answer is the snapshot.
    instance: str = Field(alias="ecsId", examples=["ecs-erxb7y4ohhk7kv"])
    consistency_snapshot_id: int = Field(default=0, description="Always 0: a snapshot is of all volumes at once.")
    consistency: str = Field(
        description="fileSystem: the guest was off, or its file systems were frozen; crash: as after a power failure; "
        "empty: not taken yet."
    )
    status: str = Field(description="creating, available, rollbacking, deleting or error.")
    type: str = Field(description="manual or auto.")
    created_at: Moment
    updated_at: Moment
    deleted_at: Moment | None = Field(description="Always null: deleted ones are not shown.")
    expired_at: Moment
    description: str
    error_message: str
    err_message: str = Field(description="The same.")
    volume_snapshots: list[VolumeSnapshotBody] | None = Field(description="null in lists.")

    @classmethod
    def of(cls, found: SnapshotRow, region: str, parts: list[VolumeSnapshotBody] | None = None) -> Self:
        """The same of a row."""
        row = found.row
        return cls(
            id=row.id or 0,
            region=region,
            ecs_snapshot_id=row.snapshot_id,
            ecs_snapshot_name=row.name,
            instance=found.ecs_id,
            tenant_name=found.tenant_name,
            expired_at=row.expires_at,
            err_message=row.error_message,
            volume_snapshots=parts,
            **{name: getattr(row, name) for name in _SAME},
        )


class SnapshotListBody(AnswerModel):
    """A page of snapshots."""

    ecs_snapshots: list[SnapshotBody]
    total_count: int

    @classmethod
    def of_one(cls, view: SnapshotView, region: str) -> Self:
        """The same shape for a single one, as this API has it."""
        parts = [VolumeSnapshotBody.of(item) for item in view.parts]
        return cls(ecs_snapshots=[SnapshotBody.of(view.found, region, parts)], total_count=1)
