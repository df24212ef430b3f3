"""The grammar of `filter`, also of texts that are made to cost time."""

import pytest

from coordinator.api.filtering import parse_filter
from coordinator.domain.listing import Comparison, Condition
from coordinator.errors import ParameterInvalid
from tests.database import BOTH_DATABASES

pytestmark = BOTH_DATABASES

WEB = Condition("name", Comparison.LIKE, ("web server",))
RUNNING = Condition("status", Comparison.EQUAL, ("Running",))


@pytest.mark.parametrize(
    "text",
    [
        "name:lk:web server|status:eq:Running",
        "  name:lk:web server \t| status:eq:Running  ",
        "name:lk:web server status:eq:Running",
        "name:lk:web server" + " " * 30_000 + "status:eq:Running",
        "|name:lk:web server||status:eq:Running|",
    ],
    ids=["bar", "bar and spaces", "space", "many spaces", "empty parts"],
)
def test_conditions_are_separated_by_bars_or_spaces(text: str) -> None:
    assert parse_filter(text) == (WEB, RUNNING)


def test_spaces_that_separate_nothing_belong_to_the_value() -> None:
    # With a separator that looks at each run from each of its spaces this alone takes half a minute.
    spaces = " " * 32_000
    assert parse_filter(f"name:eq:a{spaces}b") == (Condition("name", Comparison.EQUAL, (f"a{spaces}b",)),)


def test_a_text_without_a_comparison_is_refused() -> None:
    with pytest.raises(ParameterInvalid, match="filter"):
        parse_filter("name=web")
