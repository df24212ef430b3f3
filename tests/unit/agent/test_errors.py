"""The codes of the agent's errors are part of its API: the golden file changes only together with the coordinator."""

import errno
import json
import os
from pathlib import Path

import grpc
import libvirt
import pytest

from agent.errors import AgentError, Category, StorageExhausted, tells_out_of_space
from agent.hypervisor.translation import translate
from agent.rpc.interceptor import STATUS_BY_CATEGORY

GOLDEN = Path(__file__).parents[2] / "data" / "agent" / "error-codes.json"
UPDATE = "NODEWRIGHT_UPDATE_GOLDEN"


def test_the_codes_and_their_status_stay_as_they_are() -> None:
    codes = {error.code: STATUS_BY_CATEGORY[error.category].name for error in _all_errors(AgentError)}
    written = json.dumps(codes, indent=2, sort_keys=True) + "\n"
    if UPDATE in os.environ:
        GOLDEN.write_text(written)
    assert written == GOLDEN.read_text()


def test_every_category_has_a_status_of_its_own_kind() -> None:
    assert set(STATUS_BY_CATEGORY) == set(Category)
    assert grpc.StatusCode.OK not in STATUS_BY_CATEGORY.values()
    assert len(set(STATUS_BY_CATEGORY.values())) == len(Category)


@pytest.mark.parametrize("error", list(AgentError.__subclasses__()), ids=lambda error: str(error.__name__))
def test_a_code_is_the_name_of_its_class(error: type[AgentError]) -> None:
    assert error.code == error.__name__
    assert error("it is so").message == str(error("it is so")) == "it is so"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_known_by_the_words_of_other_programs(number: int) -> None:
    message = f"unable to write '/var/lib/x': {os.strerror(number)}"
    is_full = number != errno.EIO
    assert tells_out_of_space(message) == is_full
    assert isinstance(translate(libvirt.libvirtError(message)), StorageExhausted) == is_full


def _all_errors(base: type[AgentError]) -> list[type[AgentError]]:
    direct = base.__subclasses__()
    return direct + [error for subclass in direct for error in _all_errors(subclass)]
