"""When a scheduled task is due: five cron fields, read by the clocks of a time zone.

Where clocks are turned it goes as with Debian's cron: what is due at a fixed time that is left out comes right after
the gap, what is due at one that comes twice comes once, the first time; what repeats within hours (`*` in minutes or
hours) goes by real time.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

_FIELD_COUNT: Final = 5
# Files beside the zones: the machine's own zone under a name that says nothing, and one of no place.
_NO_ZONES: Final = frozenset({"localtime", "Factory", "posixrules"})


class CronInvalid(ValueError):
    """The expression is none, or never comes true."""


class ZoneUnknown(ValueError):
    """There is no time zone of that name."""


@dataclass(frozen=True, slots=True)
class CronTimes:
    """The moments at which `expression` comes true in `zone`, all of them in UTC; made by `parse_cron`."""

    expression: str
    zone: ZoneInfo

    def next_after(self, moment: datetime) -> datetime | None:
        """The first one after `moment`; None when there is none within fifty years."""
        return next(self._after(moment), None)

    def last_between(self, first: datetime, last: datetime) -> datetime | None:
        """The last one that is not before `first` and not after `last`, where `first` is known to be one."""
        found = None if first > last else first
        for due in self._after(first):
            if due > last:
                break
            found = due
        return found

    def _after(self, moment: datetime) -> Iterator[datetime]:
        for local in CronSim(self.expression, moment.astimezone(self.zone)):
            due = local.astimezone(UTC)
            # In the second of two alike hours the first one's times are found again.
            if due > moment:
                yield due


def parse_cron(expression: str, zone: str, now: datetime) -> CronTimes:
    """The times of an expression; CronInvalid and ZoneUnknown say what is wrong with it."""
    times = CronTimes(normalize_cron(expression), find_zone(zone))
    try:
        if times.next_after(now) is None:
            raise CronInvalid("never comes true")
    except CronSimError as error:
        raise CronInvalid(str(error)) from None
    return times


def normalize_cron(expression: str) -> str:
    """The five fields with one space between; spaces around a slash, as copies of the API's examples have, go."""
    fields = re.sub(r"\s*/\s*", "/", expression.strip()).split()
    if len(fields) != _FIELD_COUNT:
        raise CronInvalid(f"{_FIELD_COUNT} fields are needed, not {len(fields)}")
    return " ".join(fields)


def find_zone(name: str) -> ZoneInfo:
    """The time zone of that IANA name, such as Asia/Shanghai."""
    if name not in _zone_names():
        raise ZoneUnknown(f"there is no time zone {name!r}")
    return ZoneInfo(name)


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones()) - _NO_ZONES
