"""Lists of instances are found in indexes: what SQLite plans for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from coordinator.domain.listing import Comparison, Condition, ListQuery, Ordering, Page
from coordinator.store.database import Database
from coordinator.store.queries.instance import Narrowing, list_numbers
from tests.builders import a_flavor, a_flavor_type, a_node, a_tenant, add, an_instance

TENANT = "1000000000000000001"
EQUAL, IN, LIKE = Comparison.EQUAL, Comparison.IN, Comparison.LIKE


@contextmanager
def statements_of(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """What is read meanwhile, with its parameters."""
    executed: list[tuple[str, Any]] = []

    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        if statement.startswith("SELECT"):
            executed.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", record)
    yield executed
    event.remove(database.engine, "before_cursor_execute", record)


def plan_of(database: Database, statement: str, parameters: Any) -> list[str]:
    with database.engine.connect() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    return [row.detail for row in rows]


def store_instance(database: Database) -> None:
    tenant, flavor_type, node = a_tenant(id=TENANT), a_flavor_type(), a_node()
    flavor = a_flavor(flavor_type)
    with database.write() as session:
        add(session, tenant, flavor_type, flavor, node)
        add(session, an_instance(tenant, flavor, node=node))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("is_tenant", [False, True])
@pytest.mark.parametrize("is_newest_first", [False, True])
@pytest.mark.parametrize(
    "conditions",
    [
        (),
        (Condition("status", EQUAL, ("stopped",)),),
        (Condition("az", EQUAL, ("AZ0",)),),
        (Condition("displayName", LIKE, ("WEB",)),),
        (Condition("tenantId", EQUAL, (TENANT,)), Condition("status", IN, ("Stopped", "Paused"))),
        (Condition("az", EQUAL, ("AZ0",)), Condition("status", EQUAL, ("Stopped",))),
        (Condition("status", EQUAL, ("Stopped",)), Condition("displayName", LIKE, ("web",))),
    ],
)
def test_usual_lists_are_counted_and_paged_without_rows_and_sorting(
    database: Database, is_tenant: bool, is_newest_first: bool, conditions: tuple[Condition, ...]
) -> None:
    store_instance(database)
    query = ListQuery(Page(), conditions, (Ordering("createdAt", descending=is_newest_first),))
    with database.read() as session, statements_of(database) as executed:
        assert list_numbers(session, TENANT if is_tenant else None, Narrowing(), query).total == 1
    counted, paged = (plan_of(database, *statement) for statement in executed)
    for plan in (counted, paged):
        assert ["COVERING INDEX" in step for step in plan] == [True], plan


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "field",
    ["nodeName", "nodeId", "flavorName", "flavorId", "flavorTypeId", "departmentId", "rpId", "hgId", "displayName"],
)
def test_instances_are_found_by_what_they_refer_to(database: Database, field: str) -> None:
    store_instance(database)
    with database.read() as session, statements_of(database) as executed:
        list_numbers(session, None, Narrowing(), ListQuery(conditions=(Condition(field, EQUAL, ("x",)),)))
    plan = plan_of(database, *executed[0])
    assert plan[0].startswith("SEARCH instance USING COVERING INDEX ix_instance_by_"), plan


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_tenants_list_reads_the_tenants_instances_only(database: Database) -> None:
    conditions = (Condition("status", EQUAL, ("Running",)), Condition("az", EQUAL, ("AZ0",)))
    with database.read() as session, statements_of(database) as executed:
        list_numbers(session, TENANT, Narrowing(), ListQuery(conditions=conditions))
    (step,) = plan_of(database, *executed[0])
    assert step == "SEARCH instance USING COVERING INDEX ix_instance_listed_by_tenant_id (tenant_id=?)"
