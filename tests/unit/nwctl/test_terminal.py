"""What only happens when a person sits at a terminal."""

from pathlib import Path

import pytest

from tests.unit.nwctl.builders import INSTANCE_ID, OPERATION_ID, a_running_operation, an_operation
from tests.unit.nwctl.standin import Reply, StandIn
from tests.unit.nwctl.terminal import converse

Environment = dict[str, str | None]
INSTANCE = f"/api/ecs/v1/instances/{INSTANCE_ID}"


def test_a_bar_shows_the_step_and_how_far_it_is(coordinator: StandIn, environment: Environment) -> None:
    running = [a_running_operation()] * 3
    coordinator.on("GET", f"/api/ecs/v1/operations/{OPERATION_ID}", *running, an_operation())

    outcome = converse("operation", "wait", OPERATION_ID, environment=environment)

    assert outcome.exit_status == 0
    for part in ("create_instance", "40%", "ensure_image", "100%", "Succeeded"):
        assert part in outcome.shown


def test_an_upload_is_drawn(coordinator: StandIn, environment: Environment, tmp_path: Path) -> None:
    file = tmp_path / "debian.raw"
    file.write_bytes(bytes(3 << 20))
    coordinator.on("POST", "/api/image/v1/images", {"imageId": "img-1"})
    coordinator.on("HEAD", "/api/image/v1/images/img-1/file", Reply(headers={"upload-offset": "0"}))
    coordinator.on("PATCH", "/api/image/v1/images/img-1/file")
    coordinator.on("GET", "/api/image/v1/images/img-1", {"imageId": "img-1"})

    outcome = converse("image", "register", str(file), environment=environment)

    assert (outcome.exit_status, "Uploading debian.raw" in outcome.shown) == (0, True)


def test_a_token_is_typed_unseen(coordinator: StandIn, environment: Environment) -> None:
    coordinator.on("GET", "/api/iam/v1/whoami", {"role": "operator", "tenantId": None})
    dialogue = {"Token: ": "nwt_typed"}

    outcome = converse(
        "login", "--endpoint", coordinator.url, environment={**environment, "NWCTL_TOKEN": None}, dialogue=dialogue
    )

    assert (outcome.exit_status, "nwt_typed" in outcome.shown) == (0, False)
    assert "nwt_typed" in Path(str(environment["XDG_CONFIG_HOME"]), "nodewright", "nwctl.toml").read_text()


@pytest.mark.parametrize(("answer", "exit_status", "calls"), [("n", 1, 0), ("y", 0, 1)])
def test_deleting_asks_first(
    coordinator: StandIn, environment: Environment, answer: str, exit_status: int, calls: int
) -> None:
    coordinator.on("DELETE", INSTANCE)

    outcome = converse(
        "instance", "delete", INSTANCE_ID, environment=environment, dialogue={"with their disks?": answer}
    )

    assert (outcome.exit_status, len(coordinator.requests)) == (exit_status, calls)


def test_deleting_does_not_ask_twice(coordinator: StandIn, environment: Environment) -> None:
    coordinator.on("DELETE", INSTANCE)

    assert converse("instance", "delete", "--yes", INSTANCE_ID, environment=environment).exit_status == 0
