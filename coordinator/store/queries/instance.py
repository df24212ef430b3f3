"""Instances that are not deleted, and what belongs to them."""

from collections.abc import Collection, Sequence

from sqlmodel import Session, col, select

from coordinator.store.tables.instance import Instance, InstanceLabel
from coordinator.store.tables.network import Port, Subnet
from coordinator.store.tables.volume import Volume


def find_instance(session: Session, ecs_id: str) -> Instance | None:
    """The instance with that id, whoever owns it."""
    return session.exec(select(Instance).where(Instance.ecs_id == ecs_id, col(Instance.deleted_at).is_(None))).first()


def find_instances(session: Session, ecs_ids: Collection[str]) -> dict[str, Instance]:
    """The instances with those ids, by id; ids that do not exist are left out."""
    statement = select(Instance).where(col(Instance.ecs_id).in_(ecs_ids), col(Instance.deleted_at).is_(None))
    return {instance.ecs_id: instance for instance in session.exec(statement)}


def list_volumes(session: Session, instance: Instance) -> Sequence[Volume]:
    """Volumes of one instance, the system disk first."""
    statement = (
        select(Volume)
        .where(Volume.instance_id == instance.id)
        .order_by(col(Volume.is_os_disk).desc(), col(Volume.id).asc())
    )
    return session.exec(statement).all()


def list_ports(session: Session, instance: Instance) -> Sequence[tuple[Port, Subnet]]:
    """Ports of one instance in their order, each with its subnet."""
    statement = (
        select(Port, Subnet)
        .join(Subnet, col(Subnet.id) == col(Port.subnet_id))
        .where(Port.instance_id == instance.id)
        .order_by(col(Port.position).asc())
    )
    return session.exec(statement).all()


def list_labels(session: Session, instance: Instance) -> Sequence[InstanceLabel]:
    """Labels of one instance by key."""
    statement = select(InstanceLabel).where(InstanceLabel.instance_id == instance.id).order_by(InstanceLabel.key)
    return session.exec(statement).all()
