"""What is installed on hosts agrees with the code, and with systemd."""

import dataclasses
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from agent.config import AgentConfig, load_config
from agent.devices.writer import TIMEOUT_SECONDS
from coordinator.config import Settings

PACKAGING = Path(__file__).parents[2] / "packaging"
UNITS = sorted((PACKAGING / "systemd").glob("*.service"))


def uncomment(example: Path) -> str:
    """The example with every setting switched on."""
    return re.sub(r"^#(?=[a-z_]+ = )", "", example.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_finds_nothing_wrong_with_a_unit(unit: Path, tmp_path: Path) -> None:
    installed = tmp_path / unit.name
    # Programs that are not installed here would be the only complaint.
    installed.write_text(unit.read_text().replace("/opt/nodewright/bin", str(Path(sys.executable).parent)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", installed], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_a_unit_comes_back_after_a_crash_and_has_no_more_rights_than_needed(unit: Path) -> None:
    text = unit.read_text()
    for line in (
        "Restart=always" if "watchdog" in unit.name else "Restart=on-failure",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "SystemCallFilter=@system-service",
    ):
        assert line in text


def test_systemd_waits_longer_for_the_agent_than_the_agent_for_drivers() -> None:
    minutes = re.search(
        r"^TimeoutStartSec=(\d+)min$", (PACKAGING / "systemd/nodewright-agent.service").read_text(), re.M
    )
    # Several, one after the other.
    assert minutes
    assert int(minutes[1]) * 60 >= 10 * TIMEOUT_SECONDS


def test_the_agents_example_shows_every_setting_with_its_default(tmp_path: Path) -> None:
    example = tmp_path / "agent.toml"
    example.write_text(uncomment(PACKAGING / "config/agent.toml"))
    assert load_config(example, environment={}) == AgentConfig()
    assert tomllib.loads(example.read_text()).keys() == {field.name for field in dataclasses.fields(AgentConfig)}


def test_the_coordinators_example_shows_every_setting_with_its_default(tmp_path: Path) -> None:
    example = tmp_path / "coordinator.toml"
    # The two that name files have no default that could be shown.
    example.write_text(re.sub(r"^tls_.*\n", "", uncomment(PACKAGING / "config/coordinator.toml"), flags=re.MULTILINE))
    assert Settings.load(example).model_dump() == Settings().model_dump()
    optional = {"tls_certificate_file", "tls_key_file"}
    assert tomllib.loads(example.read_text()).keys() | optional == Settings.model_fields.keys()
