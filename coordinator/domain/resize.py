"""What an instance is to become."""

from dataclasses import dataclass, field

from coordinator.domain.device_order import DeviceOrder, InfinibandOrder


@dataclass(frozen=True, slots=True)
class ResizeOrder:
    """A size as a caller names it. Empty strings mean "not given"."""

    cpu_count: int
    memory_amount: str
    flavor_id: str
    # None: what it has; empty: ordinary pages.
    huge_page: str | None = None
    pool_id: str = ""
    # GPUs alone; 0: as many as the flavor has, of a custom one as many as it has.
    devices: DeviceOrder = field(default_factory=DeviceOrder)
    # All together; None: as many beside the flavor's as it has.
    local_disks: int | None = None
    functions: int | None = None
    # None: those that it has.
    infiniband: tuple[InfinibandOrder, ...] | None = None
