"""Lists and errors, which are the same for every noun."""

import json

import pytest

from tests.unit.nwctl.builders import INSTANCE_ID, OTHER_INSTANCE_ID, an_instance
from tests.unit.nwctl.conftest import Nwctl, data_of
from tests.unit.nwctl.standin import REQUEST_ID, Reply, StandIn

INSTANCES = "/api/ecs/v1/instances"
LISTS = {
    ("instance",): (INSTANCES, "virtualMachines", "totalCount"),
    ("flavor",): ("/api/ecs/v1/flavors", "flavors", "totalCount"),
    ("flavor-type",): ("/api/ecs/v1/flavortypes", "flavorTypes", "totalCount"),
    ("image",): ("/api/image/v1/images", "list", "totalCount"),
    ("volume",): ("/api/ebs/v1/volumes", "list", "totalCount"),
    ("vpc",): ("/api/vpc/v1/vpcs", "list", "totalCount"),
    ("subnet",): ("/api/vpc/v1/subnets", "list", "totalCount"),
    ("security-group",): ("/api/vpc/v1/security-groups", "list", "totalCount"),
    ("operation",): ("/api/ecs/v1/operations", "operations", "totalCount"),
    ("node",): ("/api/ecs/v1/nodes", "list", "total"),
    ("pool",): ("/api/ecs/v1/resource-pools", "resourcePools", "totalCount"),
    ("host-group",): ("/api/ecs/v1/host-groups", "hostGroups", "totalCount"),
    ("deployment-set",): ("/api/ecs/v1/deployment-sets", "list", "total"),
    ("ssh-key",): ("/api/ecs/v1/ssh-key", "SSHKeys", "count"),
    ("template",): ("/api/ecs/v1/templates", "templatelist", "totalCount"),
    ("schedule",): ("/api/ecs/v1/scheduler", "records", "count"),
    ("snapshot-policy",): ("/api/ecs/v1/policy", "snapshotPolicies", "totalCount"),
    ("token",): ("/api/iam/v1/tokens", "list", "totalCount"),
    ("webhook",): ("/api/ecs/v1/webhooks", "list", "totalCount"),
    ("audit",): ("/api/ecs/v1/audit", "list", "totalCount"),
    ("tenant",): ("/api/iam/v1/tenants", "list", "totalCount"),
}


@pytest.mark.parametrize(("noun", "shape"), LISTS.items())
def test_every_noun_lists_exactly_what_came_and_tabulates_even_an_entry_of_nulls(
    coordinator: StandIn, nwctl: Nwctl, noun: tuple[str], shape: tuple[str, str, str]
) -> None:
    path, rows, total = shape
    data = {rows: [{"name": "甲", "ram": None, "createdAt": None}], total: 1, "extra": [1.5, None]}
    coordinator.on("GET", path, data)

    assert data_of(nwctl(*noun, "list", "--json")) == data
    assert nwctl(*noun, "list").exit_code == 0


def test_a_table_has_one_line_an_entry_in_units_of_people(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("GET", INSTANCES, {"virtualMachines": [an_instance()], "totalCount": 1})

    header, line = nwctl("instance", "list").stdout.splitlines()

    assert header.split()[:4] == ["ID", "Name", "Status", "vCPUs"]
    for value in (INSTANCE_ID, "web", "Running", "4 GiB", "10.0.0.10, 10.0.1.10", "debian", "host-1"):
        assert value in line


def test_a_long_value_is_not_cut_where_a_program_reads(coordinator: StandIn, nwctl: Nwctl) -> None:
    name = "n" * 127
    coordinator.on("GET", INSTANCES, {"virtualMachines": [an_instance(displayName=name)], "totalCount": 1})

    assert name in nwctl("instance", "list").stdout


def test_filters_order_and_page_reach_the_api_in_its_own_words(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("GET", INSTANCES, {"virtualMachines": [], "totalCount": 0})
    options = ("--filter", "status:in:Running,Paused", "--filter", "displayName:lk:web", "--page", "3", "--limit", "7")

    nwctl("instance", "list", *options, "--order-by", "created_at:desc")

    assert coordinator.requests[0].query == {
        "filter": "status:in:Running,Paused|displayName:lk:web",
        "orderBy": "created_at:desc",
        "pageNumber": "3",
        "pageSize": "7",
    }


def test_nodes_are_paged_in_their_own_dialect(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("GET", "/api/ecs/v1/nodes", {"list": [], "total": 0})

    nwctl("node", "list", "--page", "2", "--limit", "5")

    assert coordinator.requests[0].query == {"current": "2", "size": "5"}


def test_a_list_says_when_there_is_more_and_only_then(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("GET", INSTANCES, {"virtualMachines": [an_instance(), an_instance()], "totalCount": 3})

    assert "2 of 3; --page 2 shows more" in nwctl("instance", "list", "--limit", "2").stderr
    assert nwctl("instance", "list", "--limit", "2", "--page", "2").stderr == ""


@pytest.mark.parametrize("arguments", [("--json", "instance", "list"), ("instance", "list", "--json")])
def test_shared_options_work_before_the_noun_and_after_the_verb(
    coordinator: StandIn, nwctl: Nwctl, arguments: tuple[str, ...]
) -> None:
    data = {"virtualMachines": [], "totalCount": 0}
    coordinator.on("GET", INSTANCES, data)

    assert data_of(nwctl(*arguments)) == data


@pytest.mark.parametrize(
    ("status", "code", "exit_status"),
    [
        (400, "ECS.InvalidParameter", 1),
        (500, "ECS.InternalError", 1),
        (401, "ECS.OperationDenied.AuthFail", 3),
        (400, "ECS.OperationDenied.Identity", 3),
        (400, "ECS.DBGet.NoData", 4),
        (404, "ECS.InvalidParameter", 4),
        (400, "ECS.InvalidParameter.Image.NotFound", 1),
    ],
)
def test_an_error_names_code_message_and_request_and_has_an_exit_status_of_its_kind(
    coordinator: StandIn, nwctl: Nwctl, status: int, code: str, exit_status: int
) -> None:
    coordinator.on("GET", INSTANCES, Reply(status=status, code=code, message="what was wrong"))

    people, script = nwctl("instance", "list"), nwctl("instance", "list", "--json")

    assert (people.exit_code, people.stdout) == (exit_status, "")
    assert all(part in people.stderr for part in (code, "what was wrong", REQUEST_ID))
    assert (script.exit_code, script.stdout) == (exit_status, "")
    assert json.loads(script.stderr) == {"requestId": REQUEST_ID, "code": code, "message": "what was wrong"}


def test_a_coordinator_that_is_away_is_an_error_that_names_it(nwctl: Nwctl) -> None:
    result = nwctl("instance", "list", NWCTL_ENDPOINT="http://127.0.0.1:1")

    assert (result.exit_code, "cannot reach http://127.0.0.1:1" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    "arguments", [("instance", "list", "--limit", "1001"), ("instance", "frobnicate"), ("flavor", "create")]
)
def test_a_command_line_that_makes_no_sense_is_a_usage_error(nwctl: Nwctl, arguments: tuple[str, ...]) -> None:
    assert nwctl(*arguments).exit_code == 2


def test_the_version_is_told_without_a_coordinator(nwctl: Nwctl) -> None:
    assert nwctl("--version", NWCTL_ENDPOINT=None).stdout.startswith("nwctl ")


def test_a_name_stands_for_its_id(coordinator: StandIn, nwctl: Nwctl) -> None:
    rows = [an_instance(), an_instance(OTHER_INSTANCE_ID, displayName="web-2")]
    coordinator.on("GET", INSTANCES, {"virtualMachines": rows, "totalCount": 2})
    coordinator.on("GET", f"{INSTANCES}/{INSTANCE_ID}", an_instance())

    assert data_of(nwctl("instance", "show", "web", "--json"))["ecsId"] == INSTANCE_ID
    assert coordinator.requests[0].query["filter"] == "displayName:eq:web"


def test_a_name_that_the_filter_cannot_carry_is_found_all_the_same(coordinator: StandIn, nwctl: Nwctl) -> None:
    name = "标准型 1C1G|a:b"
    coordinator.on("GET", INSTANCES, {"virtualMachines": [an_instance(displayName=name)], "totalCount": 1})
    coordinator.on("GET", f"{INSTANCES}/{INSTANCE_ID}", an_instance())

    assert nwctl("instance", "show", name).exit_code == 0
    assert "filter" not in coordinator.requests[0].query


def test_a_name_that_several_share_is_refused_with_their_ids(coordinator: StandIn, nwctl: Nwctl) -> None:
    rows = [an_instance(), an_instance(OTHER_INSTANCE_ID)]
    coordinator.on("GET", INSTANCES, {"virtualMachines": rows, "totalCount": 2})

    result = nwctl("instance", "delete", "web")

    assert (result.exit_code, INSTANCE_ID in result.stderr, OTHER_INSTANCE_ID in result.stderr) == (2, True, True)
    assert {request.method for request in coordinator.requests} == {"GET"}


def test_a_name_that_nobody_bears_is_not_found(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("GET", INSTANCES, {"virtualMachines": [], "totalCount": 0})

    assert nwctl("instance", "show", "web").exit_code == 4


def test_a_name_is_looked_for_on_every_page(coordinator: StandIn, nwctl: Nwctl) -> None:
    full = {"virtualMachines": [an_instance(displayName="x")] * 1000, "totalCount": 1001}
    coordinator.on("GET", INSTANCES, full, {"virtualMachines": [an_instance()], "totalCount": 1001})
    coordinator.on("GET", f"{INSTANCES}/{INSTANCE_ID}", an_instance())

    assert nwctl("instance", "show", "web").exit_code == 0
