"""Bodies and queries as callers of this API really write them."""

from typing import Any

import pytest

from tests.api.client import Api
from tests.api.order import FLAVOR_TYPES, FLAVORS, a_flavor_order, a_flavor_type_order, make_flavor_type
from tests.database import SQLITE_ONLY


def test_numbers_and_booleans_may_be_text(operator: Api) -> None:
    order = a_flavor_type_order(isSystemLocalDisk="false", localDiskSize="0", createCustomFlavor="true")
    order["flavorPrices"][0]["cpuPrice"] = "1.5"
    flavor_type = operator.ok("POST", FLAVOR_TYPES, order)
    assert flavor_type["flavorCount"] == 1
    flavor = operator.ok("POST", FLAVORS, a_flavor_order(flavor_type, cpu="8", ram="16"))
    assert (flavor["cpu"], flavor["ram"]) == (8, 16)


@SQLITE_ONLY
@pytest.mark.parametrize(
    "spelling", ["flavorTypeId", "flavorTypeld", "flavorTypeid", "FlavorTypeId", "flavorTypelId", "flavor_type_id"]
)
def test_field_names_that_were_read_wrongly_are_understood(operator: Api, spelling: str) -> None:
    order = a_flavor_order(make_flavor_type(operator))
    order[spelling] = order.pop("flavorTypeId")
    operator.ok("POST", FLAVORS, order)


def test_the_right_spelling_wins_over_a_wrong_one(operator: Api) -> None:
    order = a_flavor_order(make_flavor_type(operator))
    for wrong_first in ({"flavorTypeld": "flavortype-wrong", **order}, {**order, "flavorTypeld": "flavortype-wrong"}):
        operator.ok("POST", FLAVORS, {**wrong_first, "name": next(iter(wrong_first))})


def test_null_means_absent(operator: Api) -> None:
    operator.ok("POST", FLAVORS, a_flavor_order(make_flavor_type(operator), gpu=None, vgpuTypeId=None))
    answer = operator.refused("POST", FLAVORS, a_flavor_order(make_flavor_type(operator), cpu=None))
    assert answer.message == "cpu: is required"


def test_an_empty_text_means_absent_where_no_text_belongs(operator: Api) -> None:
    order = a_flavor_type_order(localDiskSize="", isDedicatedCPU="", extraSpace="", rpIds="", cpuOverscalingRatio="")
    operator.ok("POST", FLAVORS, a_flavor_order(operator.ok("POST", FLAVOR_TYPES, order), gpu=""))
    answer = operator.refused("POST", FLAVORS, a_flavor_order(make_flavor_type(operator), cpu=""))
    assert answer.message == "cpu: is required"
    answer = operator.refused("POST", FLAVORS, a_flavor_order(make_flavor_type(operator), name=""))
    assert answer.message == "name: at least 1 characters"


def test_unknown_fields_are_ignored(operator: Api) -> None:
    operator.ok("POST", FLAVORS, a_flavor_order(make_flavor_type(operator), setBandwidth=False, other={"x": [1]}))


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("cpu", "two", "cpu: must be a whole number"),
        ("cpu", 1.5, "cpu: must be a whole number"),
        ("cpu", [], "cpu: must be a whole number"),
        ("cpu", True, ""),
        ("name", {}, "name: must be a string"),
        ("name", 7, "name: must be a string"),
        ("useElasticityLocalSysDisk", "maybe", "useElasticityLocalSysDisk: must be true or false"),
    ],
)
def test_other_types_are_refused_by_name(operator: Api, field: str, value: Any, message: str) -> None:
    answer = operator.call("POST", FLAVORS, a_flavor_order(make_flavor_type(operator), **{field: value}))
    if message:
        assert (answer.status, answer.code, answer.message) == (400, "ECS.InvalidParameter", message)
    else:
        assert answer.status in {200, 400}


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("flavorTypeId={0}", 1),
        ("flavorTypeld={0}", 1),
        ("FlavorTypelId={0}&pagesize=", 1),
        ("flavorTypeld={1}", 0),
        ("flavorTypeld={1}&flavorTypeId={0}", 1),
        ("flavorTypeId={0}&flavorTypeld={1}", 1),
        ("flavorTypeId=&flavorTypeld={1}", 0),
        ("flavorTypeId=&name=&fiIter=&unknown={1}", 1),
    ],
)
def test_query_parameters_are_read_like_fields(operator: Api, query: str, expected: int) -> None:
    flavor_type = make_flavor_type(operator)
    operator.ok("POST", FLAVORS, a_flavor_order(flavor_type))
    path = f"{FLAVORS}?{query.format(flavor_type['flavorTypeId'], 'flavortype-other')}"
    assert operator.ok("GET", path)["totalCount"] == expected


def test_empty_query_parameters_are_absent(operator: Api) -> None:
    operator.ok("GET", "/api/ecs/v1/instances?isLock=&cpuExceedRatio=&vpcld=&vmLabels=&pageNumber=")
    operator.ok("GET", f"{FLAVOR_TYPES}?useSriov=&deptAvailable=")


def test_a_query_in_other_letters_keeps_its_value(operator: Api) -> None:
    operator.ok("POST", FLAVORS, a_flavor_order(make_flavor_type(operator), name="a+b & 规格"))
    assert operator.ok("GET", f"{FLAVORS}?NAME=a%2Bb+%26%20%E8%A7%84")["totalCount"] == 1
