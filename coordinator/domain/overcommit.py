"""How many vCPUs a CPU of a host stands for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

LEAST_RATIO: Final = 1
GREATEST_RATIO: Final = 6


@dataclass(frozen=True, slots=True)
class CpuRatios:
    """What holds for the region, and for the zones that have a ratio of their own."""

    region: float
    zones: Mapping[str, int]

    def of_host(self, zone: str, pool_ratio: int | None) -> float:
        """What holds for a host: its pool's ratio beats its zone's, which beats the region's."""
        return pool_ratio or self.zones.get(zone) or self.region
