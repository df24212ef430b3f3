"""The recycle bin: what is deleted stays restorable for a time."""

from dataclasses import dataclass
from typing import Final

LONGEST_FREEZE_DAYS: Final = 3650


@dataclass(frozen=True, slots=True)
class RecycleConfig:
    """Whether deleted instances and snapshots go to the bin, and for how many days they stay there."""

    enabled: bool = False
    freeze_days: int = 1
