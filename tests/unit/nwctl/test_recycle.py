"""The recycle bin on the command line."""

from tests.unit.nwctl.builders import INSTANCE_ID, OTHER_INSTANCE_ID, an_instance
from tests.unit.nwctl.conftest import Nwctl
from tests.unit.nwctl.standin import StandIn

INSTANCES = "/api/ecs/v1/instances"
BIN = "/api/ecs/v1/recycle/instances"
SNAPSHOTS = "/api/ecs/v1/recycle"
CONFIG = f"{INSTANCES}/recycle-config"
KEPT = an_instance(status="SoftDeleted", softDeletedAt="2026-03-14T09:26:53.589Z", expiredAt="2026-03-17T09:26:53.589Z")


def put(coordinator: StandIn, *entries: dict[str, object]) -> None:
    coordinator.on("GET", INSTANCES, {"virtualMachines": list(entries), "totalCount": len(entries)})


def test_what_is_in_the_bin_is_listed_restored_and_purged_by_name(coordinator: StandIn, nwctl: Nwctl) -> None:
    put(coordinator, KEPT)
    coordinator.on("PUT", f"{BIN}/{INSTANCE_ID}", None)
    coordinator.on("DELETE", f"{BIN}/{INSTANCE_ID}", None)
    shown = nwctl("bin", "list").stdout
    assert "SoftDeleted" in shown
    assert coordinator.requests[-1].query["filter"] == "status:eq:SoftDeleted"
    assert nwctl("bin", "restore", "web").exit_code == 0
    assert nwctl("bin", "purge", INSTANCE_ID, "--yes").exit_code == 0
    assert [request.method for request in coordinator.requests if request.path == f"{BIN}/{INSTANCE_ID}"] == [
        "PUT",
        "DELETE",
    ]


def test_snapshots_in_the_bin_go_by_their_ids(coordinator: StandIn, nwctl: Nwctl) -> None:
    snapshot_id = "ecs.snapshot-" + "a" * 16
    row = {"instanceId": snapshot_id, "instanceName": "nightly", "cleanAt": 1694090105, "createdAt": None}
    coordinator.on("GET", SNAPSHOTS, {"list": [row], "total": 1})
    coordinator.on("PUT", f"{SNAPSHOTS}/snapshot/{snapshot_id}", None)
    coordinator.on("DELETE", f"{SNAPSHOTS}/snapshot/{snapshot_id}", None)
    assert "2023-09-07" in nwctl("bin", "snapshots").stdout
    assert nwctl("bin", "restore", snapshot_id).exit_code == 0
    assert nwctl("bin", "purge", snapshot_id, "--yes").exit_code == 0


def test_a_name_that_is_not_there_or_is_shared_is_refused(coordinator: StandIn, nwctl: Nwctl) -> None:
    put(coordinator)
    assert nwctl("bin", "restore", "web").exit_code == 4
    put(coordinator, KEPT, KEPT | {"ecsId": OTHER_INSTANCE_ID})
    assert nwctl("bin", "restore", "web").exit_code == 4


def test_the_bin_is_switched_on_and_off(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("PUT", CONFIG, None)
    coordinator.on("GET", CONFIG, {"enable": True, "freezeTime": 7})
    nwctl("bin", "set", "--on", "--days", "7")
    nwctl("bin", "set", "--off")
    assert [request.body for request in coordinator.asked("PUT", CONFIG)] == [
        {"enable": True, "freezeTime": 7},
        {"enable": False, "freezeTime": 1},
    ]
    assert "7" in nwctl("bin", "config").stdout
    assert nwctl("bin", "set").exit_code == 2
