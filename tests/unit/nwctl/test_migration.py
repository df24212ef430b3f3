"""Moving instances and emptying nodes from the command line."""

from typing import Any

import pytest

from tests.unit.nwctl.conftest import Nwctl, data_of
from tests.unit.nwctl.standin import StandIn

NODES, INSTANCES, CONFIG = "/api/ecs/v1/nodes", "/api/ecs/v1/instances", "/api/ecs/v1/global-config"
ECS_ID, NODE_ID = "ecs-" + "a" * 14, "node-" + "b" * 14
EVICTION = {"ecsId": ECS_ID, "displayName": "web", "status": "Running", "fate": "moves", "targetNode": "host-2"}


@pytest.fixture
def cloud(coordinator: StandIn) -> StandIn:
    """A coordinator with a node."""
    node = {"hostId": NODE_ID, "hostIp": "192.0.2.1", "cell": "cell0", "name": "host-1"}
    coordinator.on("GET", NODES, {"list": [node], "total": 1})
    return coordinator


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), {}),
        (("--network", "cninet"), {"network": "cninet"}),
        (("--bandwidth", "7", "--post-copy"), {"bandwidthMibPerSecond": 7, "allowPostCopy": True}),
    ],
)
def test_an_instance_is_moved_to_a_node_by_name_or_id(
    cloud: StandIn, nwctl: Nwctl, options: tuple[str, ...], expected: dict[str, Any]
) -> None:
    path = f"{INSTANCES}/{ECS_ID}/live-migrate"
    cloud.on("POST", path, None)
    for node in ("host-1", NODE_ID):
        nwctl("instance", "migrate", ECS_ID, "--to", node, *options)
    assert [request.body for request in cloud.asked("POST", path)] == [{"nodeName": "host-1", **expected}] * 2


def test_a_migration_is_cancelled_and_moves_are_listed(cloud: StandIn, nwctl: Nwctl) -> None:
    cloud.on("DELETE", f"{INSTANCES}/{ECS_ID}/live-migrate", None)
    moves = [{"type": "live", "state": "Canceled", "sourceNode": "host-1", "targetNode": "host-2"}]
    cloud.on("GET", f"{INSTANCES}/{ECS_ID}/migrations", {"list": moves, "totalCount": 1})
    nwctl("instance", "cancel-migration", ECS_ID)
    assert len(cloud.asked("DELETE", f"{INSTANCES}/{ECS_ID}/live-migrate")) == 1
    assert data_of(nwctl("instance", "migrations", ECS_ID, "--json")) == moves
    assert "Canceled" in nwctl("instance", "migrations", ECS_ID).stdout


def test_settings_are_shown_and_only_what_is_given_is_changed(cloud: StandIn, nwctl: Nwctl) -> None:
    cloud.on("GET", f"{CONFIG}/network-config", {"globalNetwork": "storage", "nodeInfoMethod": "ccos-api"})
    cloud.on("GET", f"{CONFIG}/live-migrate", {"migrateLimit": 5, "cpuMultiArch": "OFF"})
    for leaf in ("network-config", "live-migrate-limit", "live-migrate-arch"):
        cloud.on("PUT", f"{CONFIG}/{leaf}", None)
    shown = data_of(nwctl("migration", "show", "--json"))
    assert (shown["globalNetwork"], shown["migrateLimit"], shown["cpuMultiArch"]) == ("storage", 5, "OFF")
    nwctl("migration", "set", "--limit", "7", "--across-cpus")
    assert [request.body for request in cloud.asked("PUT", f"{CONFIG}/live-migrate-limit")] == [{"migrateLimit": 7}]
    assert [request.body for request in cloud.asked("PUT", f"{CONFIG}/live-migrate-arch")] == [{"cpuMultiArch": "ON"}]
    assert cloud.asked("PUT", f"{CONFIG}/network-config") == []
    assert nwctl("migration", "set").exit_code == 2


def test_a_node_is_drained_and_opened_again(cloud: StandIn, nwctl: Nwctl) -> None:
    cloud.on("PUT", f"{NODES}/maintenance", {"nodeName": "host-1", "operationId": "", "instances": [EVICTION]})
    assert "host-2" in nwctl("node", "drain", "host-1", "--dry-run").stdout
    nwctl("node", "drain", NODE_ID, "--force", "--network", "storage")
    nwctl("node", "undrain", "host-1")
    dry, drain, undrain = (request.body for request in cloud.asked("PUT", f"{NODES}/maintenance"))
    common = {"nodeName": "host-1", "maintenance": True}
    assert dry == {**common, "force": False, "dryRun": True, "network": None}
    assert drain == {**common, "force": True, "dryRun": False, "network": "storage"}
    assert undrain == {"nodeName": "host-1", "maintenance": False}
