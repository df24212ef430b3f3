"""The Idempotency-Key of creating calls."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import select

from coordinator.runtime import Runtime
from coordinator.services import volume as volume_service
from coordinator.store.tables import IdempotencyKey
from tests.api.client import Answer, Api
from tests.database import BOTH_DATABASES

pytestmark = BOTH_DATABASES

VOLUMES = "/api/ebs/v1/volumes"
BODY = {"name": "data", "size": 3}


def create(api: Api, key: str, body: dict[str, Any] | None = None) -> Answer:
    return api.call("POST", VOLUMES, body or BODY, headers={"idempotency-key": key})


def count(api: Api) -> int:
    total: int = api.ok("GET", VOLUMES)["totalCount"]
    return total


@contextmanager
def dying_after_commit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process is gone right after the service's transaction: nothing is answered, nothing cleaned up."""
    create_volume = volume_service.create_volume

    def create_and_die(*arguments: Any, **named: Any) -> Any:
        create_volume(*arguments, **named)
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(volume_service, "create_volume", create_and_die)
        patch.setattr("coordinator.api.idempotency.abandon_claim", lambda *_: None)
        yield


@contextmanager
def dying_before_commit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process is gone before the service's transaction."""

    def die(*arguments: Any, **named: Any) -> Any:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(volume_service, "create_volume", die)
        patch.setattr("coordinator.api.idempotency.abandon_claim", lambda *_: None)
        yield


def stands_still(runtime: Runtime) -> None:
    """Time passes in the test's steps only."""
    now = runtime.now()
    runtime.now = lambda: now


def later(runtime: Runtime, step: timedelta) -> None:
    now = runtime.now
    runtime.now = lambda: now() + step


def test_the_same_key_gets_the_same_answer(customer: Api) -> None:
    first, second = create(customer, "a key"), create(customer, "a key")
    assert first.data == second.data
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert count(customer) == 1


def test_another_key_or_none_acts_again(customer: Api) -> None:
    create(customer, "one")
    create(customer, "two")
    customer.ok("POST", VOLUMES, BODY)
    assert count(customer) == 3


def test_the_same_key_for_another_request_is_refused(customer: Api) -> None:
    create(customer, "a key")
    answer = create(customer, "a key", {"name": "other", "size": 3})
    assert (answer.status, answer.code) == (400, "ECS.InvalidParameter")
    assert "Idempotency-Key" in answer.message
    assert count(customer) == 1


def test_keys_of_different_callers_are_different(customer: Api, stranger: Api) -> None:
    create(customer, "a key")
    assert "idempotency-replayed" not in create(stranger, "a key").headers
    assert count(stranger) == 1


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_has_1_to_255_characters(customer: Api, key: str) -> None:
    assert "Idempotency-Key" in create(customer, key).message


def test_a_refused_call_leaves_the_key_free(customer: Api) -> None:
    assert create(customer, "a key", {"name": "data", "size": 0}).status == 400
    assert create(customer, "a key").code == "Success"


def test_bad_credentials_claim_nothing(client: Any, runtime: Runtime) -> None:
    assert create(Api(client, "nwt_wrong"), "a key").status == 401
    with runtime.database.read() as session:
        assert not session.exec(select(IdempotencyKey)).all()


def test_the_key_is_forgotten_after_a_day(customer: Api, runtime: Runtime) -> None:
    create(customer, "a key")
    later(runtime, timedelta(hours=23, minutes=59))
    assert create(customer, "a key").headers.get("idempotency-replayed") == "true"
    later(runtime, timedelta(minutes=2))
    assert "idempotency-replayed" not in create(customer, "a key").headers
    assert count(customer) == 2


def test_concurrent_calls_with_one_key_act_once(customer: Api) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: create(customer, "a key"), range(8)))
    assert {answer.code for answer in answers} == {"Success"}
    assert len({answer.data["volumeId"] for answer in answers}) == 1
    assert count(customer) == 1


def test_a_call_that_died_before_it_acted_can_be_repeated(
    customer: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands_still(runtime)
    with dying_before_commit(monkeypatch):
        assert create(customer, "a key").status == 500
    monkeypatch.setattr("coordinator.api.idempotency._WAIT_SECONDS", 0.2)
    assert create(customer, "a key").status == 503
    later(runtime, timedelta(minutes=2))
    assert create(customer, "a key").code == "Success"
    assert count(customer) == 1


def test_a_call_that_died_after_it_acted_does_not_act_again(
    customer: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dying_after_commit(monkeypatch):
        assert create(customer, "a key").status == 500
    later(runtime, timedelta(minutes=2))
    answer = create(customer, "a key")
    assert (answer.status, answer.code) == (400, "ECS.OperationDenied.Repeat")
    assert count(customer) == 1
