"""Pools, host groups and nodes: who belongs to what, and which hosts take new instances."""

from typing import Any

import pytest

from tests.unit.nwctl.conftest import Nwctl, data_of
from tests.unit.nwctl.standin import StandIn

NODES, POOLS, GROUPS = "/api/ecs/v1/nodes", "/api/ecs/v1/resource-pools", "/api/ecs/v1/host-groups"
POOL_ID, OTHER_POOL_ID, GROUP_ID, NODE_ID = "rp-" + "a" * 14, "rp-" + "b" * 14, "hg-" + "a" * 8, "node-" + "a" * 14
POOL = {"rpId": POOL_ID, "name": "fast", "az": "AZ0", "cpuAllocationRatio": 2, "hostCnt": 1, "ftCnt": 0}
GROUP = {"hgId": GROUP_ID, "name": "licensed", "hostCnt": 1}
NAMED = {"cell": "cell0", "name": "host-1", "innerIp": "192.0.2.1"}


@pytest.fixture
def cloud(coordinator: StandIn) -> StandIn:
    """A coordinator with a node, two pools and a group."""
    coordinator.on("GET", NODES, {"list": [{"hostId": NODE_ID, "hostIp": "192.0.2.1", **NAMED}], "total": 1})
    pools = [POOL, {**POOL, "rpId": OTHER_POOL_ID, "name": "slow"}]
    coordinator.on("GET", POOLS, {"resourcePools": pools, "totalCount": 2})
    coordinator.on("GET", GROUPS, {"hostGroups": [GROUP], "totalCount": 1})
    return coordinator


def test_a_pool_and_a_group_are_created(cloud: StandIn, nwctl: Nwctl) -> None:
    cloud.on("POST", POOLS, POOL)
    cloud.on("POST", GROUPS, GROUP)
    made = nwctl("pool", "create", "--name", "fast", "--zone", "AZ0", "--cpu-ratio", "2", "--json")
    assert data_of(made) == POOL
    assert data_of(nwctl("host-group", "create", "--name", "licensed", "--json")) == GROUP
    [pool], [group] = cloud.asked("POST", POOLS), cloud.asked("POST", GROUPS)
    assert pool.headers["idempotency-key"]
    assert pool.body == {"az": "AZ0", "name": "fast", "cpuAllocationRatio": 2}
    assert group.body == {"name": "licensed"}


@pytest.mark.parametrize(
    ("command", "path", "body"),
    [
        (("pool", "add-host", "fast", "host-1", NODE_ID), f"{POOLS}/{POOL_ID}/add-hosts", {"hosts": [NAMED, NAMED]}),
        (("pool", "remove-host", POOL_ID, "host-1"), f"{POOLS}/{POOL_ID}/remove-host", NAMED),
        (
            ("pool", "move-host", "fast", "host-1", "--to", "slow"),
            f"{POOLS}/{POOL_ID}/host-modify-rp",
            {"destRpId": OTHER_POOL_ID, "host": NAMED},
        ),
        (("host-group", "add-host", "licensed", "host-1"), f"{GROUPS}/{GROUP_ID}/add-hosts", {"hosts": [NAMED]}),
        (("host-group", "remove-host", "licensed", "host-1"), f"{GROUPS}/{GROUP_ID}/remove-host", NAMED),
        (
            ("node", "label", "host-1", "--rack", "r1", "--host", ""),
            f"{NODES}/label",
            {"nodes": [NAMED], "rackLabel": "r1", "hostLabel": ""},
        ),
    ],
)
def test_hosts_are_named_as_the_api_names_them(
    cloud: StandIn, nwctl: Nwctl, command: tuple[str, ...], path: str, body: dict[str, Any]
) -> None:
    cloud.on("POST", path)
    assert nwctl(*command).exit_code == 0
    assert cloud.asked("POST", path)[0].body == body


def test_pools_and_groups_are_shown_and_deleted_by_name(cloud: StandIn, nwctl: Nwctl) -> None:
    assert data_of(nwctl("pool", "show", "fast", "--json")) == POOL
    assert GROUP_ID in nwctl("host-group", "show", "licensed").stdout
    cloud.on("DELETE", f"{POOLS}/{POOL_ID}")
    cloud.on("DELETE", f"{GROUPS}/{GROUP_ID}")
    assert nwctl("pool", "delete", "fast").exit_code == 0
    assert nwctl("host-group", "delete", "licensed").exit_code == 0


@pytest.mark.parametrize(("verb", "schedulable"), [("cordon", False), ("uncordon", True)])
def test_a_node_is_closed_and_opened(cloud: StandIn, nwctl: Nwctl, verb: str, schedulable: bool) -> None:
    path = f"{NODES}/{NODE_ID}/schedulable"
    cloud.on("PUT", path, {"hostId": NODE_ID, "schedulable": schedulable})
    assert data_of(nwctl("node", verb, "host-1", "--json"))["schedulable"] is schedulable
    assert cloud.asked("PUT", path)[0].body == {"schedulable": schedulable}


def test_a_label_without_a_label_makes_no_sense(cloud: StandIn, nwctl: Nwctl) -> None:
    assert nwctl("node", "label", "host-1").exit_code == 2


def test_a_flavor_type_is_bound_to_pools(cloud: StandIn, nwctl: Nwctl) -> None:
    path = "/api/ecs/v1/flavortypes"
    cloud.on("POST", path, {"flavorTypeId": "flavortype-aaaabbbb"})
    nwctl("flavor-type", "create", "--name", "general", "--pool", "fast", "--pool", OTHER_POOL_ID)
    assert cloud.asked("POST", path)[0].body["rpIds"] == [POOL_ID, OTHER_POOL_ID]


def test_overcommitment_is_shown_and_set(coordinator: StandIn, nwctl: Nwctl) -> None:
    path = "/api/ecs/v1/global-config/cpu"
    ratios = {"globalCpuOR": 2, "azCpuConfigs": [{"az": "AZ1", "azCpuOR": 4}]}
    coordinator.on("GET", path, ratios)
    coordinator.on("POST", path)
    assert data_of(nwctl("overcommit", "show", "--json")) == ratios
    assert [line.split()[0] for line in nwctl("overcommit", "show").stdout.splitlines()] == ["Zone", "AZ1", "(all"]
    assert nwctl("overcommit", "set", "2", "--zone", "AZ1=4").exit_code == 0
    assert coordinator.asked("POST", path)[0].body == ratios
    for wrong in (("7",), ("2", "--zone", "AZ1")):
        assert nwctl("overcommit", "set", *wrong).exit_code == 2


def test_a_node_keeps_something_for_itself(cloud: StandIn, nwctl: Nwctl) -> None:
    path = f"{NODES}/{NODE_ID}/reserved"
    cloud.on("PUT", path, {"hostId": NODE_ID})
    shown = nwctl("node", "reserve", "host-1", "--vcpus", "2")
    assert "keeps 2 CPUs and the configured MiB for itself" in shown.stderr + shown.stdout
    assert cloud.asked("PUT", path)[0].body == {"vcpus": 2, "memoryMib": None}


def test_unused_disks_are_listed(cloud: StandIn, nwctl: Nwctl) -> None:
    disk = {"nodeName": "host-1", "az": "AZ0", "localDiskType": "SSD", "localDiskInterface": "NVME"}
    cloud.on("GET", "/api/ecs/v1/harddisks/nouse-list", [{**disk, "diskSize": 500 * 1024**3, "diskNum": 2}])
    shown = nwctl("node", "disks", "--zone", "AZ0", "--min-size", "100").stdout
    assert "500 GiB" in shown
    [asked] = cloud.asked("GET", "/api/ecs/v1/harddisks/nouse-list")
    assert asked.query == {"az": "AZ0", "minSize": "100"}


def test_a_pool_is_weighed(cloud: StandIn, nwctl: Nwctl) -> None:
    path = f"{POOLS}/{POOL_ID}/weights"
    cloud.on("PUT", path, POOL)
    assert nwctl("pool", "weigh", "fast", "--weight", "room=-1", "--weight", "balance=0.5").exit_code == 0
    assert nwctl("pool", "weigh", "fast").exit_code == 0
    assert [it.body for it in cloud.asked("PUT", path)] == [
        {"weights": {"room": -1.0, "balance": 0.5}},
        {"weights": {}},
    ]
    assert nwctl("pool", "weigh", "fast", "--weight", "room").exit_code == 2


def test_differences_are_listed_and_told_by_the_exit_status(cloud: StandIn, nwctl: Nwctl) -> None:
    path = "/api/ecs/v1/placement/differences"
    cloud.on("GET", path, [])
    assert nwctl("differences").exit_code == 0
    difference = {"kind": "allocation-elsewhere", "nodeId": NODE_ID, "nodeName": "host-1", "name": "ecs-a"}
    cloud.on("GET", path, [{**difference, "consumerUuid": "u", "meaning": "held elsewhere"}])
    shown = nwctl("differences")
    assert shown.exit_code == 6
    assert "allocation-elsewhere" in shown.stdout


def test_a_management_controller_is_set_without_its_password_on_the_command_line(cloud: StandIn, nwctl: Nwctl) -> None:
    path = f"{NODES}/{NODE_ID}/bmc"
    shown = {"nodeId": NODE_ID, "kind": "redfish", "address": "198.51.100.7", "username": "admin", "verifyTls": False}
    cloud.on("PUT", path, {**shown, "updatedAt": "2026-03-14T09:26:53.589Z"})
    options = ("--kind", "redfish", "--address", "198.51.100.7", "--user", "admin", "--no-verify-tls")
    done = nwctl("node", "bmc", "set", "host-1", *options, stdin="hush\n")
    assert (done.exit_code, "hush" in done.stdout + done.stderr) == (0, False)
    [asked] = cloud.asked("PUT", path)
    assert asked.body == {
        "kind": "redfish",
        "address": "198.51.100.7",
        "username": "admin",
        "password": "hush",
        "verifyTls": False,
    }
    assert nwctl("node", "bmc", "set", "host-1", *options, stdin="").exit_code == 2


def test_a_management_controller_is_shown_tested_and_forgotten(cloud: StandIn, nwctl: Nwctl) -> None:
    path = f"{NODES}/{NODE_ID}/bmc"
    shown = {"nodeId": NODE_ID, "kind": "ipmi", "address": "198.51.100.7:6230", "username": "admin", "verifyTls": True}
    cloud.on("GET", path, {**shown, "updatedAt": "2026-03-14T09:26:53.589Z"})
    cloud.on("POST", f"{path}/test", {"powerState": "On"})
    cloud.on("DELETE", path, None)
    assert "198.51.100.7:6230" in nwctl("node", "bmc", "show", "host-1").stdout
    tested = nwctl("node", "bmc", "test", NODE_ID)
    assert "power is On" in tested.stdout + tested.stderr
    assert nwctl("node", "bmc", "clear", "host-1").exit_code == 0
    assert len(cloud.asked("DELETE", path)) == 1


def test_the_tolerance_of_the_region_is_shown_and_set(coordinator: StandIn, nwctl: Nwctl) -> None:
    path = "/api/ecs/v1/instances/global-ha-config"
    coordinator.on("GET", path, {"toleranceTime": 120})
    coordinator.on("PUT", path, None)
    assert "120" in nwctl("ha", "show").stdout
    assert nwctl("ha", "set", "60").exit_code == 0
    assert [asked.body for asked in coordinator.asked("PUT", path)] == [{"toleranceTime": 60}]
