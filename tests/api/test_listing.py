"""Pages, filters and orders of lists, on flavors and nodes."""

import pytest

from coordinator.runtime import Runtime
from tests.api.client import Api
from tests.api.order import FLAVORS, make_flavor, make_flavor_type
from tests.builders import a_node, add
from tests.database import BOTH_DATABASES, SQLITE_ONLY

pytestmark = BOTH_DATABASES

NODES = "/api/ecs/v1/nodes"


@pytest.fixture
def flavors(operator: Api) -> list[str]:
    """Names of five flavors, from the oldest to the newest."""
    x86 = make_flavor_type(operator, name="General_x86")
    arm = make_flavor_type(operator, name="arm 100%", archType="arm")
    sizes = [("tiny", 1, x86), ("Small", 2, x86), ("big_50%", 16, x86), ("big|bad", 32, arm), ("规格 甲", 64, arm)]
    return [make_flavor(operator, kind, name=name, cpu=cpu)["name"] for name, cpu, kind in sizes]


def names(operator: Api, query: str) -> list[str]:
    data = operator.ok("GET", f"{FLAVORS}?{query}")
    assert data["totalCount"] >= len(data["flavors"])
    return [flavor["name"] for flavor in data["flavors"]]


@pytest.mark.parametrize(
    "field",
    [
        "specCode",
        "vgpuTypeId",
        "vgpuTypeName",
        "vgpuDisplayName",
        "vgpuMemory",
        "useElasticityLocalSysDisk",
        "elasticityLocalSysDiskSize",
        "elasticityLocalDataDiskNum",
        "elasticityLocalDataDiskSize",
        "intranetBWMax",
        "sriov",
    ],
)
def test_flavors_are_found_by_what_they_show(operator: Api, field: str) -> None:
    shown = make_flavor(operator, make_flavor_type(operator))
    value = shown["flavorType"][field] if field == "specCode" else shown[field]
    assert names(operator, f"filter={field}:eq:{value}&orderBy={field}:desc") == [shown["name"]]


def test_the_newest_come_first(operator: Api, flavors: list[str]) -> None:
    assert names(operator, "") == flavors[::-1]


@pytest.mark.parametrize("first", ["pageNumber=0", "pageNumber=1", "pageNumber=", ""])
def test_page_0_and_page_1_are_the_first(operator: Api, flavors: list[str], first: str) -> None:
    assert names(operator, f"pageSize=2&{first}") == flavors[:2:-1]


def test_pages_together_are_the_whole_list(operator: Api, flavors: list[str]) -> None:
    pages = [operator.ok("GET", f"{FLAVORS}?pageSize=2&pageNumber={number}") for number in (1, 2, 3, 4)]
    assert [flavor["name"] for page in pages for flavor in page["flavors"]] == flavors[::-1]
    assert {page["totalCount"] for page in pages} == {5}
    assert pages[-1]["flavors"] == []


@SQLITE_ONLY
@pytest.mark.parametrize(
    "query",
    [
        "pageSize=0",
        "pageSize=-1",
        "pageSize=1001",
        "pageSize=x",
        "pageNumber=-1",
        f"pageNumber={2**63}",
        "pageSize=1e9",
    ],
)
def test_a_page_out_of_range_names_the_parameter(operator: Api, query: str) -> None:
    answer = operator.refused("GET", f"{FLAVORS}?{query}")
    assert answer.code == "ECS.InvalidParameter"
    assert query.split("=")[0] in answer.message


def test_nodes_are_paged_by_size_and_current(operator: Api, runtime: Runtime) -> None:
    with runtime.database.write() as session:
        add(session, *(a_node(f"node-{number}") for number in range(5)))
    page = operator.ok("GET", f"{NODES}?size=2&current=3")
    assert (page["size"], page["current"], page["total"]) == (2, 3, 5)
    assert [node["name"] for node in page["list"]] == ["node-4"]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("name:eq:tiny", ["tiny"]),
        ("name:ne:tiny", ["Small", "big_50%", "big|bad", "规格 甲"]),
        ("name:lk:BIG", ["big_50%", "big|bad"]),
        ("name:lk:%25", ["big_50%"]),
        ("name:lk:_", ["big_50%"]),
        ("name:lk:\\", []),
        ("name:lk:50/", []),
        ("name:in:tiny,Small,none", ["tiny", "Small"]),
        ("cpu:gt:2", ["big_50%", "big|bad", "规格 甲"]),
        ("cpu:lt:2", ["tiny"]),
        ("cpu:in:1,64", ["tiny", "规格 甲"]),
        (f"cpu:lt:{2**40}|cpu:in:1,{2**62}", ["tiny"]),
        ("cpu:gt:1|cpu:lt:32", ["Small", "big_50%"]),
        ("cpu:gt:1 cpu:lt:32", ["Small", "big_50%"]),
        ("name:eq:规格 甲", ["规格 甲"]),
        ("isCustom:eq:true", []),
        ("is_custom:eq:false", ["tiny", "Small", "big_50%", "big|bad", "规格 甲"]),
        ("archType:eq:arm", ["big|bad", "规格 甲"]),
        ("deviceType:eq:NORMAL", ["tiny", "Small", "big_50%", "big|bad", "规格 甲"]),
        ("createdAt:gt:2000-01-01T00:00:00Z", ["tiny", "Small", "big_50%", "big|bad", "规格 甲"]),
        ("created_at:lt:2000-01-01T00:00:00%2B08:00", []),
        ("name:eq:x' OR '1'='1", []),
    ],
)
def test_a_filter_selects(operator: Api, flavors: list[str], condition: str, expected: list[str]) -> None:
    assert names(operator, f"filter={condition}&orderBy=createdAt:asc") == expected


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("filter=color:eq:red", "color"),
        ("filter=password_hash:eq:x", "password_hash"),
        ("filter=name", "filter"),
        ("filter=name:eq", "filter"),
        ("filter=name:like:x", "filter"),
        ("filter=cpu:eq:many", "cpu"),
        (f"filter=cpu:eq:{2**63}", "cpu"),
        ("filter=cpu:lk:1", "cpu"),
        ("filter=isCustom:eq:perhaps", "isCustom"),
        ("filter=createdAt:gt:yesterday", "createdAt"),
        ("filter=" + "|".join(["cpu:eq:1"] * 33), "filter"),
        ("filter=cpu:in:" + ",".join(["1"] * 1001), "cpu"),
        ("orderBy=color", "color"),
        ("orderBy=cpu:sideways", "orderBy"),
        ("orderBy=cpu;DROP TABLE flavor", "orderBy"),
    ],
)
def test_a_filter_that_means_nothing_names_the_field(operator: Api, query: str, named: str) -> None:
    answer = operator.refused("GET", f"{FLAVORS}?{query}")
    assert answer.code == "ECS.InvalidParameter"
    assert named in answer.message


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("cpu", ["tiny", "Small", "big_50%", "big|bad", "规格 甲"]),
        ("cpu:desc", ["规格 甲", "big|bad", "big_50%", "Small", "tiny"]),
        ("CPU:DESC", ["规格 甲", "big|bad", "big_50%", "Small", "tiny"]),
        ("archType:desc,cpu:desc", ["big_50%", "Small", "tiny", "规格 甲", "big|bad"]),
        # Equals come in the direction of the last key: oldest first, newest first.
        ("isCustom", ["tiny", "Small", "big_50%", "big|bad", "规格 甲"]),
        ("isCustom:desc", ["规格 甲", "big|bad", "big_50%", "Small", "tiny"]),
    ],
)
def test_an_order_orders(operator: Api, flavors: list[str], order: str, expected: list[str]) -> None:
    assert names(operator, f"orderBy={order}") == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("name=BIG", ["big|bad", "big_50%"]),
        ("flavorType=general_", ["big_50%", "Small", "tiny"]),
        ("archType=arm&name=bad", ["big|bad"]),
        ("flavorId=flavor-none", []),
    ],
)
def test_named_parameters_select(operator: Api, flavors: list[str], query: str, expected: list[str]) -> None:
    assert names(operator, query) == expected
