"""Local disks of nodes that instances can have."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from sqlmodel import col

from coordinator.domain.caller import Caller
from coordinator.domain.device import DeviceKind, DeviceState
from coordinator.domain.unit import GIB
from coordinator.runtime import Runtime
from coordinator.services.device import DeviceView, view_device
from coordinator.services.instance import find_own
from coordinator.store.queries import device as queries
from coordinator.store.tables import Device


@dataclass(frozen=True, order=True, slots=True)
class DiskKind:
    """Disks of one node that are alike."""

    zone: str
    node_name: str
    # "HDD" or "SSD".
    media: str
    # "SATA", "SAS", "NVME" or "VIRTIO".
    interface: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class DiskSearch:
    """What the disks must be; empty and None: anything."""

    zone: str = ""
    pool_ids: Collection[str] = ()
    media: str = ""
    interface: str = ""
    least_gib: int | None = None
    most_gib: int | None = None

    def admits(self, kind: DiskKind) -> bool:
        """Whether such disks are looked for."""
        return (
            self.media.upper() in ("", kind.media)
            and self.interface.upper() in ("", kind.interface)
            and (self.least_gib is None or kind.size_bytes >= self.least_gib * GIB)
            and (self.most_gib is None or kind.size_bytes <= self.most_gib * GIB)
        )


def list_unused_disks(runtime: Runtime, caller: Caller, ecs_id: str) -> list[DeviceView]:
    """Disks of the instance's node that are offered and nobody has, by id; none while it is nowhere.

    ResourceNotFound: no such instance of the caller's.
    """
    with runtime.database.read() as session:
        node_id = find_own(session, caller, ecs_id).node_id or ""
        on_node = (col(Device.node_id) == node_id, col(Device.kind) == DeviceKind.DISK)
        rows = queries.list_devices(session, *on_node)
    return [view_device(row) for row in rows if row.node_ready and row.state is DeviceState.FREE]


def count_unused_disks(runtime: Runtime, caller: Caller, search: DiskSearch) -> list[tuple[DiskKind, int]]:
    """Disks of connected nodes that are offered and nobody has, by kind; in the order of zone, node and kind."""
    with runtime.database.read() as session:
        found = queries.list_unused_disks(session, search.zone, search.pool_ids)
    kinds = Counter(
        DiskKind(
            zone=disk.zone,
            node_name=disk.node_name,
            media=disk.attributes.get("media", "").upper(),
            interface=disk.attributes.get("interface", "").upper(),
            size_bytes=disk.size_bytes,
        )
        for disk in found
    )
    return sorted((kind, count) for kind, count in kinds.items() if search.admits(kind))
