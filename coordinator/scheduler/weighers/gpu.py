"""What placing a consumer leaves to those who ask for GPUs later."""

from coordinator.domain.placement import Consumer, PlacementRequest
from coordinator.scheduler.column import FloatColumn, IntColumn
from coordinator.scheduler.gpu.outlook import QUANTUM_MILLI
from coordinator.scheduler.gpu.request import gpu_request_of
from coordinator.scheduler.snapshot import Snapshot


class GpuWeigher:
    """Whole GPUs gained, mostly lost: 0 where nothing is. Who wants none is kept off hosts that have some."""

    name = "gpu"

    def weigh(self, hosts: Snapshot, rows: IntColumn, consumer: Consumer, request: PlacementRequest) -> FloatColumn:
        """See Weigher."""
        asked = gpu_request_of(consumer)
        gains_milli = hosts.gpus.weigh(asked, rows)
        if asked.wish is None:
            gains_milli -= QUANTUM_MILLI * hosts.gpus.present(rows)
        return gains_milli / 1000
