"""Fixtures: a coordinator's stand-in over real HTTP, and the real `nwctl` aimed at it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from nwctl import client, main, progress
from tests.unit.nwctl.standin import StandIn

Nwctl = Callable[..., Result]


@pytest.fixture
def coordinator() -> Iterator[StandIn]:
    """A coordinator's stand-in."""
    with StandIn() as standin:
        yield standin


@pytest.fixture
def environment(coordinator: StandIn, tmp_path: Path) -> dict[str, str | None]:
    """Credentials for the stand-in, and a home without a configuration file."""
    return {
        "NWCTL_ENDPOINT": coordinator.url,
        "NWCTL_TOKEN": "nwt_secret",
        "NWCTL_REGION": "region0",
        "NWCTL_LANG": "en",
        "NWCTL_CA_FILE": None,
        "NWCTL_CONTEXT": None,
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }


@pytest.fixture
def nwctl(environment: dict[str, str | None], monkeypatch: pytest.MonkeyPatch) -> Nwctl:
    """Runs the command line in this process; pauses between attempts and polls are cut short."""
    monkeypatch.setattr(client, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(progress, "FIRST_POLL_SECONDS", 0.01)
    monkeypatch.setattr(progress, "LAST_POLL_SECONDS", 0.02)

    def run(*arguments: str, stdin: str | bytes | None = None, **changes: str | None) -> Result:
        result = CliRunner().invoke(main.app, arguments, input=stdin, env={**environment, **changes})
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def data_of(result: Result) -> Any:
    """What a successful command printed with `--json`."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)
