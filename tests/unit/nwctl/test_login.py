"""Logging in, out, and between coordinators."""

import stat
from pathlib import Path

import pytest

from nwctl.config import ConfigFile
from tests.unit.nwctl.builders import DEPARTMENT_ID, TENANT_ID
from tests.unit.nwctl.conftest import Nwctl, data_of
from tests.unit.nwctl.standin import Reply, StandIn

IDENTITY = {
    "role": "tenant",
    "tenantId": TENANT_ID,
    "tenantName": "acme",
    "departmentId": DEPARTMENT_ID,
    "region": "region7",
}
REFUSAL = Reply(status=401, code="ECS.OperationDenied.AuthFail", message="unknown token")
# Nothing but the command line says where to go.
BARE = {"NWCTL_ENDPOINT": None, "NWCTL_TOKEN": None, "NWCTL_REGION": None, "NWCTL_LANG": None}


@pytest.fixture
def file(environment: dict[str, str | None], coordinator: StandIn) -> Path:
    """The configuration file's path; the stand-in knows one token."""
    coordinator.on("GET", "/api/iam/v1/whoami", IDENTITY)
    return Path(str(environment["XDG_CONFIG_HOME"]), "nodewright", "nwctl.toml")


def stored(file: Path) -> ConfigFile:
    """The configuration file as it is now."""
    return ConfigFile.load({"XDG_CONFIG_HOME": str(file.parent.parent)})


def test_login_checks_the_token_learns_the_region_and_keeps_both_for_the_owner_alone(
    coordinator: StandIn, nwctl: Nwctl, file: Path
) -> None:
    result = nwctl("login", "--endpoint", coordinator.url + "/", stdin="nwt_typed\n", **BARE)

    assert result.exit_code == 0, result.stderr
    assert "nwt_typed" not in result.output
    kept = stored(file).contexts["default"]
    assert (kept.endpoint, kept.token, kept.region) == (coordinator.url, "nwt_typed", "region7")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    [whoami] = coordinator.asked("GET", "/api/iam/v1/whoami")
    assert whoami.headers["authorization"] == "Bearer nwt_typed"


def test_afterwards_commands_need_no_further_word(coordinator: StandIn, nwctl: Nwctl, file: Path) -> None:
    nwctl("login", "--endpoint", coordinator.url, "--token", "nwt_given", **BARE)

    assert data_of(nwctl("whoami", "--json", **BARE)) == IDENTITY
    last = coordinator.requests[-1]
    assert (last.headers["authorization"], last.headers["x-regionid"]) == ("Bearer nwt_given", "region7")


def test_a_refused_token_is_not_kept(coordinator: StandIn, nwctl: Nwctl, file: Path) -> None:
    coordinator.on("GET", "/api/iam/v1/whoami", REFUSAL)

    result = nwctl("login", "--endpoint", coordinator.url, "--token", "nwt_wrong", **BARE)

    assert result.exit_code == 3
    assert "ECS.OperationDenied.AuthFail" in result.stderr
    assert not file.exists()


def test_a_second_context_takes_nothing_from_the_first(coordinator: StandIn, nwctl: Nwctl, file: Path) -> None:
    nwctl("login", "--endpoint", "127.0.0.1:1", "--token", "nwt_first", "--region", "r", **BARE)
    nwctl("login", "--endpoint", coordinator.url, "--token", "nwt_one", "--context", "one", "--region", "r1", **BARE)
    nwctl("login", "--endpoint", coordinator.url, "--token", "nwt_two", "--context", "two", **BARE)

    contexts = {name: (item.token, item.region) for name, item in stored(file).contexts.items()}
    assert contexts == {"one": ("nwt_one", "r1"), "two": ("nwt_two", "region7")}
    assert stored(file).current == "two"


def test_a_context_can_be_chosen_for_good_and_for_one_command(coordinator: StandIn, nwctl: Nwctl, file: Path) -> None:
    for name in ("one", "two"):
        nwctl("login", "--endpoint", coordinator.url, "--token", f"nwt_{name}", "--context", name, **BARE)

    assert nwctl("context", "use", "one", **BARE).exit_code == 0
    nwctl("whoami", **BARE)
    nwctl("--context", "two", "whoami", **BARE)

    bearers = [request.headers["authorization"] for request in coordinator.requests[-2:]]
    assert bearers == ["Bearer nwt_one", "Bearer nwt_two"]
    assert [row["current"] for row in data_of(nwctl("context", "list", "--json", **BARE))] == [True, False]
    assert nwctl("context", "use", "three", **BARE).exit_code == 2


def test_logout_forgets_the_token_and_says_so_afterwards(coordinator: StandIn, nwctl: Nwctl, file: Path) -> None:
    nwctl("login", "--endpoint", coordinator.url, "--token", "nwt_given", **BARE)

    assert nwctl("logout", **BARE).exit_code == 0

    assert "nwt_given" not in file.read_text()
    result = nwctl("whoami", **BARE)
    assert (result.exit_code, "nwctl login" in result.stderr) == (3, True)


def test_an_endpoint_nobody_named_is_a_usage_error(nwctl: Nwctl) -> None:
    assert nwctl("node", "list", **BARE).exit_code == 2
    assert nwctl("login", "--token", "nwt_given", **BARE).exit_code == 2


def test_an_endpoint_without_a_scheme_is_https(nwctl: Nwctl) -> None:
    result = nwctl("login", "--endpoint", "127.0.0.1:1", "--token", "nwt_given", **BARE)

    assert (result.exit_code, "cannot reach https://127.0.0.1:1" in result.stderr) == (1, True)


def test_a_token_about_to_cross_a_network_in_the_clear_is_warned_of(nwctl: Nwctl) -> None:
    result = nwctl("login", "--endpoint", "http://host.invalid:1", "--token", "nwt_given", **BARE)

    assert "not encrypted" in result.stderr
