"""The command line against a real coordinator, a real host and a real guest."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lab.cloud import Cloud, Instance
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("lab")]

Nwctl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def nwctl(cloud: Cloud, tmp_path: Path) -> Nwctl:
    """Runs the command line as an operator who has logged in."""

    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nwctl", *arguments]
        environment = {"XDG_CONFIG_HOME": str(tmp_path), "LANG": "C.UTF-8", "NO_PROXY": "*"}
        return subprocess.run(
            command, env=environment, input=stdin, capture_output=True, text=True, timeout=180, check=False
        )

    coordinator = cloud.lab.coordinator
    login = ("login", "--endpoint", coordinator.url, "--ca-file", str(coordinator.ca))
    assert run(*login, stdin=coordinator.create_token()).returncode == 0
    return run


def data_of(result: subprocess.CompletedProcess[str]) -> Any:
    """What a successful command printed with `--json`."""
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_an_instance_lives_and_ends_on_the_command_line(cloud: Cloud, nwctl: Nwctl) -> None:
    order = ("--name", "cli", "--flavor", cloud.flavor_id, "--image", cloud.image_id, "--volume-size", "1")
    [created] = data_of(nwctl("instance", "create", *order, "--label", "made=by-hand", "--wait", "--json"))
    assert (created["status"], created["displayName"]) == ("Running", "cli")
    wait_until(lambda: nwctl("instance", "agent", "cli", "guest-ping").returncode == 0, "the guest agent answers", 90)

    program = nwctl("instance", "exec", "cli", "--", "sh", "-c", "hostname; echo oops >&2; exit 3")
    assert (program.stdout, program.stderr, program.returncode) == ("cli\n", "oops\nexit code 3\n", 3)

    assert nwctl("instance", "stop", "cli", "--wait").returncode == 0
    assert data_of(nwctl("instance", "show", "cli", "--json"))["status"] == "Stopped"
    assert cloud.host.domain_state(created["ecsId"]) == "shut off"
    assert nwctl("instance", "delete", "cli", "--wait").returncode == 0
    assert nwctl("instance", "show", "cli").returncode == 4


def test_input_reaches_a_program_in_the_guest_byte_for_byte(guest: Instance, nwctl: Nwctl) -> None:
    text = "two\nlines, 中文\n"

    assert nwctl("instance", "exec", "-i", guest.id, "--", "cat", stdin=text).stdout == text


def test_what_fits_nowhere_fails_with_the_scheduler_s_reason(cloud: Cloud, nwctl: Nwctl) -> None:
    flavor_type = data_of(nwctl("flavor", "show", cloud.flavor_id, "--json"))["flavorType"]["flavorTypeId"]
    size = ("--cpu", "256", "--ram", "1024")
    flavor = data_of(nwctl("flavor", "create", "--name", "huge", "--type", flavor_type, *size, "--json"))

    result = nwctl("instance", "create", "--name", "big", "--flavor", flavor["flavorId"], "--image", cloud.image_id)

    assert (result.returncode, "0/1 hosts" in result.stderr) == (6, True)
    assert nwctl("instance", "delete", "big", "--wait").returncode == 0
