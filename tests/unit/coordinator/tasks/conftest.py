"""A site with a running engine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from coordinator.store.database import Database
from coordinator.tasks.engine import TaskEngine
from coordinator.tasks.model import TaskKind
from tests.unit.coordinator.tasks.toy import BUILD, Site, make_runtime


@pytest.fixture
def site(database: Database, tmp_path: Path) -> Site:
    """A site whose engine does not run yet."""
    directory = tmp_path / "world"
    directory.mkdir()
    return Site(make_runtime(database, tmp_path), directory)


@asynccontextmanager
async def running(site: Site, kind: TaskKind = BUILD) -> AsyncIterator[TaskEngine]:
    """The site's engine, at work until the block ends."""
    site.kind = kind
    engine = site.engine()
    work = asyncio.create_task(engine.run())
    try:
        yield engine
    finally:
        engine.stop()
        await work
