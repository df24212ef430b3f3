"""Volumes on the wire."""

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, computed_field

from coordinator.api.schemas.base import AnswerModel, LenientModel, Moment
from coordinator.domain.volume import MAXIMUM_VOLUME_GIB, VolumeLimit, VolumeType
from coordinator.services.volume_attachment import AttachOrder
from coordinator.store.queries.volume import VolumeRow
from coordinator.store.tables import Volume


def _spell(value: Any) -> Any:
    """Callers write numbers as numbers."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


VolumeReference = Annotated[
    str,
    BeforeValidator(_spell, json_schema_input_type=str | int),
    Field(min_length=1, max_length=64),
]


class CreateVolumeRequest(LenientModel):
    """A disk."""

    name: str = Field(min_length=1, max_length=127, description="Name people know it by.", examples=["data"])
    size_gib: int = Field(
        validation_alias=AliasChoices("volumeSize", "size"),
        ge=1,
        le=MAXIMUM_VOLUME_GIB,
        description="Size, GiB.",
        examples=[20],
    )
    volume_type: VolumeType = Field(default="hdd", description="Kind of storage.")
    volume_mode: Literal["Block", "Filesystem"] = Field(default="Block", description="How guests see it.")
    disk_bus: Literal["virtio", "scsi", "sata"] = Field(default="virtio", description="Bus in the guest.")
    multi_attach: bool = Field(default=False, description="Several instances may use it at once: raw, in no snapshot.")
    tenant_id: str = Field(default="", max_length=19, description="Owner, for operators.")

    def to_row(self) -> Volume:
        """The row that this asks for, without ids and status."""
        return Volume(**self.model_dump(), uuid="", status="")


class UpdateVolumeRequest(LenientModel):
    """A new name."""

    name: str = Field(min_length=1, max_length=127, description="Name people know it by.", examples=["data"])


class GrowVolumeRequest(LenientModel):
    """A new size."""

    size_gib: int = Field(
        validation_alias=AliasChoices("volumeSize", "size", "newSize"),
        ge=1,
        le=MAXIMUM_VOLUME_GIB,
        description="Size, GiB; at least the present one.",
        examples=[40],
    )


class AttachVolumeRequest(LenientModel):
    """A volume that an instance shall have."""

    volume_id: VolumeReference = Field(
        validation_alias=AliasChoices("volumeId", "volumeUuid"), description="Number or UUID.", examples=[46]
    )
    delete_on_termination: bool = Field(default=False, description="Deleted together with the instance.")
    bootable: bool = Field(default=False, description="The guest may be started from it.")

    def to_order(self) -> AttachOrder:
        """The same in our words."""
        return AttachOrder(**self.model_dump())


class DetachVolumeRequest(LenientModel):
    """A volume that an instance has."""

    volume_id: VolumeReference = Field(
        validation_alias=AliasChoices("volumeId", "volumeUuid"), description="Number or UUID.", examples=[46]
    )


class DetachVolumesRequest(LenientModel):
    """Volumes that an instance has."""

    volume_uuids: list[VolumeReference] = Field(
        validation_alias=AliasChoices("volumeUuids", "volumeIds"),
        description="Numbers or UUIDs.",
        examples=[["volume-0b8c3f0e-5d0e-4b8f-9a57-1f1d3f1b7c55"]],
    )


class DeleteFlagRequest(DetachVolumeRequest):
    """Whether a volume goes with its instance."""

    delete_on_termination: bool = Field(default=False, description="Deleted together with the instance.")


class SharedVolumeRequest(DetachVolumeRequest):
    """A volume, and instances that share it."""

    ecs_ids: list[Annotated[str, Field(max_length=1024)]] = Field(
        description="Ids of instances.", examples=[["ecs-k8d2n5s7a1f4g6"]]
    )


class SharerBody(AnswerModel):
    """An instance that has a shared volume."""

    ecs_id: str = Field(examples=["ecs-k8d2n5s7a1f4g6"])
    status: str = Field(description="attaching, inUse or detaching.")
    delete_on_termination: bool = Field(description="The volume goes with it if no other instance has it by then.")


class VolumeBody(AnswerModel):
    """A disk."""

    volume_id: int = Field(description="Number of the volume.", examples=[17])
    volume_uuid: str = Field(description="The same as UUID.", examples=["volume-0b8c3f0e-5d0e-4b8f-9a57-1f1d3f1b7c55"])
    name: str
    volume_size: int = Field(description="GiB.")
    volume_type: str
    status: str = Field(description="available, creating, attaching, inUse, detaching, growing, deleting or error.")
    ecs_id: str = Field(description="Instance that uses it, of several the first; empty without one.")
    attachments: list[SharerBody] = Field(description="All instances that have it, if it is shared.")
    az: str = Field(description="Zone of the node that holds its data; empty before one does.")
    image_id: str | None = Field(description="Image that it was made from.")
    is_os_disk: bool
    disk_bus: str
    volume_mode: str
    boot_index: int
    delete_on_termination: bool = Field(description="It is deleted together with its instance.")
    multi_attach: bool
    is_encrypted: bool = Field(description="What its instance writes is encrypted, with a key that no node keeps.")
    tenant_id: str
    created_at: Moment
    updated_at: Moment

    @computed_field(description="The same as volumeSize.")  # type: ignore[prop-decorator]
    @property
    def size(self) -> int:
        return self.volume_size

    @computed_field(alias="isOSDisk", description="The same as isOsDisk.")  # type: ignore[prop-decorator]
    @property
    def is_os_disk_capitalized(self) -> bool:
        return self.is_os_disk

    @classmethod
    def of(cls, row: VolumeRow) -> "VolumeBody":
        volume = row.volume
        return cls(
            **volume.model_dump(include=set(cls.model_fields)),
            is_encrypted=volume.is_encrypted,
            volume_id=volume.id or 0,
            volume_uuid=f"volume-{volume.uuid}",
            volume_size=volume.size_gib,
            ecs_id=row.ecs_id or "",
            az=row.zone or "",
            attachments=[
                SharerBody(
                    ecs_id=instance.ecs_id,
                    status=attachment.status,
                    delete_on_termination=attachment.delete_on_termination,
                )
                for attachment, instance in row.sharers
            ],
        )


class VolumeListBody(AnswerModel):
    """One page of volumes."""

    items: list[VolumeBody] = Field(alias="list")
    total_count: int = Field(description="On all pages together.")


class AttachedVolumeBody(AnswerModel):
    """A volume of an instance."""

    volume_id: int = Field(examples=[17])
    volume_uuid: str = Field(examples=["volume-0b8c3f0e-5d0e-4b8f-9a57-1f1d3f1b7c55"])
    volume_name: str
    description: str = ""
    max_iops: int = Field(default=0, alias="maxIOPS", description="0: not limited.")
    volume_type: str
    storage_class_id: str
    volume_size: int = Field(description="GiB.")
    is_encrypted: bool
    is_os_disk: bool = Field(alias="isOSDisk")
    delete_on_termination: bool
    status: str
    created_at: Moment

    @classmethod
    def of(cls, volume: Volume, limit: VolumeLimit | None) -> "AttachedVolumeBody":
        columns = ("volume_type", "is_encrypted", "is_os_disk", "delete_on_termination", "status", "created_at")
        return cls(
            **{name: getattr(volume, name) for name in columns},
            volume_id=volume.id or 0,
            volume_uuid=f"volume-{volume.uuid}",
            volume_name=volume.name,
            max_iops=limit.most_iops if limit else 0,
            storage_class_id=volume.volume_type,
            volume_size=volume.size_gib,
        )


class AttachedVolumeListBody(AnswerModel):
    """All volumes of an instance."""

    attached_volumes: list[AttachedVolumeBody]
    count: int


class VolumeTypeBody(AnswerModel):
    """A kind of storage."""

    volume_type: str = Field(examples=["ssd"])
    name: str
    max_iops: int = Field(default=0, alias="maxIOPS", description="Of each volume, sustained; 0: not limited.")
    max_mib_per_second: int = Field(default=0, description="The same of MiB.")
    is_encrypted: bool = Field(description="New volumes of it are encrypted.")

    @classmethod
    def of(cls, name: VolumeType, limit: VolumeLimit | None, *, is_encrypted: bool) -> "VolumeTypeBody":
        limit = limit or VolumeLimit()
        return cls(
            volume_type=name,
            name=name,
            max_iops=limit.most_iops,
            max_mib_per_second=limit.most_mib_per_second,
            is_encrypted=is_encrypted,
        )


class VolumeTypeListBody(AnswerModel):
    """Kinds of storage."""

    items: list[VolumeTypeBody] = Field(alias="list")
    total_count: int
