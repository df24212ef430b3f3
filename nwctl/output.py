"""What people and scripts read: tables and colours on a terminal, the exact data of the answer with `--json`."""

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nwctl.error import ApiError, NwctlError

# Wide enough that no cell is cut where the reader is a program.
PIPE_COLUMNS = 4096
NEVER = "0001-01-01"
NEVER_MILLISECONDS = 253402271999000
ABSENT = "-"

GOOD = {"running", "started", "succeeded", "active", "available", "inuse", "ready", "online", "up"}
IDLE = {"stopped", "hibernated", "canceled", "queued", "pending", "softdeleted"}
BAD = {
    "failed",
    "refused",
    "missed",
    "needsoperator",
    "offline",
    "down",
    "datavolumeerror",
    "imagepullbackoff",
    "crashloopbackoff",
}


def plain(value: Any) -> Text:
    """The value as text; control characters, which could drive the terminal, are replaced."""
    if value is None or value == "":
        return Text(ABSENT, style="dim")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    return Text(
        "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in str(value))
    )


@dataclass(frozen=True)
class Column:
    """A title, the dotted path of a value in the answer, and how that value reads."""

    title: str
    path: str
    render: Callable[[Any], Text] = plain


def size(value: int | None) -> Text:
    """A number of bytes in the largest binary unit that keeps it above one."""
    if value is None:
        return plain(None)
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            return Text(f"{amount:.4g} {unit}")
        amount /= 1024
    return Text(f"{amount:.4g} PiB")


def gibibytes(value: int | None) -> Text:
    """A number of GiB."""
    return plain(None) if value is None else size(int(value) << 30)


def moment(value: str | None) -> Text:
    """An RFC 3339 time in this machine's zone; the API's "never" reads as absent."""
    if not value or value.startswith(NEVER):
        return plain(None)
    return Text(datetime.fromisoformat(value).astimezone().strftime("%Y-%m-%d %H:%M:%S"))


def epoch(value: int | None) -> Text:
    """Milliseconds since 1970 in this machine's zone; 0 and the API's year 9999 read as absent."""
    if not value or value >= NEVER_MILLISECONDS:
        return plain(None)
    return moment(datetime.fromtimestamp(value / 1000, UTC).isoformat())


def status(value: str | None) -> Text:
    """A status, coloured by what it asks of the reader: nothing, patience or attention."""
    known = (value or "").lower()
    if known in GOOD:
        return Text(value or "", style="green")
    if known in IDLE:
        return Text(value or "", style="dim")
    if known in BAD or known.startswith("err") or known.endswith("error"):
        return Text(value or "", style="bold red")
    return Text(value or "Unknown", style="yellow")


def joined(*paths: str) -> Callable[[Any], Text]:
    """Renders a list of objects as the values found at `paths`, comma separated."""

    def render(items: list[Any] | None) -> Text:
        found = (" ".join(str(dig(item, path)) for path in paths) for item in items or [])
        return plain(", ".join(found))

    return render


def dig(item: Any, path: str) -> Any:
    """The value at a dotted path, None where the way there is absent."""
    for name in path.split("."):
        item = item.get(name) if isinstance(item, dict) else None
    return item


class Output:
    """Answers go to standard output, everything else to standard error."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.notes = Console(stderr=True, highlight=False)
        self._answers = Console(highlight=False)
        if not self._answers.is_terminal:
            self._answers.width = PIPE_COLUMNS

    def data(self, value: Any) -> None:
        """Prints `value` as JSON, unchanged."""
        print(json.dumps(value, ensure_ascii=False, indent=2))

    def table(self, columns: Iterable[Column], rows: Iterable[Any]) -> None:
        """Prints one line an entry."""
        shown = tuple(columns)
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in shown:
            table.add_column(column.title, overflow="fold")
        for row in rows:
            table.add_row(*(column.render(dig(row, column.path)) for column in shown))
        self._answers.print(table)

    def record(self, columns: Iterable[Column], item: Any) -> None:
        """Prints one line a property."""
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for column in columns:
            table.add_row(column.title, column.render(dig(item, column.path)))
        self._answers.print(table)

    def text(self, value: str) -> None:
        """Prints a bare value, such as a new secret, for a script to capture."""
        print(value)

    def note(self, message: str) -> None:
        """Tells people what happened."""
        self.notes.print(plain(message), soft_wrap=True)

    def error(self, error: NwctlError) -> None:
        """Prints what went wrong; with `--json` an error of the API keeps the envelope's shape."""
        if self.as_json and isinstance(error, ApiError):
            print(json.dumps(error.as_data(), ensure_ascii=False), file=sys.stderr)
        else:
            self.notes.print(Text.assemble(("Error: ", "bold red"), plain(error)), soft_wrap=True)
