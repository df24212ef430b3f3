"""Fixtures of the coordinator's tests: a real database of either kind and what a process needs around it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from coordinator.agents.client import AgentClients
from coordinator.config import Settings
from coordinator.runtime import Runtime
from coordinator.secret import SecretBox
from coordinator.store.database import Database
from tests.builders import credentials
from tests.database import ENGINES, migrated_database


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database with all tables: SQLite and PostgreSQL in turn."""
    with migrated_database(request.param, tmp_path, request) as opened:
        yield opened


@pytest.fixture
def runtime(database: Database, tmp_path: Path) -> Runtime:
    """A process around `database`; its nodes are nowhere."""
    return Runtime(
        settings=Settings(state_dir=tmp_path, database_url=database.url),
        database=database,
        secrets=SecretBox(Fernet.generate_key()),
        agents=AgentClients(database, credentials()),
    )
