"""ISO images in the optical drives of instances."""

from collections.abc import Collection, Sequence

from sqlalchemy import delete
from sqlmodel import Session, col, func, select

from coordinator.store.tables import Image, Instance, IsoAttachment

IsoRow = tuple[IsoAttachment, Image]


def list_isos(session: Session, instance_id: int | None) -> Sequence[IsoRow]:
    """What is in the instance's drives, in their order."""
    statement = (
        select(IsoAttachment, Image)
        .join(Image, col(Image.id) == col(IsoAttachment.image_id))
        .where(IsoAttachment.instance_id == instance_id)
        .order_by(col(IsoAttachment.number))
    )
    return session.exec(statement).all()


def count_drives_with(session: Session, image_id: str) -> int:
    """How many instances have the image in a drive."""
    statement = (
        select(func.count())
        .select_from(IsoAttachment)
        .join(Instance, col(Instance.id) == col(IsoAttachment.instance_id))
        .where(IsoAttachment.image_id == image_id, col(Instance.deleted_at).is_(None))
    )
    return session.exec(statement).one()


def delete_isos(session: Session, instance_id: int | None, image_ids: Collection[str] | None = None) -> None:
    """The drives are empty: all of the instance, or those with these images."""
    statement = delete(IsoAttachment).where(col(IsoAttachment.instance_id) == instance_id)
    session.exec(statement if image_ids is None else statement.where(col(IsoAttachment.image_id).in_(image_ids)))
