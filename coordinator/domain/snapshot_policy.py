"""Snapshot policies: when snapshots are taken of instances by themselves, and for how long they are kept."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

LONGEST_KEEPING_MINUTES: Final = 65536
HOURS: Final = range(24)
# Monday is 1.
WEEK_DAYS: Final = range(1, 8)


@dataclass(frozen=True, slots=True)
class PolicyOrder:
    """What a policy shall be. Empty ids mean "not given"; no time zone: as it was, or the cloud's."""

    name: str
    # Of the day and of the week, each once and in order.
    hours: tuple[int, ...]
    week_days: tuple[int, ...]
    # 0: snapshots are kept until somebody deletes them.
    keep_minutes: int
    time_zone: str | None = None
    tenant_id: str = ""
    department_id: str = ""
    resource_group_id: str = ""


def join_numbers(numbers: Iterable[int]) -> str:
    """As the API, and cron, write several numbers."""
    return ",".join(map(str, numbers))


def cron_of(hours: str, week_days: str) -> str:
    """The cron expression of a policy's times."""
    return f"0 {hours} * * {week_days}"
