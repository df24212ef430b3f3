"""Into the guest through its agent."""

import base64
import json
from typing import Any

import pytest

from tests.unit.nwctl.builders import INSTANCE_ID
from tests.unit.nwctl.conftest import Nwctl, data_of
from tests.unit.nwctl.standin import Reply, StandIn

VMTOOLS = f"/api/ecs/v1/instances/{INSTANCE_ID}/vmtools"
SPAWNED = {"pid": 7}
RUNNING = {"exited": False}


def exited(exit_code: int = 0, out: bytes = b"", err: bytes = b"") -> dict[str, Any]:
    """A guest-exec-status of a process that has ended."""
    encoded = {"out-data": base64.b64encode(out).decode(), "err-data": base64.b64encode(err).decode()}
    return {"exited": True, "exitcode": exit_code, **encoded}


def commands(coordinator: StandIn) -> list[Any]:
    """What reached the guest's agent."""
    return [request.body["qgaCommand"] for request in coordinator.asked("PUT", VMTOOLS)]


def test_output_and_exit_status_of_the_program_become_the_command_s(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("PUT", VMTOOLS, SPAWNED, RUNNING, exited(3, b"\xffout\n", b"err\n"))

    result = nwctl("instance", "exec", INSTANCE_ID, "--", "sh", "-c", "echo out; exit 3")

    assert (result.exit_code, result.stdout_bytes) == (3, b"\xffout\n")
    assert result.stderr == "err\nexit code 3\n"
    spawn, *polls = commands(coordinator)
    arguments = {"path": "sh", "arg": ["-c", "echo out; exit 3"], "capture-output": True}
    assert spawn == {"execute": "guest-exec", "arguments": arguments}
    assert polls == [{"execute": "guest-exec-status", "arguments": {"pid": 7}}] * 2


def test_a_program_that_ends_well_leaves_nothing_but_its_output(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("PUT", VMTOOLS, SPAWNED, exited(0, b"out"))

    result = nwctl("instance", "exec", INSTANCE_ID, "true")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "out", "")


def test_standard_input_and_environment_are_passed_on(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("PUT", VMTOOLS, SPAWNED, exited())

    nwctl("instance", "exec", "-i", "--env", "A=b", INSTANCE_ID, "--", "cat", stdin=b"\x00in")

    arguments = commands(coordinator)[0]["arguments"]
    assert (base64.b64decode(arguments["input-data"]), arguments["env"]) == (b"\x00in", ["A=b"])


def test_a_program_killed_by_a_signal_exits_like_in_a_shell(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("PUT", VMTOOLS, SPAWNED, {"exited": True, "signal": 9})

    result = nwctl("instance", "exec", INSTANCE_ID, "sleep", "9")

    assert (result.exit_code, "killed by signal 9" in result.stderr) == (137, True)


def test_a_program_that_does_not_end_is_not_waited_for_for_ever(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("PUT", VMTOOLS, SPAWNED, RUNNING)

    result = nwctl("instance", "exec", "--timeout", "0", INSTANCE_ID, "sleep", "inf")

    assert (result.exit_code, "process 7" in result.stderr) == (5, True)


def test_scripts_get_what_the_agent_said(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("PUT", VMTOOLS, SPAWNED, exited(0, b"out"))

    assert data_of(nwctl("instance", "exec", "--json", INSTANCE_ID, "true")) == exited(0, b"out")


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (("guest-info",), {"execute": "guest-info"}),
        (("guest-fsfreeze-freeze", '{"x": 1}'), {"execute": "guest-fsfreeze-freeze", "arguments": {"x": 1}}),
        (('{"command": "guest-sync"}',), {"command": "guest-sync"}),
    ],
)
def test_any_command_reaches_the_agent_as_it_is(
    coordinator: StandIn, nwctl: Nwctl, arguments: tuple[str, ...], sent: Any
) -> None:
    coordinator.on("PUT", VMTOOLS, {"version": "7.2"})

    result = nwctl("instance", "agent", INSTANCE_ID, *arguments)

    assert json.loads(result.stdout) == {"version": "7.2"}
    assert commands(coordinator) == [sent]


@pytest.mark.parametrize("arguments", [("guest-info", "{"), ("guest-info", "[]"), ("{",)])
def test_what_is_no_json_object_is_a_usage_error(nwctl: Nwctl, arguments: tuple[str, ...]) -> None:
    assert nwctl("instance", "agent", INSTANCE_ID, *arguments).exit_code == 2


def test_a_silent_agent_is_an_error_of_the_api(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("PUT", VMTOOLS, Reply(status=400, code="ECS.OperationDenied.Vmtools", message="no answer"))

    assert nwctl("instance", "agent", INSTANCE_ID, "guest-ping").exit_code == 1
