"""Lists of instances are found in indexes: what SQLite plans for them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from coordinator.domain.clock import utc_now
from coordinator.domain.instance_order import Label
from coordinator.domain.listing import Comparison, Condition, ListQuery, Ordering, Page
from coordinator.services.instance import make_labels
from coordinator.store.database import Database
from coordinator.store.queries.instance import Narrowing, list_numbers
from coordinator.store.queries.network import list_ports
from coordinator.store.queries.volume import list_volumes
from coordinator.store.tables import RecycledInstance
from tests.builders import a_flavor, a_flavor_type, a_node, a_tenant, add, an_instance
from tests.database import BOTH_DATABASES

pytestmark = BOTH_DATABASES

TENANT = "1000000000000000001"
EQUAL, IN, LIKE = Comparison.EQUAL, Comparison.IN, Comparison.LIKE


@contextmanager
def statements_of(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """What is read meanwhile, with its parameters, beside the look whether anything is in the recycle bin."""
    executed: list[tuple[str, Any]] = []

    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        if statement.startswith("SELECT") and "LIMIT" not in statement.partition("FROM recycled_instance")[2][:20]:
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
    instance = an_instance(tenant, flavor, node=node)
    with database.write() as session:
        add(session, tenant, flavor_type, flavor, node)
        add(session, instance)
        add(session, *make_labels(instance, [Label("team", "storage")]))


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
    # A page that is full: there may be more.
    query = ListQuery(Page(size=1), conditions, (Ordering("createdAt", descending=is_newest_first),))
    with database.read() as session, statements_of(database) as executed:
        assert list_numbers(session, TENANT if is_tenant else None, Narrowing(), query).total == 1
    paged, counted = (plan_of(database, *statement) for statement in executed)
    for plan in (paged, counted):
        assert ["COVERING INDEX" in step for step in plan] == [True], plan


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_is_in_the_recycle_bin_is_left_out_without_rows(database: Database) -> None:
    store_instance(database)
    now = utc_now()
    with database.write() as session:
        session.add(RecycledInstance(instance_id=1, recycled_at=now, purge_at=now, status_before="Stopped"))
    query = ListQuery(Page(size=1), (Condition("hgId", EQUAL, ("",)),))
    with database.read() as session, statements_of(database) as executed:
        assert list_numbers(session, None, Narrowing(), query).total == 0
    [plan] = (plan_of(database, *statement) for statement in executed)
    assert plan[0].startswith("SEARCH instance USING COVERING INDEX ix_instance_by_hg_id"), plan


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


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("tenant_id", "conditions"), [(None, ()), (TENANT, ()), (None, (Condition("status", EQUAL, ("Stopped",)),))]
)
def test_instances_with_a_label_are_counted_and_paged_without_rows_and_sorting(
    database: Database, tenant_id: str | None, conditions: tuple[Condition, ...]
) -> None:
    store_instance(database)
    narrowing = Narrowing(label=("team", "storage"))
    with database.read() as session, statements_of(database) as executed:
        list_numbers(session, tenant_id, narrowing, ListQuery(Page(size=1), conditions))
    for statement in executed:
        label, instance = plan_of(database, *statement)
        assert label.startswith(
            "SEARCH instance_label USING COVERING INDEX ix_instance_label_listed (key=? AND value=?"
        )
        assert instance.startswith("SEARCH instance USING COVERING INDEX ix_instance_listed")
    assert len(executed) == 2


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("tenant_id", [None, TENANT])
@pytest.mark.parametrize("list_page", [list_volumes, list_ports])
def test_belongings_are_listed_in_their_order_and_without_rows(
    database: Database, tenant_id: str | None, list_page: Callable[..., object]
) -> None:
    condition = Condition("name", LIKE, ("os",))
    with database.read() as session, statements_of(database) as executed:
        list_page(session, tenant_id, ListQuery(conditions=(condition,)))
    plan = plan_of(database, *executed[0])
    assert "COVERING INDEX ix_" in plan[0], plan


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_ports_of_one_instance_are_found_by_it(database: Database) -> None:
    condition = Condition("ecsId", EQUAL, ("ecs-x",))
    with database.read() as session, statements_of(database) as executed:
        list_ports(session, TENANT, ListQuery(conditions=(condition,)))
    plan = plan_of(database, *executed[0])
    assert plan[0] == "SEARCH port USING COVERING INDEX ix_port_listed_by_instance_id (instance_id=?)"
    assert plan[1].startswith("SCALAR SUBQUERY")
