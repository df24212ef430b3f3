"""Local disks of nodes that instances can have."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from coordinator.domain.caller import Caller
from coordinator.domain.unit import GIB
from coordinator.runtime import Runtime
from coordinator.store.queries import device as queries


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
