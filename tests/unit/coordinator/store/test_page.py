"""Pages of lists on both databases: whatever end they are reached from, they are parts of one list."""

from typing import Any

import pytest
from sqlalchemy import event

from coordinator.domain.listing import Comparison, Condition, Listing, ListQuery, Ordering, Page
from coordinator.store.database import Database
from coordinator.store.queries.volume import list_volumes
from tests.builders import a_node, a_tenant, a_volume, add
from tests.database import BOTH_DATABASES

pytestmark = BOTH_DATABASES

_COUNT = 7


@pytest.fixture
def volumes(database: Database) -> Database:
    """Seven of them, of two sizes; three are on no node, the others in two zones."""
    tenant, nodes = a_tenant(), [a_node("a", zone="AZ0"), a_node("b", zone="AZ1"), None]
    with database.write() as session:
        add(session, tenant, *(node for node in nodes if node))
        for number in range(_COUNT):
            node = nodes[number % 3]
            add(session, a_volume(tenant, size_gib=10 + number % 2, node_id=node.id if node else None))
    return database


def read(database: Database, page: Page, *orderings: Ordering, conditions: tuple[Condition, ...] = ()) -> Listing[int]:
    with database.read() as session:
        listing = list_volumes(session, None, ListQuery(page, conditions, orderings))
    return Listing(tuple(row.volume.id or 0 for row in listing.items), listing.total)


@pytest.mark.parametrize("field", ["createdAt", "size", "az", "ecsId", "name"])
@pytest.mark.parametrize("is_descending", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8])
def test_pages_together_are_the_list(volumes: Database, field: str, is_descending: bool, size: int) -> None:
    orderings = (Ordering(field, is_descending), Ordering("status"))
    whole = read(volumes, Page(1000), *orderings)
    pages = [read(volumes, Page(size, number), *orderings) for number in range(1, _COUNT // size + 2)]
    assert [number for page in pages for number in page.items] == list(whole.items)
    assert {page.total for page in (whole, *pages)} == {_COUNT}


def test_behind_the_last_page_there_is_nothing(volumes: Database) -> None:
    assert read(volumes, Page(3, 4)) == Listing((), _COUNT)
    assert read(volumes, Page(7, 2)) == Listing((), _COUNT)


def test_a_list_of_nothing_is_counted(volumes: Database) -> None:
    nothing = (Condition("name", Comparison.EQUAL, ("nobody's",)),)
    assert read(volumes, Page(3), conditions=nothing) == Listing((), 0)
    assert read(volumes, Page(3, 2), conditions=nothing) == Listing((), 0)


@pytest.mark.parametrize(("number", "passed_over"), [(1, 0), (2, 2), (3, 1), (4, 0)])
def test_a_page_is_reached_from_the_nearer_end(volumes: Database, number: int, passed_over: int) -> None:
    executed: list[Any] = []

    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        if "OFFSET" in statement:
            executed.append(tuple(parameters.values() if isinstance(parameters, dict) else parameters)[-1])

    event.listen(volumes.engine, "before_cursor_execute", record)
    read(volumes, Page(2, number))
    assert executed == [passed_over]
