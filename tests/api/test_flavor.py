"""Flavors."""

from typing import Any

import pytest

from coordinator.runtime import Runtime
from tests.api.client import Api
from tests.api.order import FLAVORS, a_flavor_order, make_flavor, make_flavor_type
from tests.builders import a_flavor, a_flavor_type, a_tenant, add, an_instance
from tests.database import SQLITE_ONLY


@pytest.fixture
def flavor_type(operator: Api) -> dict[str, Any]:
    return make_flavor_type(operator)


@pytest.fixture
def elastic(operator: Api) -> dict[str, Any]:
    return make_flavor_type(operator, localDiskType="elasticity")


def test_the_answer_has_every_field(operator: Api, flavor_type: dict[str, Any]) -> None:
    made = make_flavor(operator, flavor_type, name="test", cpu=1, ram=4, intranetBWMax=10, localDisk=1, sriov=1)
    assert made["flavorId"].startswith("flavor-")
    expected = {
        "name": "test",
        "cpu": 1,
        "ram": 4,
        "gpu": 0,
        "localDisk": 1,
        "vgpuTypeId": "",
        "vgpuTypeid": "",
        "vgpuDisplayName": "",
        "vgpuMemory": 0,
        "useElasticityLocalSysDisk": False,
        "elasticityLocalSysDiskSize": 0,
        "elasticityLocalDataDiskNum": 0,
        "elasticityLocalDataDiskSize": 0,
        "isCustom": False,
        "vmCount": 0,
        "intranetBWMax": 10,
        "sriov": 1,
        "extraSpace": {"vNuma": False, "sriov": False},
        "SpecCode": flavor_type["specCode"],
        "deptAvailable": True,
        "flavorType": {**flavor_type, "flavorCount": 1},
    }
    assert {name: made[name] for name in expected} == expected
    assert operator.ok("GET", FLAVORS) == {"flavors": [made], "totalCount": 1}


@SQLITE_ONLY
@pytest.mark.parametrize("field", ["flavorTypeId", "name", "cpu", "ram"])
def test_a_required_field_that_is_missing_is_named(operator: Api, flavor_type: dict[str, Any], field: str) -> None:
    order = a_flavor_order(flavor_type)
    del order[field]
    answer = operator.refused("POST", FLAVORS, order)
    assert (answer.code, answer.message) == ("ECS.InvalidParameter", f"{field}: is required")


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("field", "lowest", "highest"),
    [("cpu", 1, 256), ("ram", 1, 1024), ("localDisk", 0, 16), ("intranetBWMax", 0, 100), ("sriov", 0, 256)],
)
def test_ranges_end_where_they_should(
    operator: Api, flavor_type: dict[str, Any], field: str, lowest: int, highest: int
) -> None:
    for value in (lowest, highest):
        assert make_flavor(operator, flavor_type, **{field: value})[field] == value
    for value in (lowest - 1, highest + 1, 2**63, -(2**70)):
        answer = operator.refused("POST", FLAVORS, a_flavor_order(flavor_type, **{field: value}))
        assert answer.code == "ECS.InvalidParameter"
        assert answer.message.startswith(f"{field}: ")


@SQLITE_ONLY
def test_names_have_1_to_127_characters(operator: Api, flavor_type: dict[str, Any]) -> None:
    for name in ("", "x" * 128):
        assert operator.refused("POST", FLAVORS, a_flavor_order(flavor_type, name=name)).message.startswith("name: ")
    make_flavor(operator, flavor_type, name="规" * 127)


@SQLITE_ONLY
@pytest.mark.parametrize(("device", "most"), [("gpu", 8), ("vgpu", 16), ("aiSpace", 8), ("normal", 0)])
def test_gpus_are_counted_by_device_type(operator: Api, device: str, most: int) -> None:
    gpu = {"gpuType": "10de1eb8"} if device in {"gpu", "vgpu"} else {}
    kind = make_flavor_type(operator, deviceType=device, **gpu)
    vgpu = {"vgpuTypeId": "nvidia-231"} if device == "vgpu" else {}
    assert make_flavor(operator, kind, gpu=most, **vgpu)["gpu"] == most
    answer = operator.refused("POST", FLAVORS, a_flavor_order(kind, gpu=most + 1, **vgpu))
    assert answer.message.startswith("gpu: ")


@SQLITE_ONLY
def test_a_vgpu_type_is_one_of_the_gpus(operator: Api, flavor_type: dict[str, Any]) -> None:
    kind = make_flavor_type(operator, deviceType="vgpu", gpuType="10de1eb8")
    made = make_flavor(operator, kind, gpu=1, vgpuTypeId="nvidia-231")
    assert made["vgpuDisplayName"] == "NVIDIA GRID T4-2Q (2GB)"
    assert (made["vgpuTypeName"], made["vgpuMemory"]) == ("GRID T4-2Q", 2)
    named = make_flavor(operator, kind, gpu=1, vgpuTypeId="nvidia-231", vgpuDisplayName="Small")
    assert named["vgpuDisplayName"] == "Small"
    for order in (
        a_flavor_order(kind, gpu=1),
        a_flavor_order(kind, gpu=1, vgpuTypeId="nvidia-588"),
        a_flavor_order(flavor_type, vgpuTypeId="nvidia-231"),
    ):
        assert operator.refused("POST", FLAVORS, order).message.startswith("vgpuTypeId: ")


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("elasticityLocalSysDiskSize", {20, 1024}),
        ("elasticityLocalDataDiskNum", {0, 4}),
        ("elasticityLocalDataDiskSize", {10, 16384}),
    ],
)
def test_elastic_disks_have_their_ranges(operator: Api, elastic: dict[str, Any], field: str, values: set[int]) -> None:
    disks = {
        "useElasticityLocalSysDisk": True,
        "elasticityLocalSysDiskSize": 20,
        "elasticityLocalDataDiskNum": 1,
        "elasticityLocalDataDiskSize": 10,
    }
    for value in values:
        assert make_flavor(operator, elastic, **{**disks, field: value})[field] == value
    for value in (min(values) - 1, max(values) + 1):
        answer = operator.refused("POST", FLAVORS, a_flavor_order(elastic, **{**disks, field: value}))
        assert answer.message.startswith(f"{field}: ")


@SQLITE_ONLY
def test_elastic_disks_need_their_sizes(operator: Api, elastic: dict[str, Any]) -> None:
    for field, order in (
        ("elasticityLocalSysDiskSize", a_flavor_order(elastic, useElasticityLocalSysDisk=True)),
        ("elasticityLocalDataDiskSize", a_flavor_order(elastic, elasticityLocalDataDiskNum=2)),
    ):
        assert operator.refused("POST", FLAVORS, order).message == f"{field}: is required"


@SQLITE_ONLY
@pytest.mark.parametrize(
    "fields",
    [
        {"useElasticityLocalSysDisk": True, "elasticityLocalSysDiskSize": 20},
        {"elasticityLocalDataDiskNum": 1, "elasticityLocalDataDiskSize": 10},
    ],
)
def test_elastic_disks_need_a_type_that_has_them(
    operator: Api, flavor_type: dict[str, Any], fields: dict[str, Any]
) -> None:
    answer = operator.refused("POST", FLAVORS, a_flavor_order(flavor_type, **fields))
    assert answer.message.startswith(f"{next(iter(fields))}: ")


def test_a_name_is_taken_once_in_each_type(operator: Api, flavor_type: dict[str, Any], elastic: dict[str, Any]) -> None:
    made = make_flavor(operator, flavor_type, name="small")
    answer = operator.refused("POST", FLAVORS, a_flavor_order(flavor_type, name="small"))
    assert answer.code == "ECS.OperationDenied.Repeat"
    make_flavor(operator, elastic, name="small")
    operator.ok("DELETE", f"{FLAVORS}/{made['flavorId']}")
    make_flavor(operator, flavor_type, name="small")


def test_updating_changes_name_and_bandwidth(operator: Api, flavor_type: dict[str, Any]) -> None:
    path = f"{FLAVORS}/{make_flavor(operator, flavor_type, intranetBWMax=5)['flavorId']}"
    make_flavor(operator, flavor_type, name="taken")
    assert operator.ok("POST", path, {"name": "renamed"}) is None
    assert operator.ok("GET", f"{FLAVORS}?name=renamed")["flavors"][0]["intranetBWMax"] == 5
    operator.ok("POST", path, {"name": "renamed", "intranetBWMax": 16})
    assert operator.ok("GET", f"{FLAVORS}?name=renamed")["flavors"][0]["intranetBWMax"] == 16
    assert operator.refused("POST", path, {"name": "taken"}).code == "ECS.OperationDenied.Repeat"
    assert operator.refused("POST", path, {"intranetBWMax": 1}).message == "name: is required"
    assert operator.refused("POST", path, {"name": "n", "intranetBWMax": 101}).message.startswith("intranetBWMax: ")


def test_a_flavor_that_does_not_exist(operator: Api, flavor_type: dict[str, Any]) -> None:
    path = f"{FLAVORS}/flavor-nothing1"
    assert operator.refused("POST", path, {"name": "n"}).code == "ECS.DBGet.NoData"
    assert operator.refused("DELETE", path).code == "ECS.DBGet.NoData"
    nowhere = {**flavor_type, "flavorTypeId": "flavortype-nothing1"}
    assert operator.refused("POST", FLAVORS, a_flavor_order(nowhere)).code == "ECS.DBGet.NoData"


def test_a_flavor_in_use_is_not_deleted(operator: Api, runtime: Runtime) -> None:
    tenant, kind = a_tenant(), a_flavor_type()
    flavor = a_flavor(kind)
    instance = an_instance(tenant, flavor)
    with runtime.database.write() as session:
        add(session, tenant, kind, flavor, instance)
    path = f"{FLAVORS}/{flavor.flavor_id}"
    assert operator.refused("DELETE", path).code == "ECS.OperationFailed.DeleteFlavor"
    with runtime.database.write() as session:
        instance.deleted_at = runtime.now()
        session.add(instance)
    assert operator.ok("DELETE", path) is None
    assert operator.refused("DELETE", path).code == "ECS.DBGet.NoData"
