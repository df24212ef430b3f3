"""The schema that migrations make."""

import threading

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, Table, insert
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel

import coordinator.store.tables  # noqa: F401 - fills SQLModel.metadata
from coordinator.domain.instance_order import Label
from coordinator.services.instance import make_labels
from coordinator.store.database import Database
from coordinator.store.migration import make_config, migrate
from coordinator.store.schema import REVISION, is_current
from coordinator.store.tables import InstanceLabel, Inventory
from tests.builders import a_flavor, a_flavor_type, a_node, a_tenant, add, an_instance
from tests.database import BOTH_DATABASES

pytestmark = BOTH_DATABASES

_NOTHING = {"reserved": 0, "allocation_ratio": 1.0}
_LATER_COLUMNS = {"label"}
_A_NODE_OF_0001 = {**a_node(id="node-a").model_dump(exclude=_LATER_COLUMNS), "traits": "[]", "facts": "{}"}


def test_migrated_schema_equals_the_tables(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_the_newest_revision_is_known_without_the_scripts(database: Database) -> None:
    with database.engine.connect() as connection:
        assert ScriptDirectory.from_config(make_config(connection)).get_current_head() == REVISION
    assert is_current(database)


def test_tables_that_others_refer_to_are_altered_with_their_rows(database: Database) -> None:
    with database.engine.begin() as connection:
        command.downgrade(make_config(connection), "0001")
        connection.execute(insert(Table("node", MetaData(), autoload_with=connection)), _A_NODE_OF_0001)
        connection.execute(insert(Inventory), {"node_id": "node-a", "resource_class": "VCPU", "total": 16, **_NOTHING})
    migrate(database)
    with database.read() as session:
        assert session.get_one(Inventory, ("node-a", "VCPU")).total == 16
    with pytest.raises(IntegrityError), database.write() as session:
        add(session, Inventory(node_id="node-of-nobody", resource_class="VCPU", total=1))


def test_labels_get_the_times_of_their_instances(database: Database) -> None:
    tenant, flavor_type = a_tenant(), a_flavor_type()
    flavor = a_flavor(flavor_type)
    instance = an_instance(tenant, flavor)
    with database.write() as session:
        add(session, tenant, flavor_type, flavor)
        add(session, instance)
        add(session, *make_labels(instance, [Label("team", "storage")]))
    with database.engine.begin() as connection:
        command.downgrade(make_config(connection), "0007")
    migrate(database)
    with database.read() as session:
        assert session.get_one(InstanceLabel, (instance.id, "team")).created_at == instance.created_at


def test_migrating_again_changes_nothing(database: Database) -> None:
    migrate(database)


def test_several_starting_coordinators_migrate_once(database: Database) -> None:
    SQLModel.metadata.drop_all(database.engine)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE alembic_version")
    failures: list[BaseException] = []

    def start() -> None:
        try:
            migrate(database)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
