"""What the CLI knows about each kind of resource, and what follows from it: finding by id or name, completion."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from nwctl.client import Client
from nwctl.config import resolve
from nwctl.error import NwctlError, ReferenceUnknown, UsageError
from nwctl.output import Column, dig

PAGE_LIMIT = 1000
COMPLETION_LIMIT = 200
COMPLETION_TIMEOUT_SECONDS = 2.0
# The filter's grammar gives `:`, `|`, `,` and the space a meaning and has no way to escape them.
FILTERABLE = re.compile(r"[\w.-]+")

Entry = dict[str, Any]


@dataclass(frozen=True)
class Resource:
    """A kind of resource: where its API is, how an entry is called, and how people see it."""

    noun: str
    path: str
    id_field: str
    # What tells an id from a name.
    id_pattern: str
    columns: tuple[Column, ...]
    # What `show` adds to the columns.
    details: tuple[Column, ...] = ()
    # Members of the list's answer.
    rows_field: str = "list"
    total_field: str = "totalCount"
    name_field: str = "name"
    # Query parameters for the page and its size.
    page_parameters: tuple[str, str] = ("pageNumber", "pageSize")

    def at(self, entry_id: str) -> str:
        """The path of one entry."""
        return f"{self.path}/{entry_id}"

    def rows(self, data: Any) -> list[Entry]:
        """The entries in a list's answer."""
        return list(dig(data, self.rows_field) or ())

    def entries(self, client: Client, filters: str | None = None) -> Iterator[Entry]:
        """Every entry that the caller may see, page by page."""
        page, limit = self.page_parameters
        for number in count(1):
            rows = self.rows(client.get(self.path, {page: number, limit: PAGE_LIMIT, "filter": filters}).data)
            yield from rows
            if len(rows) < PAGE_LIMIT:
                return

    def is_id(self, reference: str) -> bool:
        """Whether `reference` has an id's form."""
        return re.fullmatch(self.id_pattern, reference) is not None

    def find(self, client: Client, reference: str) -> Entry:
        """The entry with this id or, when nobody shares it, this name; as its list shows it."""
        field = self.id_field if self.is_id(reference) else self.name_field
        filters = f"{field}:eq:{reference}" if FILTERABLE.fullmatch(reference) else None
        found = [row for row in self.entries(client, filters) if str(row.get(field)) == reference]
        if not found:
            raise ReferenceUnknown(f"there is no {self.noun} {reference!r}")
        if len(found) > 1:
            ids = ", ".join(str(row[self.id_field]) for row in found)
            raise UsageError(f"{len(found)} {self.noun}s are named {reference!r}, give an id: {ids}")
        return found[0]

    def find_id(self, client: Client, reference: str) -> str:
        """The id that `reference` is, or the id of the only entry of that name."""
        return reference if self.is_id(reference) else str(self.find(client, reference)[self.id_field])

    def complete(self, incomplete: str) -> list[tuple[str, str]]:
        """Ids, and names where one has begun, for the shell; quick, and silent whatever happens."""
        try:
            with Client(resolve({}), attempts=1, timeout_seconds=COMPLETION_TIMEOUT_SECONDS) as client:
                rows = self.rows(client.get(self.path, {self.page_parameters[1]: COMPLETION_LIMIT}).data)
        except NwctlError:
            return []
        ids = [(str(row[self.id_field]), str(row.get(self.name_field) or "")) for row in rows]
        names = [(name, entry_id) for entry_id, name in ids if incomplete]
        return [pair for pair in ids + names if pair[0].startswith(incomplete)]


def only(resource: Resource, entries: Iterable[Entry], option: str) -> Entry:
    """The only one of the entries; asks for a choice where there is none or are several."""
    found = list(entries)
    if len(found) != 1:
        raise UsageError(f"{len(found)} {resource.noun}s to choose from: give {option}")
    return found[0]
