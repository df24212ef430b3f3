"""What all tests have in common: a short log, one PostgreSQL server a process, which tests run, and where."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from re import search
from typing import TYPE_CHECKING

import pytest
import structlog
from xdist.scheduler import LoadScopeScheduling

from tests.database import DATABASES_VARIABLE, Lending, leave_postgresql, postgresql_server

if TYPE_CHECKING:
    from xdist.remote import Producer

_ROOT = Path(__file__).parents[1]

# Otherwise each exception that is logged comes with all variables of all frames, which takes half a minute to print.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper("%Y-%m-%d %H:%M:%S.%f"),
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A PostgreSQL server for the session."""
    with postgresql_server() as url:
        yield url


@pytest.fixture(scope="session")
def postgresql_databases(postgresql_url: str) -> Iterator[Lending]:
    """Its databases, which tests use one after the other."""
    lending = Lending(postgresql_url)
    yield lending
    lending.close()


class _Groups(LoadScopeScheduling):  # type: ignore[misc]
    """A group's tests, of all its modules, run one after the other in one process; all others where there is room."""

    def _split_scope(self, nodeid: str) -> str:
        return _group_of(nodeid.partition("::")[0]) or nodeid


@cache
def _group_of(module: str) -> str:
    """The name in the module's mark: the process that hands out tests knows no marks, only names."""
    found = search(r'xdist_group\("(\w+)"\)', (_ROOT / module).read_text())
    return found[1] if found else ""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> LoadScopeScheduling | None:
    """`--dist loadscope` goes by our groups: those of pytest-xdist are lost with the newest pytest."""
    return _Groups(config, log) if config.getoption("dist") == "loadscope" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A run of everything takes most tests to PostgreSQL only, see README.md."""
    if os.environ.get(DATABASES_VARIABLE) == "sample":
        left, twins = leave_postgresql(items)
        config.hook.pytest_deselected(items=twins)
        items[:] = left
