"""Flavor types and the GPU catalogue."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coordinator.config import Settings
from coordinator.runtime import Runtime
from tests.api.client import Api
from tests.api.order import FLAVOR_TYPES, a_flavor_type_order, make_flavor, make_flavor_type
from tests.builders import a_flavor, a_flavor_type, a_node, a_tenant, add, an_instance
from tests.database import BOTH_DATABASES, SQLITE_ONLY


def without(order: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in order.items() if name != field}


def test_the_answer_has_every_field(operator: Api) -> None:
    made = make_flavor_type(
        operator, name="general", extraSpace={"vNuma": True}, isDedicatedCPU=True, isDedicatedMem=True, az="AZ1"
    )
    assert made["flavorTypeId"].startswith("flavortype-")
    assert made["SpecCode"] == made["specCode"]
    assert made["specCode"].startswith("ecs.spec.")
    expected = {
        "name": "general",
        "archType": "x86",
        "cpuModel": "Icelake",
        "vcpuType": "custom",
        "az": "AZ1",
        "deptAvailable": True,
        "flavorCount": 0,
        "vmCount": 0,
        "deviceType": "normal",
        "securityType": "none",
        "gpuType": "",
        "gpuProduct": "",
        "localDiskType": "none",
        "localDiskInterface": "",
        "localDiskSize": 0,
        "cpuOverscalingRatio": 1,
        "rpId": "",
        "rpName": "",
        "resourcePools": None,
        "isDedicatedCPU": True,
        "isDedicatedMem": True,
        "isSystemLocalDisk": False,
        "extraSpace": {"vNuma": True, "sriov": False},
    }
    assert {name: made[name] for name in expected} == expected
    listed = operator.ok("GET", FLAVOR_TYPES)["flavorTypes"]
    assert listed == [made]


@SQLITE_ONLY
@pytest.mark.parametrize("field", ["name", "archType", "cpuModel", "deviceType", "flavorPrices", "isSystemLocalDisk"])
def test_a_required_field_that_is_missing_is_named(operator: Api, field: str) -> None:
    answer = operator.refused("POST", FLAVOR_TYPES, without(a_flavor_type_order(), field))
    assert (answer.code, answer.message) == ("ECS.InvalidParameter", f"{field}: is required")


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 128}, "name"),
        ({"archType": "mips"}, "archType"),
        ({"cpuModel": ""}, "cpuModel"),
        ({"vcpuType": "host-model"}, "vcpuType"),
        ({"archType": "arm", "vcpuType": "custom"}, "vcpuType"),
        ({"deviceType": "fpga"}, "deviceType"),
        ({"deviceType": "gpu"}, "gpuType"),
        ({"deviceType": "gpu", "gpuType": "10deffff"}, "gpuType"),
        ({"deviceType": "vgpu", "gpuType": "1e3e0001"}, "gpuType"),
        ({"deviceType": "normal", "gpuType": "10de1eb8"}, "gpuType"),
        ({"securityType": "4.0"}, "securityType"),
        ({"localDiskType": "tape"}, "localDiskType"),
        ({"localDiskInterface": "scsi"}, "localDiskInterface"),
        ({"localDiskSize": -1}, "localDiskSize"),
        ({"localDiskSize": 2**31}, "localDiskSize"),
        ({"isDedicatedCPU": True, "cpuOverscalingRatio": 2}, "isDedicatedCPU"),
        ({"cpuOverscalingRatio": 7}, "cpuOverscalingRatio"),
        ({"az": "AZ9"}, "az"),
        ({"flavorPrices": []}, "flavorPrices"),
        ({"flavorPrices": [{"billingMode": "Free", "cpuPrice": 1, "ramPrice": 1}]}, "flavorPrices.0.billingMode"),
        ({"flavorPrices": [{"billingMode": "OnDemand", "ramPrice": 1}]}, "flavorPrices.0.cpuPrice"),
        ({"flavorPrices": [{"billingMode": "OnDemand", "cpuPrice": -1, "ramPrice": 1}]}, "flavorPrices.0.cpuPrice"),
    ],
)
def test_a_value_out_of_range_is_named(operator: Api, fields: dict[str, Any], named: str) -> None:
    answer = operator.refused("POST", FLAVOR_TYPES, a_flavor_type_order(**fields))
    assert answer.code == "ECS.InvalidParameter"
    assert answer.message.startswith(f"{named}: ")
    assert operator.ok("GET", FLAVOR_TYPES)["totalCount"] == 0


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("fields", "price"),
    [
        ({"deviceType": "gpu", "gpuType": "10de1eb8"}, "gpuPrice"),
        ({"deviceType": "vgpu", "gpuType": "10de1eb8"}, "gpuMemoryPrice"),
        ({"localDiskType": "elasticity"}, "elasticityLocalDiskPrice"),
    ],
)
def test_hardware_that_is_offered_has_a_price(operator: Api, fields: dict[str, Any], price: str) -> None:
    order = a_flavor_type_order(**fields)
    order["flavorPrices"] = [without(order["flavorPrices"][0], price)]
    assert operator.refused("POST", FLAVOR_TYPES, order).message.startswith(f"flavorPrices.0.{price}: ")


@SQLITE_ONLY
def test_names_have_1_to_127_characters(operator: Api) -> None:
    for name in ("x", "x" * 127, "标准型"):
        make_flavor_type(operator, name=name)


def test_arm_passes_the_host_cpu_through(operator: Api) -> None:
    assert make_flavor_type(operator, archType="arm")["vcpuType"] == "host-passthrough"


@pytest.mark.parametrize(("ratio", "shown"), [(3, 3), (1.5, 1)])
def test_dedicated_cpus_need_a_region_without_overcommitment(
    operator: Api, runtime: Runtime, ratio: float, shown: int
) -> None:
    runtime.settings = Settings(**{**runtime.settings.model_dump(), "cpu_allocation_ratio": ratio})
    assert make_flavor_type(operator)["cpuOverscalingRatio"] == shown
    answer = operator.refused("POST", FLAVOR_TYPES, a_flavor_type_order(isDedicatedCPU=True))
    assert answer.message.startswith("isDedicatedCPU: ")
    made = make_flavor_type(operator, isDedicatedCPU=True, cpuOverscalingRatio=1)
    assert made["cpuOverscalingRatio"] == 1


@SQLITE_ONLY
@pytest.mark.parametrize("gpu_type", ["10de1eb8", "10DE1EB8", "10deleb8"])
def test_a_gpu_is_known_by_its_pci_id_however_it_was_read(operator: Api, gpu_type: str) -> None:
    made = make_flavor_type(operator, deviceType="gpu", gpuType=gpu_type)
    assert (made["gpuType"], made["gpuProduct"]) == ("10de1eb8", "NVIDIA T4")


def test_a_custom_flavor_comes_with_the_type_and_goes_with_it(operator: Api) -> None:
    made = make_flavor_type(operator, createCustomFlavor=True)
    assert made["flavorCount"] == 1
    (flavor,) = operator.ok("GET", "/api/ecs/v1/flavors")["flavors"]
    assert (flavor["name"], flavor["isCustom"]) == ("自定义规格", True)
    operator.ok("DELETE", f"{FLAVOR_TYPES}/{made['flavorTypeId']}")
    assert operator.ok("GET", "/api/ecs/v1/flavors")["totalCount"] == 0


def test_a_name_is_taken_once_and_free_again_after_deletion(operator: Api) -> None:
    made = make_flavor_type(operator, name="general")
    answer = operator.refused("POST", FLAVOR_TYPES, a_flavor_type_order(name="general"))
    assert answer.code == "ECS.OperationDenied.Repeat"
    operator.ok("DELETE", f"{FLAVOR_TYPES}/{made['flavorTypeId']}")
    make_flavor_type(operator, name="general")


@BOTH_DATABASES
def test_of_concurrent_orders_with_one_name_one_succeeds(operator: Api) -> None:
    with ThreadPoolExecutor(6) as pool:
        order = a_flavor_type_order(name="general")
        answers = list(pool.map(lambda _: operator.call("POST", FLAVOR_TYPES, order), range(6)))
    assert sorted(answer.code for answer in answers) == ["ECS.OperationDenied.Repeat"] * 5 + ["Success"]


def test_updating_renames_and_unbinds(operator: Api) -> None:
    path = f"{FLAVOR_TYPES}/{make_flavor_type(operator)['flavorTypeId']}"
    make_flavor_type(operator, name="taken")
    for nothing in ([], [""], "", None):
        make_flavor_type(operator, rpIds=nothing)
        assert operator.ok("PUT", path, {"name": "renamed", "rpId": "", "rpIds": nothing}) is None
    assert operator.ok("GET", f"{FLAVOR_TYPES}?name=renamed")["totalCount"] == 1
    assert operator.refused("PUT", path, {"name": "taken"}).code == "ECS.OperationDenied.Repeat"
    assert operator.refused("PUT", path, {"name": ""}).code == "ECS.InvalidParameter"
    for pools in ({"rpId": "rp-8fwyb4nx65sypz"}, {"rpIds": ["rp-8fwyb4nx65sypz"]}):
        assert operator.refused("PUT", path, {"name": "n", **pools}).code == "ECS.DBGet.NoData"


def test_a_type_that_does_not_exist(operator: Api) -> None:
    path = f"{FLAVOR_TYPES}/flavortype-nothing1"
    assert operator.refused("PUT", path, {"name": "n"}).code == "ECS.DBGet.NoData"
    assert operator.refused("DELETE", path).code == "ECS.DBGet.NoData"


def test_a_type_in_use_is_not_deleted(operator: Api, runtime: Runtime) -> None:
    made = make_flavor_type(operator)
    make_flavor(operator, made)
    answer = operator.refused("DELETE", f"{FLAVOR_TYPES}/{made['flavorTypeId']}")
    assert answer.code == "ECS.OperationFailed.DeleteFlavorType"
    assert "1 flavors" in answer.message


@BOTH_DATABASES
def test_counts_follow_flavors_and_instances(operator: Api, runtime: Runtime) -> None:
    tenant, kind = a_tenant(), a_flavor_type()
    small, big = a_flavor(kind), a_flavor(kind, vcpus=8)
    gone = an_instance(tenant, small, deleted_at=runtime.now())
    with runtime.database.write() as session:
        add(session, tenant, kind, small, big, an_instance(tenant, small), an_instance(tenant, big), gone)
    (listed,) = operator.ok("GET", FLAVOR_TYPES)["flavorTypes"]
    assert (listed["flavorCount"], listed["vmCount"]) == (2, 2)
    flavors = operator.ok("GET", "/api/ecs/v1/flavors?orderBy=cpu")["flavors"]
    assert [flavor["vmCount"] for flavor in flavors] == [1, 1]
    assert [flavor["flavorType"]["flavorCount"] for flavor in flavors] == [2, 2]


def test_zones_of_nodes_are_zones(operator: Api, runtime: Runtime) -> None:
    with runtime.database.write() as session:
        add(session, a_node(zone="AZ7"))
    assert make_flavor_type(operator, az="AZ7")["az"] == "AZ7"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("name=EN", ["General"]),
        ("deviceType=vgpu", ["vGPU"]),
        ("gpuType=10de2236", ["vGPU"]),
        ("gpuType=l0DE2236", ["vGPU"]),
        ("archType=arm", ["arm"]),
        ("vcpuType=host-passthrough", ["arm"]),
        ("securityType=2.0", ["arm"]),
        ("useSriov=true", ["arm"]),
        ("az=AZ1", ["arm"]),
        ("localDiskType=elasticity", ["vGPU"]),
        ("deptAvailable=false", []),
        ("rpId=rp-1", []),
        ("pageSize=1&pageNumber=0", ["vGPU"]),
    ],
)
def test_named_parameters_select(operator: Api, query: str, expected: list[str]) -> None:
    make_flavor_type(operator, name="General")
    make_flavor_type(operator, name="arm", archType="arm", securityType="2.0", az="AZ1", extraSpace={"sriov": "true"})
    make_flavor_type(operator, name="vGPU", deviceType="vgpu", gpuType="10de2236", localDiskType="elasticity")
    found = operator.ok("GET", f"{FLAVOR_TYPES}?{query}")["flavorTypes"]
    assert [flavor_type["name"] for flavor_type in found] == expected


@SQLITE_ONLY
def test_the_gpu_catalogue_is_listed_by_vendor(operator: Api) -> None:
    vendors = {entry["vendor"]: entry["gpuList"] for entry in operator.ok("GET", f"{FLAVOR_TYPES}/supported-gpus")}
    assert {"NVIDIA", "Iluvatar", "AMD", "Intel"} <= vendors.keys()
    models = {gpu["gpuType"]: gpu for gpu in vendors["NVIDIA"]}
    assert models["10de2236"]["product"] == "NVIDIA A10"
    assert models["10de1eb8"]["supportVGPU"]
    assert models["10de2331"]["supportVGPU"]
    assert not models["10de2237"]["supportVGPU"]
    assert {gpu["product"] for gpu in vendors["Iluvatar"]} == {"Iluvatar BI-V100", "Iluvatar MR-V100"}


@SQLITE_ONLY
def test_vgpu_types_of_a_model(operator: Api) -> None:
    types = operator.ok("GET", f"{FLAVOR_TYPES}/supported-vgpus?gpuType=10de1eb8")
    assert types[0] == {
        "typeId": "nvidia-222",
        "typeName": "GRID T4-1B",
        "displayName": "NVIDIA GRID T4-1B (1GB)",
        "memorySize": 1024,
        "licenseType": "vPC or vWS",
    }
    assert [kind["typeId"] for kind in types] == [f"nvidia-{number}" for number in (222, 223, *range(225, 235))]
    assert operator.ok("GET", f"{FLAVOR_TYPES}/supported-vgpus?gpuType=10de2237") == []
    assert "gpuType" in operator.refused("GET", f"{FLAVOR_TYPES}/supported-vgpus").message
    assert "gpuType" in operator.refused("GET", f"{FLAVOR_TYPES}/supported-vgpus?gpuType=10de0000").message
