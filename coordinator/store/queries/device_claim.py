"""Who has which device: claims of one consumer, however they came about."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import and_, delete, update
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from coordinator.domain.device import WHOLE_MILLI, DeviceKind
from coordinator.store.tables.device import Device, DeviceAllocation
from coordinator.store.tables.instance import Instance

# They stay where they are plugged in: with an instance's data, or as somebody's key.
TIED_KINDS = (DeviceKind.DISK, DeviceKind.USB)


class DeviceClaim(NamedTuple):
    """A device, or a slice of it, that a consumer has on a node."""

    node_id: str
    device_id: str
    kind: str
    milli: int
    # How many slices of it; 1 for all of it.
    slices: int
    # Empty where the node does not know it any more.
    attributes: Mapping[str, str]
    # Of the whole device.
    size_bytes: int = 0
    shareable: bool = False

    @property
    def slice_milli(self) -> int:
        """Of each slice."""
        return self.milli // self.slices


def with_slices(claim: DeviceClaim, slices: int) -> DeviceClaim:
    """The same device with more or fewer slices of the same size."""
    return claim._replace(slices=slices, milli=claim.slice_milli * slices)


def list_claims(session: Session, consumer_uuid: str, node_id: str = "") -> list[DeviceClaim]:
    """What the consumer has, on that node if one is named, in the order of kind and id."""
    claims = list_claims_of(session, [consumer_uuid]).get(consumer_uuid, [])
    return [claim for claim in claims if node_id in ("", claim.node_id)]


def list_claims_of(session: Session, consumer_uuids: Collection[str]) -> dict[str, list[DeviceClaim]]:
    """What each of the consumers has, in the order of kind and id; those that have nothing are absent."""
    held = DeviceAllocation
    columns: Any = (
        *(held.consumer_uuid, held.node_id, held.device_id, held.kind, held.milli, held.slices),
        *(Device.attributes, Device.size_bytes, Device.shareable),
    )
    is_it = and_(col(Device.node_id) == col(held.node_id), col(Device.id) == col(held.device_id))
    statement = (
        select_columns(*columns)
        .outerjoin(Device, is_it)
        .where(col(held.consumer_uuid).in_(consumer_uuids))
        .order_by(col(held.kind), col(held.device_id))
    )
    claims: dict[str, list[DeviceClaim]] = {}
    for uuid, *of_it, attributes, size_bytes, shareable in session.execute(statement):
        claim = DeviceClaim._make((*of_it, attributes or {}, size_bytes or 0, bool(shareable)))
        claims.setdefault(uuid, []).append(claim)
    return claims


def find_holders(session: Session, node_id: str, device_ids: Collection[str]) -> dict[str, set[str]]:
    """UUIDs of those who have these devices of a node, or slices of them, by the devices' ids."""
    held = DeviceAllocation
    statement = select(held.device_id, held.consumer_uuid).where(
        col(held.node_id) == node_id, col(held.device_id).in_(device_ids)
    )
    holders: dict[str, set[str]] = {}
    for device_id, consumer_uuid in session.exec(statement):
        holders.setdefault(device_id, set()).add(consumer_uuid)
    return holders


def find_holding_instances(session: Session, node_id: str, device_id: str) -> list[tuple[str, str]]:
    """Ids of the instances that have the device, or slices of it, each with that of its tenant."""
    statement = (
        select(Instance.ecs_id, Instance.tenant_id)
        .join(DeviceAllocation, col(DeviceAllocation.consumer_uuid) == col(Instance.uuid))
        .where(DeviceAllocation.node_id == node_id, DeviceAllocation.device_id == device_id)
        .order_by(col(Instance.ecs_id))
    )
    return list(session.exec(statement))


def list_instances(session: Session, uuids: Collection[str]) -> Sequence[Instance]:
    """The instances, those that were deleted included, among these consumers."""
    return session.exec(select(Instance).where(col(Instance.uuid).in_(uuids)).order_by(col(Instance.id))).all()


def add_claims(session: Session, consumer_uuid: str, devices: Sequence[Device]) -> None:
    """The consumer has these devices as a whole; their node is locked, and nobody else has them."""
    session.add_all(
        DeviceAllocation(
            consumer_uuid=consumer_uuid,
            node_id=device.node_id,
            device_id=device.id,
            kind=device.kind,
            milli=WHOLE_MILLI,
        )
        for device in devices
    )
    session.flush()


def drop_claims(session: Session, consumer_uuid: str, device_ids: Collection[str]) -> set[str]:
    """The consumer has these devices no more; answers the ids of the nodes that have them back."""
    is_it = (
        col(DeviceAllocation.consumer_uuid) == consumer_uuid,
        col(DeviceAllocation.device_id).in_(device_ids),
    )
    nodes = set(session.exec(select(DeviceAllocation.node_id).where(*is_it)))
    session.execute(delete(DeviceAllocation).where(*is_it))
    return nodes


def hand_devices_over(session: Session, old: str, new: str, node_id: str, device_ids: Collection[str]) -> None:
    """These devices of the node, which the one has, the other has now."""
    held = DeviceAllocation
    session.execute(
        update(held)
        .where(col(held.consumer_uuid) == old, col(held.node_id) == node_id, col(held.device_id).in_(device_ids))
        .values(consumer_uuid=new)
        .execution_options(synchronize_session=False)
    )


def hand_claims_over(session: Session, old: str, new: str, node_id: str) -> None:
    """What the one has of the node's devices the other has now."""
    session.execute(
        update(DeviceAllocation)
        .where(col(DeviceAllocation.consumer_uuid) == old, col(DeviceAllocation.node_id) == node_id)
        .values(consumer_uuid=new)
        .execution_options(synchronize_session=False)
    )


def merge_claims(session: Session, old: str, new: str, node_id: str) -> None:
    """What the one has of the node's devices the other has now beside its own, slices of one device together."""
    for row in _read_rows(session, old, node_id):
        present = session.get(DeviceAllocation, (new, node_id, row.device_id))
        _store(session, present, new, row, row.slices)
        session.delete(row)
    session.flush()


def split_claims(session: Session, old: str, new: str, node_id: str, slices: Mapping[str, int]) -> None:
    """So many slices of the node's devices, by their ids, which the one has, the other has now."""
    for row in _read_rows(session, old, node_id):
        given = min(slices.get(row.device_id, 0), row.slices)
        if not given:
            continue
        _store(session, None, new, row, given)
        row.milli -= row.milli // row.slices * given
        row.slices -= given
        if row.slices:
            session.add(row)
        else:
            session.delete(row)
    session.flush()


def _read_rows(session: Session, consumer_uuid: str, node_id: str) -> Sequence[DeviceAllocation]:
    held = DeviceAllocation
    statement = select(held).where(held.consumer_uuid == consumer_uuid, held.node_id == node_id)
    return session.exec(statement.order_by(col(held.device_id))).all()


def _store(
    session: Session, present: DeviceAllocation | None, consumer_uuid: str, row: DeviceAllocation, slices: int
) -> None:
    """The consumer has as many slices, like those of the row, beside what it has."""
    milli = row.milli // row.slices * slices
    if present is None:
        session.add(
            DeviceAllocation(
                consumer_uuid=consumer_uuid,
                node_id=row.node_id,
                device_id=row.device_id,
                kind=row.kind,
                milli=milli,
                slices=slices,
            )
        )
        return
    present.milli, present.slices = present.milli + milli, present.slices + slices
    session.add(present)
