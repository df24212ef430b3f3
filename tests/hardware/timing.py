"""How long things took, as a table for people."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timings:
    """Rows of named seconds, in the order in which they came."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, float]] = {}

    @contextmanager
    def measure(self, row: str, column: str) -> Iterator[None]:
        """What is done inside, unless it fails."""
        began = time.monotonic()
        yield
        self.add(row, column, time.monotonic() - began)

    def add(self, row: str, column: str, value: float) -> None:
        """One value."""
        self._rows.setdefault(row, {})[column] = value

    def format(self) -> str:
        """A line for each row."""
        width = max(map(len, self._rows), default=0)
        lines = [
            f"{row:{width}}  " + ", ".join(f"{column} {value:.1f}" for column, value in columns.items())
            for row, columns in self._rows.items()
        ]
        return "\n".join(("", "seconds, memory in MiB:", *lines))
