"""What is kept on disk of things that are done once for an id: that one has begun or shall end, and how it ended."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from agent.durable_file import write_file
from agent.errors import RequestInvalid

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# Longer than any coordinator repeats a call.
_KEPT_SECONDS: Final = 7 * 24 * 3600.0

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Entry = TypeVar("Entry", bound="DataclassInstance")


class OutcomeJournal(Generic[Entry]):
    """A file for each id."""

    def __init__(
        self, directory: Path, kind: str, entry_type: type[Entry], *, now: Callable[[], float] = time.time
    ) -> None:
        """`kind` begins the files' names, and names the id where it is none."""
        self._directory = directory
        self._kind = kind
        self._entry_type = entry_type
        self.now = now

    def read(self, entry_id: str) -> Entry | None:
        """None when the id is not known. Raises RequestInvalid for what is no id."""
        try:
            return self._entry_type(**json.loads(self._path(entry_id).read_bytes()))
        except FileNotFoundError:
            return None

    def read_all(self) -> list[Entry]:
        """Everything that is kept."""
        entries = (self.read(path.stem.removeprefix(f"{self._kind}-")) for path in self._files())
        return [entry for entry in entries if entry is not None]

    def keep(self, entry_id: str, entry: Entry) -> Entry:
        """The entry is on disk."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(self._path(entry_id), json.dumps(asdict(entry)).encode())
        return entry

    def prune(self) -> None:
        """What is over for long is forgotten."""
        for path in self._files():
            if path.stat().st_mtime < self.now() - _KEPT_SECONDS:
                path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return list(self._directory.glob(f"{self._kind}-*.json"))

    def _path(self, entry_id: str) -> Path:
        if not _ID.fullmatch(entry_id):
            raise RequestInvalid(f"{self._kind}_id: letters, digits, '_' and '-', at most 64")
        return self._directory / f"{self._kind}-{entry_id}.json"
