"""One run of a command: its settings, its client, and the ways of answering that all nouns share."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

from nwctl.client import Answer, Client
from nwctl.config import Settings, resolve
from nwctl.option import Invocation, Page, Waiting
from nwctl.output import Column, Output, dig
from nwctl.progress import Operation, follow, require_success
from nwctl.resource import Entry, Resource


@dataclass
class Session:
    """What a command works with."""

    invocation: Invocation
    output: Output

    @classmethod
    def open(cls, invocation: Invocation) -> Self:
        """A session that has read nothing and reached nobody yet."""
        return cls(invocation, Output(as_json=invocation.json))

    @cached_property
    def settings(self) -> Settings:
        """The settings in force."""
        return resolve(asdict(self.invocation))

    @cached_property
    def client(self) -> Client:
        """The connection to the coordinator."""
        return Client(self.settings)

    def show_list(self, resource: Resource, page: Page, query: dict[str, Any] | None = None) -> None:
        """Prints one page of a resource's list, and says on standard error when there is more."""
        number, limit = resource.page_parameters
        filters = "|".join(page.filters or ()) or None
        paging = {number: page.page, limit: page.limit, "filter": filters, "orderBy": page.order_by}
        data = self.client.get(resource.path, {**paging, **(query or {})}).data
        rows = resource.rows(data)
        self.show_rows(resource.columns, rows, data)
        total = dig(data, resource.total_field) or 0
        if total > page.page * page.limit:
            self.output.note(f"{len(rows)} of {total}; --page {page.page + 1} shows more")

    def show_rows(self, columns: tuple[Column, ...], rows: list[Entry], data: Any) -> None:
        """Prints rows for people, or the data that they come from for scripts."""
        if self.output.as_json:
            self.output.data(data)
        else:
            self.output.table(columns, rows)

    def show(self, resource: Resource, entry: Entry) -> None:
        """Prints one entry."""
        if self.output.as_json:
            self.output.data(entry)
        else:
            self.output.record(resource.columns + resource.details, entry)

    def follow(self, operation_ids: Iterable[str], waiting: Waiting) -> list[Operation]:
        """The operations once they ended, well or not."""
        return follow(self.client, operation_ids, waiting.timeout_seconds, self.output.notes)

    def settle(self, answer: Answer, waiting: Waiting) -> list[Operation]:
        """With `--wait` the operations that a call started, all succeeded; else a word on how to follow them."""
        if not answer.operation_ids:
            return []
        if not waiting.wait:
            self.output.note(f"Accepted; follow it with `nwctl operation wait {' '.join(answer.operation_ids)}`")
            return []
        operations = self.follow(answer.operation_ids, waiting)
        require_success(operations)
        return operations

    def conclude(self, answer: Answer, waiting: Waiting, done: str) -> None:
        """Settles a change and reports it: what came of it to scripts, `done` to people."""
        operations = self.settle(answer, waiting)
        if self.output.as_json:
            self.output.data(operations or answer.data)
        elif operations or not answer.operation_ids:
            self.output.note(done)

    def report(self, data: Any, done: str) -> None:
        """Prints the data for scripts or the sentence for people."""
        if self.output.as_json:
            self.output.data(data)
        else:
            self.output.note(done)
