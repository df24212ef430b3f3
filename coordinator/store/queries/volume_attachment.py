"""Volumes that several instances share, and these instances."""

from collections.abc import Collection, Sequence

from sqlalchemy import delete
from sqlmodel import Session, col, select

from coordinator.domain.volume import VolumeStatus
from coordinator.store.tables import Instance, Volume, VolumeAttachment

# One instance of a shared volume.
SharerRow = tuple[VolumeAttachment, Instance]


def list_sharers(session: Session, volume_ids: Collection[int | None]) -> Sequence[SharerRow]:
    """The instances of these volumes, those in the recycle bin included, in the order in which they got them."""
    statement = (
        select(VolumeAttachment, Instance)
        .join(Instance, col(Instance.id) == col(VolumeAttachment.instance_id))
        .where(col(VolumeAttachment.volume_id).in_(volume_ids))
        .order_by(col(VolumeAttachment.id))
    )
    return session.exec(statement).all() if volume_ids else ()


def list_shared(session: Session, instance_id: int | None) -> Sequence[tuple[VolumeAttachment, Volume]]:
    """What the instance shares with others, in the order in which it got it."""
    statement = (
        select(VolumeAttachment, Volume)
        .join(Volume, col(Volume.id) == col(VolumeAttachment.volume_id))
        .where(VolumeAttachment.instance_id == instance_id)
        .order_by(col(VolumeAttachment.id))
    )
    return session.exec(statement).all()


def list_attached(session: Session, instance_id: int | None) -> tuple[Volume, ...]:
    """The same as this instance sees it: copies of the rows, which are not stored."""
    return tuple(
        Volume(
            **{
                **volume.model_dump(),
                "instance_id": instance_id,
                "status": attachment.status,
                "delete_on_termination": attachment.delete_on_termination,
            }
        )
        for attachment, volume in list_shared(session, instance_id)
    )


def find_sharing_instances(session: Session, instance_ids: Collection[int | None]) -> set[int]:
    """Those of the instances that share a volume with others, or could."""
    statement = select(VolumeAttachment.instance_id).where(col(VolumeAttachment.instance_id).in_(instance_ids))
    return set(session.exec(statement))


def find_attachment(session: Session, volume_id: int | None, instance_id: int | None) -> VolumeAttachment | None:
    """What binds the two; None: nothing does."""
    statement = select(VolumeAttachment).where(
        VolumeAttachment.volume_id == volume_id, VolumeAttachment.instance_id == instance_id
    )
    return session.exec(statement).first()


def delete_attachments(session: Session, volume: Volume, instance_ids: Collection[int | None]) -> None:
    """These instances do not have the volume any more."""
    session.exec(
        delete(VolumeAttachment).where(
            col(VolumeAttachment.volume_id) == volume.id, col(VolumeAttachment.instance_id).in_(instance_ids)
        )
    )
    rest_shared(session, volume)


def rest_shared(session: Session, volume: Volume) -> None:
    """The volume, which no task works on, is in use or is not."""
    statement = select(VolumeAttachment.id).where(VolumeAttachment.volume_id == volume.id).limit(1)
    is_used = session.exec(statement).first() is not None
    volume.status = VolumeStatus.IN_USE if is_used else VolumeStatus.AVAILABLE
    session.add(volume)
