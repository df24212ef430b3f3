"""Images on the wire."""

from typing import Any, Literal

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, LenientModel, Moment
from coordinator.api.schemas.url import HttpUrl
from coordinator.domain.snapshot import Consistency
from coordinator.store.tables import Image


class RegisterImageRequest(LenientModel):
    """What is known about an image before its bytes are."""

    name: str = Field(min_length=1, max_length=127, description="Name people know it by.", examples=["debian-13"])
    format: Literal["raw", "qcow2", "iso", ""] = Field(
        default="",
        description="Format that the file must have; unless given, what it is found to be.",
        examples=["qcow2"],
    )
    cpu_arch: Literal["x86", "arm"] = Field(default="x86", description="Architecture that it boots on.")
    os_type: Literal["linux", "windows", "other"] = Field(default="linux", description="Family of operating systems.")
    platform: str = Field(default="", max_length=63, description="Distribution.", examples=["Debian"])
    os_version: str = Field(default="", max_length=63, description="Version of the distribution.", examples=["13"])
    visibility: Literal["public", "private", ""] = Field(
        default="", description="Who may use it; unless given, private to its tenant, or public if it has none."
    )
    sha256: str = Field(
        default="", pattern="^([0-9a-fA-F]{64})?$", description="SHA-256 of the file in hex; checked when given."
    )
    url: HttpUrl = Field(
        default="", max_length=1023, description="Where the coordinator fetches the file; absent for an upload."
    )
    tenant_id: str | None = Field(default=None, max_length=19, description="Owner, for operators.")
    ecs_id: str = Field(default="", max_length=32, description="Instance of whose system disk the image is made.")
    snapshot_id: str = Field(
        default="",
        max_length=32,
        coerce_numbers_to_str=True,
        description="Id or number of the snapshot instead, of whose system disk the image is made.",
        examples=["ecs.snapshot-3k8d2m5q7x1z9w4b"],
    )
    quiesce: bool = Field(
        default=True, description="With ecsId: freeze the file systems for that moment, if the guest agent answers."
    )

    def to_row(self) -> Image:
        """The row that this asks for, without id and status."""
        columns: dict[str, Any] = self.model_dump(
            exclude={"url", "sha256", "tenant_id", "ecs_id", "snapshot_id", "quiesce"}
        )
        return Image(
            **columns,
            id="",
            status="",
            source_url=self.url,
            sha256=self.sha256.lower(),
            tenant_id=self.tenant_id or None,
        )


class UpdateImageRequest(LenientModel):
    """What is to be said of an image from now on; what is absent stays."""

    name: str | None = Field(default=None, min_length=1, max_length=127, description="Name people know it by.")
    cpu_arch: Literal["x86", "arm"] | None = Field(default=None, description="Architecture that it boots on.")
    os_type: Literal["linux", "windows", "other"] | None = Field(default=None, description="Family of systems.")
    platform: str | None = Field(default=None, max_length=63, description="Distribution.")
    os_version: str | None = Field(default=None, max_length=63, description="Version of the distribution.")
    visibility: Literal["public", "private"] | None = Field(default=None, description="Who may use it.")


class ImageBody(AnswerModel):
    """An image."""

    image_id: str = Field(description="Id of the image.", examples=["img-4k2m8x0q7r5t1w"])
    name: str
    status: str = Field(description="Queued, Importing, Active or Error.", examples=["Active"])
    format: str = Field(description="raw, qcow2 or iso; empty before it is known.")
    cpu_arch: str = Field(description="x86 or arm.")
    os_type: str
    platform: str
    os_version: str
    visibility: str = Field(description="public or private.")
    size_bytes: int = Field(description="Of the file, or as announced before it is there; 0: not known.")
    virtual_size_bytes: int = Field(description="Of the disk that it describes.")
    sha256: str
    source_url: str = Field(description="Where it was fetched from; empty for an upload.")
    consistency: Consistency = Field(
        description="fileSystem or crash (as after a power failure), when it was made of an instance or snapshot."
    )
    warning: str = Field(description="Why it is not better than crash, though the guest's file systems should freeze.")
    error_message: str = Field(description="Why it is in status Error.")
    tenant_id: str | None = Field(description="Owner; null: the cloud itself.")
    created_at: Moment
    updated_at: Moment

    @classmethod
    def of(cls, row: Image) -> "ImageBody":
        return cls(**row.model_dump(exclude={"id", "deleted_at"}), image_id=row.id)


class ImageListBody(AnswerModel):
    """One page of images."""

    items: list[ImageBody] = Field(alias="list")
    total_count: int = Field(description="On all pages together.")
