"""Where settings come from, and how safely they are kept."""

from pathlib import Path

import pytest

from nwctl.config import ConfigFile, Settings, resolve
from nwctl.error import UsageError

STORED = Settings(endpoint="https://stored:8443", token="nwt_stored", ca_file="/stored.pem", region="stored")


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment with a configuration file of one context."""
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    ConfigFile.load(environment).with_context("lab", STORED).save()
    return environment


def test_what_is_stored_is_read_back_whatever_characters_it_has(tmp_path: Path) -> None:
    odd = Settings(endpoint="https://主机:8443", token='nwt_"\\\n\t', ca_file="/a b/ca.pem", region="区域0")
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}

    ConfigFile.load(environment).with_context('a "b".c', odd).save()

    loaded = ConfigFile.load(environment)
    assert (loaded.current, dict(loaded.contexts)) == ('a "b".c', {'a "b".c': odd})


def test_environment_beats_the_file_and_options_beat_both(home: dict[str, str]) -> None:
    environment = {**home, "NWCTL_REGION": "of-environment", "NWCTL_CA_FILE": "/environment.pem"}

    settings = resolve({"region": "of-option"}, environment)

    assert (settings.endpoint, settings.ca_file, settings.region) == (
        STORED.endpoint,
        "/environment.pem",
        "of-option",
    )


def test_a_context_asked_for_never_mixes_with_the_environment(home: dict[str, str]) -> None:
    environment = {**home, "NWCTL_ENDPOINT": "https://elsewhere", "NWCTL_TOKEN": "nwt_elsewhere"}

    settings = resolve({"context": "lab"}, environment)

    assert (settings.endpoint, settings.token) == (STORED.endpoint, STORED.token)


@pytest.mark.parametrize(
    ("locale", "language"), [("zh_CN.UTF-8", "zh"), ("en_GB.UTF-8", "en"), ("C", "en"), ("", "en")]
)
def test_messages_come_in_the_language_of_the_locale(tmp_path: Path, locale: str, language: str) -> None:
    assert resolve({}, {"XDG_CONFIG_HOME": str(tmp_path), "LANG": locale}).lang == language


def test_only_the_owner_can_read_the_file_even_where_it_replaces_an_open_one(home: dict[str, str]) -> None:
    file = ConfigFile.load(home)
    file.path.chmod(0o644)

    file.save()

    assert file.path.stat().st_mode & 0o777 == 0o600
    assert list(file.path.parent.iterdir()) == [file.path]


def test_a_token_that_others_can_read_is_refused_with_the_remedy(home: dict[str, str]) -> None:
    path = ConfigFile.load(home).path
    path.chmod(0o640)

    with pytest.raises(UsageError, match=f"chmod 600 {path}"):
        ConfigFile.load(home)


def test_a_broken_file_is_named(home: dict[str, str]) -> None:
    path = ConfigFile.load(home).path
    path.write_text("current =")

    with pytest.raises(UsageError, match=str(path)):
        ConfigFile.load(home)


def test_a_token_stays_out_of_representations() -> None:
    assert "nwt_stored" not in repr(STORED)
