"""Snapshots that system disks of new instances are made from."""

from dataclasses import dataclass, replace

from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.instance_order import InstanceOrder
from coordinator.domain.placement import PlacementRequest
from coordinator.domain.snapshot import SnapshotStatus
from coordinator.domain.space import places_of
from coordinator.errors import ParameterInvalid, StatusUnsupported
from coordinator.services.snapshot import find_own_snapshot
from coordinator.services.volume_backend import storage_of
from coordinator.services.volume_key import require_plain
from coordinator.store.queries import snapshot as queries
from coordinator.store.queries.snapshot import SnapshotPart
from coordinator.store.tables import Instance, Node


@dataclass(frozen=True, slots=True)
class SnapshotOrigin:
    """The part of a snapshot that a system disk is copied from."""

    snapshot_id: str
    volume_uuid: str
    # What its system came from, and what the disk stands on: the same, or nothing.
    image_id: str
    disk_image_id: str | None
    # Where it can be read: on this node, and on those that have the same storage unless that is empty.
    node_id: str
    storage_id: str
    # The same where it is known for this volume.
    places: frozenset[str]

    def place(self, request: PlacementRequest) -> PlacementRequest:
        """The same request, for hosts that can read the snapshot; ParameterInvalid when another one is named."""
        if self.places:
            return replace(request, places=self.places)
        if self.storage_id:
            return replace(request, storage_id=self.storage_id)
        if request.node_id not in ("", self.node_id):
            raise ParameterInvalid(
                "hostId", f"snapshot {self.snapshot_id} is on another host", f"快照{self.snapshot_id}不在该主机上"
            )
        return replace(request, node_id=self.node_id)

    def to_args(self) -> dict[str, str]:
        """For a task that makes the disk."""
        return {"volumeUuid": self.volume_uuid, "snapshotId": self.snapshot_id}


def find_origin(session: Session, user: Caller, order: InstanceOrder) -> SnapshotOrigin | None:
    """What the order's system disk is made from, if it is a snapshot of the tenant's.

    ResourceNotFound, StatusUnsupported, ParameterInvalid when the disk is too small, or the image another one.
    """
    for position, volume in enumerate(order.volumes):
        if volume.snapshot_id:
            field = f"volumes[{position}].osSnapshotId"
            if not volume.is_os_disk:
                raise ParameterInvalid(field, "only for the system disk", "仅适用于系统盘")
            return _find(session, user, order, volume.snapshot_id, f"volumes[{position}]")
    return None


def _find(session: Session, user: Caller, order: InstanceOrder, snapshot_id: str, field: str) -> SnapshotOrigin:
    row = find_own_snapshot(session, user, snapshot_id).row
    if row.status != SnapshotStatus.AVAILABLE:
        raise StatusUnsupported(
            f"snapshot {snapshot_id} is {row.status}: nothing can be made from it",
            f"快照{snapshot_id}状态为{row.status}，不能用于创建",
        )
    item = next((it for it in queries.list_parts(session, row) if it.part.is_os_disk), None)
    # What was installed from a disc stands on no image.
    image_id = item and (item.part.image_id or session.get_one(Instance, row.instance_id).image_id)
    if item is None or not image_id:
        raise ParameterInvalid(f"{field}.osSnapshotId", "the snapshot has no system disk", "快照不包含系统盘")
    _check(order, item, image_id, field)
    require_plain([item.volume], "nothing is made from its snapshots", "不能由其快照创建")
    node_id = queries.node_of(session, item.volume)
    if node_id is None:
        raise ParameterInvalid(f"{field}.osSnapshotId", "its volume is on no node", "其云盘不在任何节点上")
    node = session.get_one(Node, node_id)
    return SnapshotOrigin(
        snapshot_id=row.snapshot_id,
        volume_uuid=item.volume.uuid,
        image_id=image_id,
        disk_image_id=item.part.image_id,
        node_id=node_id,
        storage_id=storage_of(node, [item.volume]),
        places=places_of(node.storages, item.volume.storage_pool_id or ""),
    )


def _check(order: InstanceOrder, item: SnapshotPart, image_id: str, field: str) -> None:
    least = item.part.size_gib
    if order.image_id and order.image_id != image_id:
        raise ParameterInvalid(
            "image.imageUid", f"the snapshot is of a system with image {image_id}", f"快照的系统镜像为{image_id}"
        )
    wanted = next(volume.size_gib for volume in order.volumes if volume.snapshot_id)
    if wanted < least:
        raise ParameterInvalid(
            f"{field}.volumeSize", f"at least the snapshot's {least} GiB", f"不能小于快照的{least}GiB"
        )
