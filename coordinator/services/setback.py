"""What a repeated look at many things does with one that fails in a way that nobody foresaw."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

import structlog

from coordinator.runtime import Runtime

_PAUSE: Final = timedelta(minutes=1)

log = structlog.get_logger(__name__)


class Setbacks:
    """Those that failed lately: they are left alone for a minute, hold up nobody else, and do not fill the log."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._not_before: dict[str, datetime] = {}

    def is_over(self, name: str) -> bool:
        """Whether it may be tried."""
        now = self._runtime.now()
        return self._not_before.get(name, now) <= now

    def pass_over(self, waiting: Iterable[tuple[str, str | None]]) -> list[tuple[str, str | None]]:
        """Those of `waiting` (id, node) that may be tried, in their order."""
        return [item for item in waiting if self.is_over(item[0])]

    @contextmanager
    def noting(self, name: str, event: str) -> Iterator[None]:
        """A failure of the block is logged as `event`, and ends here."""
        try:
            yield
        except Exception:
            log.exception(event, failedId=name)
            self._not_before[name] = self._runtime.now() + _PAUSE
        else:
            self._not_before.pop(name, None)
