"""How values read to people."""

import time

import pytest

from nwctl.output import Column, dig, gibibytes, joined, moment, plain, size, status


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1 << 30, "1 GiB"), (3 << 29, "1.5 GiB"), (1 << 60, "1024 PiB")],
)
def test_sizes_are_in_the_largest_unit_that_fits(value: int, text: str) -> None:
    assert size(value).plain == text


def test_gibibytes_beyond_a_tebibyte_read_as_such() -> None:
    assert gibibytes(2048).plain == "2 TiB"


@pytest.mark.parametrize("value", [None, "", "0001-01-01T00:00:00Z"])
def test_the_time_that_means_never_reads_as_absent(value: str | None) -> None:
    assert moment(value).plain == "-"


def test_times_are_shown_in_the_zone_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        assert moment("2026-07-18T17:49:09.555+08:00").plain == "2026-07-18 11:49:09"
    time.tzset()


@pytest.mark.parametrize(
    ("value", "colour"),
    [
        ("Running", "green"),
        ("Stopped", "dim"),
        ("ErrorUnschedulable", "bold red"),
        ("DataVolumeError", "bold red"),
        ("Unknown", "yellow"),
        ("Starting", "yellow"),
    ],
)
def test_a_status_is_coloured_by_what_it_asks_of_the_reader(value: str, colour: str) -> None:
    assert str(status(value).style) == colour


def test_names_cannot_drive_the_terminal_nor_rich() -> None:
    assert plain("\x1b]0;owned\x07[red]web[/red]").plain == "�]0;owned�[red]web[/red]"


def test_a_path_into_nothing_finds_nothing() -> None:
    assert dig({"a": None}, "a.b.c") is None
    assert Column("A", "a").render(dig({}, "a")).plain == "-"


def test_lists_of_objects_are_joined_by_what_identifies_them() -> None:
    labels = [{"key": "tier", "value": "web"}, {"key": "x", "value": "y"}]

    assert joined("key", "value")(labels).plain == "tier web, x y"
    assert joined("key")(None).plain == "-"
