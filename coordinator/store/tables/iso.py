"""ISO images in the optical drives of instances."""

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, Text

from coordinator.domain.iso import IsoState
from coordinator.store.tables.base import Timestamped


class IsoAttachment(Timestamped, table=True):
    """What is in one drive, or on its way there; the other drives of the instance are empty."""

    __tablename__ = "iso_attachment"
    __table_args__ = (UniqueConstraint("instance_id", "image_id"),)

    instance_id: int = Field(primary_key=True, foreign_key="instance.id")
    # Of the drive, from 0.
    number: int = Field(primary_key=True)
    image_id: str = Field(max_length=32, foreign_key="image.id", index=True)
    state: IsoState = Field(sa_type=Text)
    # The guest starts from it rather than from its disks.
    is_boot: bool = False
