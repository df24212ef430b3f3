"""The codes of the coordinator's errors are part of its API: the golden file changes only together with its callers."""

import json
import os
from pathlib import Path

from coordinator.errors import CoordinatorError

GOLDEN = Path(__file__).parents[2] / "data" / "coordinator" / "error-codes.json"
UPDATE = "NODEWRIGHT_UPDATE_GOLDEN"


def test_the_codes_and_their_status_stay_as_they_are() -> None:
    codes = {error.__name__: f"{error.http_status} {error.code}" for error in _all_errors(CoordinatorError)}
    written = json.dumps(codes, indent=2, sort_keys=True) + "\n"
    if UPDATE in os.environ:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(written)
    assert written == GOLDEN.read_text()


def _all_errors(base: type[CoordinatorError]) -> list[type[CoordinatorError]]:
    direct = base.__subclasses__()
    return direct + [error for subclass in direct for error in _all_errors(subclass)]
