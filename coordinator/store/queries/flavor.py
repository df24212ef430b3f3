"""Flavors and flavor types that are not deleted, and how much they are used."""

from dataclasses import dataclass

from sqlmodel import Session, col, select

from coordinator.store.tables import Flavor, FlavorType


@dataclass(frozen=True, slots=True)
class FlavorTypeUse:
    """A flavor type, how many flavors it has and how many instances use them."""

    flavor_type: FlavorType
    flavor_count: int
    instance_count: int


@dataclass(frozen=True, slots=True)
class FlavorUse:
    """A flavor, its type, and how many instances use it."""

    flavor: Flavor
    instance_count: int
    type_use: FlavorTypeUse


def find_flavor(session: Session, flavor_id: str) -> Flavor | None:
    """The flavor with that id."""
    return session.exec(select(Flavor).where(Flavor.flavor_id == flavor_id, col(Flavor.deleted_at).is_(None))).first()


def find_flavor_with_type(session: Session, flavor_id: str) -> tuple[Flavor, FlavorType] | None:
    """The flavor with that id, and its type."""
    statement = (
        select(Flavor, FlavorType)
        .join(FlavorType, col(FlavorType.flavor_type_id) == col(Flavor.flavor_type_id))
        .where(Flavor.flavor_id == flavor_id, col(Flavor.deleted_at).is_(None))
    )
    return session.exec(statement).first()


def find_flavor_type(session: Session, flavor_type_id: str, *, for_update: bool = False) -> FlavorType | None:
    """The flavor type with that id; `for_update` keeps others from changing it until the transaction ends."""
    statement = select(FlavorType).where(
        FlavorType.flavor_type_id == flavor_type_id, col(FlavorType.deleted_at).is_(None)
    )
    return session.exec(statement.with_for_update() if for_update else statement).first()
