"""Following operations to their end."""

import signal
import subprocess
import time

import pytest

from tests.unit.nwctl.builders import (
    INSTANCE_ID,
    OPERATION_ID,
    OTHER_INSTANCE_ID,
    OTHER_OPERATION_ID,
    a_failed_operation,
    a_running_operation,
    an_operation,
)
from tests.unit.nwctl.conftest import Nwctl, data_of
from tests.unit.nwctl.standin import Reply, StandIn
from tests.unit.nwctl.terminal import start

OPERATION = f"/api/ecs/v1/operations/{OPERATION_ID}"
OTHER_OPERATION = f"/api/ecs/v1/operations/{OTHER_OPERATION_ID}"
START = f"/api/ecs/v1/instances/{INSTANCE_ID}/start"
STARTED = Reply(headers={"x-operation-id": OPERATION_ID})


def test_without_wait_a_change_returns_at_once_and_says_how_to_follow_it(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("PUT", START, STARTED)

    result = nwctl("instance", "start", INSTANCE_ID)

    assert (result.exit_code, result.stdout) == (0, "")
    assert f"nwctl operation wait {OPERATION_ID}" in result.stderr
    assert len(coordinator.requests) == 1


def test_with_wait_every_step_is_told_once_and_the_end_is_success(coordinator: StandIn, nwctl: Nwctl) -> None:
    running = a_running_operation(step="ensure_image"), a_running_operation(step="start")
    coordinator.on("PUT", START, STARTED)
    coordinator.on("GET", OPERATION, running[0], running[0], running[1], an_operation())

    result = nwctl("instance", "start", INSTANCE_ID, "--wait")

    assert result.exit_code == 0, result.stderr
    stages = [line.rsplit(": ")[1] for line in result.stderr.splitlines() if line.startswith(OPERATION_ID)]
    assert stages == ["ensure_image", "start", "Succeeded"]


def test_with_wait_scripts_get_the_finished_operations(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("PUT", START, STARTED)
    coordinator.on("GET", OPERATION, a_running_operation(), an_operation())

    assert data_of(nwctl("instance", "start", INSTANCE_ID, "-w", "--json")) == [an_operation()]


def test_a_batch_is_followed_to_the_end_of_its_last_operation(coordinator: StandIn, nwctl: Nwctl) -> None:
    both = Reply(headers={"x-operation-id": f"{OPERATION_ID},{OTHER_OPERATION_ID}"})
    coordinator.on("PUT", "/api/ecs/v1/instances/batch-start", both)
    coordinator.on("GET", OPERATION, an_operation())
    coordinator.on("GET", OTHER_OPERATION, *[a_running_operation(OTHER_OPERATION_ID)] * 3, an_operation("op-b"))

    finished = data_of(nwctl("instance", "start", INSTANCE_ID, OTHER_INSTANCE_ID, "--wait", "--json"))

    assert [operation["operationId"] for operation in finished] == [OPERATION_ID, "op-b"]
    assert coordinator.requests[0].body == {"ecsIds": [INSTANCE_ID, OTHER_INSTANCE_ID]}
    assert len(coordinator.asked("GET", OPERATION)) == 1


def test_a_step_that_is_undone_is_told_as_such(coordinator: StandIn, nwctl: Nwctl) -> None:
    undoing = {**a_running_operation(), "steps": [{"name": "define", "phase": "undo", "state": "running"}]}
    coordinator.on("GET", OPERATION, undoing, an_operation(state="Canceled"))

    assert ": undo define" in nwctl("operation", "wait", OPERATION_ID).stderr


@pytest.mark.parametrize("state", ["Failed", "Canceled", "NeedsOperator"])
def test_an_operation_that_does_not_succeed_fails_the_command(coordinator: StandIn, nwctl: Nwctl, state: str) -> None:
    coordinator.on("PUT", START, STARTED)
    coordinator.on("GET", OPERATION, {**a_failed_operation(), "state": state})

    result = nwctl("instance", "start", INSTANCE_ID, "--wait")

    assert result.exit_code == 6
    for part in (OPERATION_ID, INSTANCE_ID, state, "define", "DomainInvalid", "no such machine type"):
        assert part in result.stderr


def test_waiting_has_an_end_and_says_that_the_work_has_not(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("GET", OPERATION, a_running_operation())

    result = nwctl("operation", "wait", OPERATION_ID, "--timeout", "0s")

    assert result.exit_code == 5
    assert f"nwctl operation cancel {OPERATION_ID}" in result.stderr


def test_a_coordinator_that_restarts_meanwhile_does_not_end_the_wait(coordinator: StandIn, nwctl: Nwctl) -> None:
    away = [Reply(status=0)] * 10
    coordinator.on("GET", OPERATION, a_running_operation(), *away, an_operation())

    assert nwctl("operation", "wait", OPERATION_ID).exit_code == 0


def test_an_operation_that_does_not_exist_is_not_waited_for(nwctl: Nwctl) -> None:
    assert nwctl("operation", "wait", OPERATION_ID).exit_code == 4


def test_an_operation_is_shown_with_its_steps(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("GET", OPERATION, a_failed_operation())

    shown = nwctl("operation", "show", OPERATION_ID).stdout

    assert all(part in shown for part in ("ensure_image", "define", "DomainInvalid"))


def test_cancelling_asks_for_each_operation(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("DELETE", OPERATION)
    coordinator.on("DELETE", OTHER_OPERATION)

    assert nwctl("operation", "cancel", OPERATION_ID, OTHER_OPERATION_ID).exit_code == 0
    assert len(coordinator.requests) == 2


def test_ctrl_c_ends_the_wait_and_not_the_work(coordinator: StandIn, environment: dict[str, str | None]) -> None:
    coordinator.on("GET", OPERATION, a_running_operation())
    process = start("operation", "wait", OPERATION_ID, environment=environment, stderr=subprocess.PIPE)
    wait_for_requests(coordinator, 2)

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 130
    assert f"nwctl operation wait {OPERATION_ID}" in errors
    assert f"nwctl operation cancel {OPERATION_ID}" in errors
    assert "Traceback" not in errors


def wait_for_requests(coordinator: StandIn, number: int) -> None:
    """Returns once the stand-in was asked so often."""
    deadline = time.monotonic() + 60
    while len(coordinator.requests) < number:
        assert time.monotonic() < deadline, "nwctl asked nothing"
        time.sleep(0.02)
