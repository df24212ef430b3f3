"""Completion in the shell."""

import pytest

from tests.unit.nwctl.builders import INSTANCE_ID, OTHER_INSTANCE_ID, an_instance
from tests.unit.nwctl.conftest import Nwctl
from tests.unit.nwctl.standin import Reply, StandIn

INSTANCES = "/api/ecs/v1/instances"


def complete(nwctl: Nwctl, line: str, **changes: str) -> list[str]:
    """What a shell would offer for the unfinished command line."""
    result = nwctl(
        _NWCTL_COMPLETE="complete_fish", _TYPER_COMPLETE_ARGS=line, _TYPER_COMPLETE_FISH_ACTION="get-args", **changes
    )
    assert "Traceback" not in result.output
    return [line for line in result.stdout.splitlines() if line]


def test_commands_are_completed(nwctl: Nwctl) -> None:
    assert [line.split("\t")[0] for line in complete(nwctl, "nwctl instance su")] == ["suspend"]


def test_ids_are_completed_with_their_names_beside_them(coordinator: StandIn, nwctl: Nwctl) -> None:
    rows = [an_instance(), an_instance(OTHER_INSTANCE_ID, displayName="db")]
    coordinator.on("GET", INSTANCES, {"virtualMachines": rows, "totalCount": 2})

    assert complete(nwctl, "nwctl instance stop ecs-a") == [f"{INSTANCE_ID}\tweb"]


@pytest.mark.parametrize("reply", [Reply(status=401, code="ECS.OperationDenied.AuthFail"), Reply(status=0)])
def test_a_coordinator_that_does_not_help_costs_silence(coordinator: StandIn, nwctl: Nwctl, reply: Reply) -> None:
    coordinator.on("GET", INSTANCES, reply)

    assert complete(nwctl, "nwctl instance stop ") == []
    assert len(coordinator.requests) == 1


def test_a_name_is_offered_too_where_no_id_begins_so(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("GET", INSTANCES, {"virtualMachines": [an_instance()], "totalCount": 1})

    assert complete(nwctl, "nwctl instance stop we") == [f"web\t{INSTANCE_ID}"]
