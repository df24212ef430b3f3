"""Fixtures of the REST tests: the real application over a real database of either kind, and callers of each role."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from fastapi import FastAPI
from fastapi.testclient import TestClient

from coordinator.agents.client import AgentClients
from coordinator.api.app import create_app, make_routes, serve_from
from coordinator.config import Settings
from coordinator.domain.caller import Caller, Role
from coordinator.runtime import Runtime
from coordinator.secret import SecretBox
from coordinator.services.credential import create_token
from coordinator.services.network import ensure_default_network
from coordinator.store.database import Database
from coordinator.store.tables import Tenant
from tests.api.client import Api
from tests.api.cloud import Cloud, stock
from tests.builders import a_tenant, add, credentials
from tests.database import ENGINES, migrated_database
from tests.scripted_agent import ScriptedAgent, at_work


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database with all tables: SQLite and PostgreSQL in turn."""
    with migrated_database(request.param, tmp_path, request) as opened:
        yield opened


@pytest.fixture
def runtime(database: Database, tmp_path: Path) -> Runtime:
    """A process around `database`, with the default network; its nodes are nowhere."""
    made = Runtime(
        settings=Settings(state_dir=tmp_path, database_url=database.url, zones=["AZ0", "AZ1"]),
        database=database,
        secrets=SecretBox(Fernet.generate_key()),
        agents=AgentClients(database, credentials()),
    )
    ensure_default_network(made)
    return made


@pytest.fixture(scope="session")
def routes() -> FastAPI:
    """The REST application over nothing: its first request takes longer than most tests."""
    return make_routes()


@pytest.fixture
def app(routes: FastAPI, runtime: Runtime) -> FastAPI:
    """The REST application, which nobody changes."""
    serve_from(routes, runtime)
    return routes


@pytest.fixture
def own_app(runtime: Runtime) -> FastAPI:
    """A REST application for a test that adds to it."""
    return create_app(runtime)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """HTTP into the application."""
    with TestClient(app) as opened:
        yield opened


@pytest.fixture
def anybody(client: TestClient) -> Api:
    """A caller without credentials."""
    return Api(client)


@pytest.fixture
def operator(client: TestClient, runtime: Runtime) -> Api:
    """A caller who may do everything."""
    return Api(client, a_token(runtime, Role.OPERATOR))


@pytest.fixture
def auditor(client: TestClient, runtime: Runtime) -> Api:
    """A caller who may look at everything."""
    return Api(client, a_token(runtime, Role.AUDITOR))


@pytest.fixture
def tenant(runtime: Runtime) -> Tenant:
    """A tenant without quotas."""
    return a_stored_tenant(runtime)


@pytest.fixture
def customer(client: TestClient, runtime: Runtime, tenant: Tenant) -> Api:
    """A caller of `tenant`."""
    return Api(client, a_token(runtime, Role.TENANT, tenant))


@pytest.fixture
def stranger(client: TestClient, runtime: Runtime) -> Api:
    """A caller of another tenant."""
    return Api(client, a_token(runtime, Role.TENANT, a_stored_tenant(runtime)))


def a_stored_tenant(runtime: Runtime) -> Tenant:
    """A new tenant."""
    made = a_tenant()
    with runtime.database.write() as session:
        add(session, made)
    return made


def a_token(runtime: Runtime, role: Role, tenant: Tenant | None = None) -> str:
    """A token of that role."""
    issuer = Caller("tok-of-the-tests", Role.OPERATOR)
    tenant_id = tenant.id if tenant else None
    return create_token(runtime, issuer, name=f"{role} of a test", role=role, tenant_id=tenant_id).secret


@pytest.fixture
def cloud(runtime: Runtime, tenant: Tenant) -> Cloud:
    """What an order needs: an image, a flavor, a node."""
    return stock(runtime, tenant)


@pytest.fixture
def agent(runtime: Runtime, cloud: Cloud, tmp_path: Path) -> Iterator[ScriptedAgent]:
    """The agent of the cloud's node."""
    with at_work(runtime, cloud.node, tmp_path / "pki") as working:
        yield working
