"""Settings come from a file, then from the environment, and a wrong one is named."""

from pathlib import Path

import pytest

from agent.config import AgentConfig, ConfigInvalid, load_config


def test_a_node_needs_no_configuration() -> None:
    assert load_config(environment={}) == AgentConfig()


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('zone = "AZ1"\nlog_level = "DEBUG"\nguest_commands = ["guest-ping"]\n')
    config = load_config(file, {"NODEWRIGHT_AGENT_ZONE": "AZ2", "NODEWRIGHT_AGENT_RESERVED_STORAGE_BYTES": "7"})
    assert (config.zone, config.log_level, config.guest_commands) == ("AZ2", "DEBUG", ("guest-ping",))
    assert config.reserved_storage_bytes == 7


def test_virtual_functions_are_counted_by_address_or_interface(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('virtual_functions = { "0000:3b:00.0" = 8, ens2f1 = "all" }')
    wanted = {"0000:3b:00.0": "8", "ens2f1": "all"}
    assert load_config(file, {}).virtual_functions == wanted
    environment = {"NODEWRIGHT_AGENT_VIRTUAL_FUNCTIONS": "0000:3b:00.0=8, ens2f1=all"}
    assert load_config(environment=environment).virtual_functions == wanted


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("zome = 'AZ1'", "zome"),
        ("listen = '8446'", "listen"),
        ("listen = ':8446'", "listen"),
        ("advertise_address = 'host:port'", "advertise_address"),
        ("state_dir = 'relative'", "state_dir"),
        ("reserved_storage_bytes = -1", "reserved_storage_bytes"),
        ("reserved_storage_bytes = true", "reserved_storage_bytes"),
        ("guest_commands = [1]", "guest_commands"),
        ("volume_backends = { elasticity = 'lvm:a', ssd = 'lvm:a/pool' }", "volume_backends: elasticity"),
        ("virtual_functions = 8", "virtual_functions"),
        ("virtual_functions = { ens2f0 = 'some' }", "virtual_functions: ens2f0"),
        ("virtual_functions = { ens2f0 = -1 }", "virtual_functions: ens2f0"),
        ("volume_backends = { essd = 'nfs:fast' }", "volume_backends: essd"),
        ("volume_backends = { essd = 'rbd:pool/image' }", "volume_backends: essd"),
        ("ceph_user = 'client nodewright'", "ceph_user"),
        ("log_level = 'LOUD'", "log_level"),
        ("vgpu_migration = 'on'", "vgpu_migration"),
        ("zone = ", "agent.toml"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, name: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(text)
    with pytest.raises(ConfigInvalid, match=name):
        load_config(file, {})


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="does not exist"):
        load_config(tmp_path / "absent.toml", {})


def test_the_example_configuration_shows_every_setting_with_its_default(tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / "packaging/config/agent.toml"
    lines = [line[1:] for line in example.read_text().splitlines() if line.startswith("#") and line[1:2].isalpha()]
    file = tmp_path / "agent.toml"
    file.write_text("\n".join(lines))
    assert load_config(file, {}) == AgentConfig()
    assert {line.partition(" =")[0] for line in lines} == set(AgentConfig.__dataclass_fields__)
