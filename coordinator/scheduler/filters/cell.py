"""The host has NUMA cells that hold the consumer: CPUs and memory beside each other."""

from coordinator.domain.placement import Consumer, PlacementRequest, Rejection, RejectionReason
from coordinator.domain.unit import MIB, format_bytes
from coordinator.scheduler.column import BoolColumn
from coordinator.scheduler.filters.base import OneReason
from coordinator.scheduler.snapshot import Snapshot


class CellFilter(OneReason):
    """Rejects hosts that cannot hold a consumer in one cell or, in equal parts, in several."""

    name = "numa"

    def admit(self, hosts: Snapshot, consumer: Consumer, request: PlacementRequest) -> BoolColumn | None:
        """See Filter."""
        return hosts.cells.admit(consumer.cells, len(hosts)) if consumer.cells else None

    def explain(self, hosts: Snapshot, row: int, consumer: Consumer, request: PlacementRequest) -> Rejection:
        """See Filter."""
        assert consumer.cells is not None  # noqa: S101 - else nothing is rejected
        wish, host = consumer.cells, hosts.host(row)
        free = [
            f"{cell.pinnable(host.cpu_ratio) if wish.dedicated else cell.free_vcpus(host.cpu_ratio)} CPUs"
            f" and {format_bytes(cell.free_memory_mib(wish.page_kib) * MIB)} in cell {cell.id}"
            for cell in host.cells
        ]
        what = "dedicated CPUs" if wish.dedicated else "vCPUs"
        pages = f" in pages of {format_bytes(wish.page_kib * 1024)}" if wish.page_kib else ""
        return Rejection(
            self.name,
            RejectionReason.NUMA_MISFIT,
            wanted=f"{wish.vcpus} {what} and {format_bytes(wish.memory_mib * MIB)}{pages} in as few cells as hold them",
            available=", ".join(free) or "no cells",
        )
