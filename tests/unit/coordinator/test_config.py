"""What the configuration says about where the coordinator is reached."""

from datetime import timedelta

import pytest

from coordinator.config import Settings, split_address


def test_public_address_is_the_first_public_host() -> None:
    settings = Settings(public_hosts=["cloud.example.org", "192.0.2.7"])
    assert settings.public_address("0.0.0.0:8445") == "cloud.example.org:8445"
    assert Settings(public_hosts=["2001:db8::7"]).public_address("[::]:8445") == "[2001:db8::7]:8445"


def test_server_that_listens_at_one_address_is_reached_there() -> None:
    assert Settings(public_hosts=["cloud.example.org"]).public_address("127.0.0.1:8445") == "127.0.0.1:8445"


def test_without_public_hosts_the_machine_names_itself() -> None:
    host, port = split_address(Settings().public_address("0.0.0.0:8445"))
    assert host not in {"", "0.0.0.0"}
    assert port == 8445


def test_certificate_always_names_this_machine() -> None:
    hosts = Settings(public_hosts=["cloud.example.org", "localhost"]).certificate_hosts
    assert hosts == ["cloud.example.org", "localhost", "127.0.0.1"]


def test_events_are_kept_for_as_long_as_they_are_sent_again() -> None:
    with pytest.raises(ValueError, match="event_retention must be longer"):
        Settings(event_retention=timedelta(days=3), webhook_patience=timedelta(days=3))


@pytest.mark.parametrize("address", ["8443", ":8443", "host:", "host:https", "host:65536"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        split_address(address)


def test_a_time_zone_that_does_not_exist_is_refused() -> None:
    assert Settings(schedule_time_zone="Asia/Shanghai").schedule_time_zone == "Asia/Shanghai"
    with pytest.raises(ValueError, match="no time zone 'Mars/Olympus'"):
        Settings(schedule_time_zone="Mars/Olympus")
