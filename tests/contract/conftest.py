"""Fixtures of the contract tests: the application over an empty SQLite database."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from fastapi import FastAPI

from coordinator.agents.client import AgentClients
from coordinator.api.app import create_app
from coordinator.config import Settings
from coordinator.runtime import Runtime
from coordinator.secret import SecretBox
from coordinator.services.network import ensure_default_network
from tests.builders import credentials
from tests.database import migrated


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A process around an empty database, with the default network; its nodes are nowhere."""
    directory: Path = tmp_path_factory.mktemp("coordinator")
    with migrated(f"sqlite:///{directory / 'coordinator.db'}") as database:
        made = Runtime(
            settings=Settings(state_dir=directory, database_url=database.url),
            database=database,
            secrets=SecretBox(Fernet.generate_key()),
            agents=AgentClients(database, credentials()),
        )
        ensure_default_network(made)
        yield made


@pytest.fixture(scope="module")
def app(runtime: Runtime) -> FastAPI:
    """The REST application."""
    return create_app(runtime)
