"""What an instance is to become."""

from dataclasses import dataclass, field

from coordinator.domain.device_order import DeviceOrder


@dataclass(frozen=True, slots=True)
class ResizeOrder:
    """A size as a caller names it. Empty strings mean "not given"."""

    cpu_count: int
    memory_amount: str
    flavor_id: str
    # None: what it has; empty: ordinary pages.
    huge_page: str | None = None
    pool_id: str = ""
    # GPUs; 0: as many as it has.
    devices: DeviceOrder = field(default_factory=DeviceOrder)
