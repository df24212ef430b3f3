"""Looking at instances, and changing what their nodes need not know of at once."""

import json
from pathlib import Path
from typing import Any

import pytest

from coordinator.store.tables import Instance, InstanceLabel
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud, a_network
from tests.database import BOTH_DATABASES, SQLITE_ONLY

LOCKED = "ECS.OperationDenied.Identity"

# Every field that callers of this API know of an instance, and of its parts.
FIELDS: dict[str, list[str]] = json.loads((Path(__file__).parents[1] / "data/instance-fields.json").read_text())


def make(api: Api, cloud: Cloud, **fields: Any) -> str:
    """An instance whose creation nobody works on."""
    return str(api.ok("POST", INSTANCES, cloud.order(**fields))["ecsId"])


def names(api: Api, query: str) -> list[str]:
    """Display names of a list, in its order."""
    return [one["displayName"] for one in api.ok("GET", f"{INSTANCES}?{query}")["virtualMachines"]]


def test_an_instance_has_every_field_that_callers_know(customer: Api, cloud: Cloud) -> None:
    shown = customer.ok("GET", f"{INSTANCES}/{make(customer, cloud)}")
    parts = {
        "instance": shown,
        "flavorInfo": shown["flavorInfo"],
        "flavorInfo.flavorType": shown["flavorInfo"]["flavorType"],
        "flavor": shown["flavor"],
        "flavor.flavorType": shown["flavor"]["flavorType"],
        "blockDeviceMappings": shown["blockDeviceMappings"][0],
        "networkMappings": shown["networkMappings"][0],
        "image": shown["image"],
        "vmtoolsStatus": shown["vmtoolsStatus"],
    }
    assert {name: set(FIELDS[name]) - set(part) for name, part in parts.items()} == {name: set() for name in FIELDS}


def test_a_flavor_is_told_in_both_spellings(customer: Api, cloud: Cloud) -> None:
    cloud.change(cloud.flavor, vgpu_type_id="nvidia-231", vgpu_type_name="GRID T4-2Q")
    flavor = customer.ok("GET", f"{INSTANCES}/{make(customer, cloud)}")["flavor"]
    assert flavor["flavorType"]["specCode"] == flavor["flavorType"]["SpecCode"] == cloud.flavor_type.spec_code
    assert flavor["vgpuTypeid"] == flavor["vgpuTypeId"] == "nvidia-231"
    assert flavor["vgpuTypeName"] == "GRID T4-2Q"


@BOTH_DATABASES
def test_the_list_shows_the_same_as_the_detail(customer: Api, cloud: Cloud) -> None:
    ecs_id = make(customer, cloud, vmLabels=[{"key": "a", "value": "b"}])
    listed = customer.ok("GET", INSTANCES)
    assert listed == {"totalCount": 1, "virtualMachines": [customer.ok("GET", f"{INSTANCES}/{ecs_id}")]}


def test_tenants_see_their_own_instances_only(
    customer: Api, stranger: Api, operator: Api, auditor: Api, cloud: Cloud
) -> None:
    ecs_id = make(customer, cloud)
    assert [api.ok("GET", INSTANCES)["totalCount"] for api in (customer, operator, auditor, stranger)] == [1, 1, 1, 0]
    for method, path, body in (
        ("GET", "", None),
        ("DELETE", "", None),
        ("PUT", "/lock", {"isLock": True}),
        ("PUT", "/label", []),
        ("PUT", "/reset-name", {"displayname": "mine"}),
        ("PUT", "/description", {"description": "mine"}),
        ("PUT", "/start", None),
        ("PUT", "/stop", None),
        ("PUT", "/vmtools", {"qgaCommand": "guest-info"}),
    ):
        assert stranger.refused(method, f"{INSTANCES}/{ecs_id}{path}", body).code == "ECS.DBGet.NoData"
    assert auditor.refused("PUT", f"{INSTANCES}/{ecs_id}/lock", {"isLock": True}).code == LOCKED


@BOTH_DATABASES
def test_lists_are_narrowed_by_every_parameter(customer: Api, cloud: Cloud) -> None:
    make(customer, cloud, displayName="one", networks=[a_network(fixedIp="10.80.0.11")])
    two = make(customer, cloud, displayName="two", vmLabels=[{"key": "tier", "value": "gold"}])
    customer.ok("PUT", f"{INSTANCES}/{two}/lock", {"isLock": True})
    everything, only_two = ["two", "one"], ["two"]
    expected = {
        f"vpcId={'vpc-' + '0' * 20}": everything,
        f"vpclId={'vpc-' + '0' * 20}": everything,
        "vpcId=vpc-other": [],
        f"subnetId={'snet-' + '0' * 20}": everything,
        "privateIp=10.80.0.11": ["one"],
        f"secGroup={'sg-' + '0' * 20}": everything,
        "secGroup=sg-other": [],
        "eip=1.2.3.4": [],
        f"flavorType={cloud.flavor_type.name}": everything,
        f"flavorType={cloud.flavor_type.flavor_type_id}": everything,
        f"flavor={cloud.flavor.flavor_id}": everything,
        f"flavor={cloud.custom_flavor.flavor_id}": [],
        "rpName=gold": [],
        "rpId=rp-1": [],
        f"nodeName={cloud.node.name}": everything,
        "nodeName=elsewhere": [],
        "vmLabels=tier%3Dgold": only_two,
        "vmLabels=tier=silver": [],
        "cpuExceedRatio=1": everything,
        "cpuExceedRatio=6": [],
        "isLock=true": only_two,
        "isLock=false": ["one"],
        "filter=displayName:lk:TW|status:in:provisioning,running|az:in:AZ0|cpuArch:in:x86": only_two,
        f"filter=ecsId:lk:{two[4:9]} departmentId:eq:{cloud.department.id}": only_two,
        f"filter=vcpuType:eq:{cloud.flavor_type.vcpu_type}": everything,
        "filter=status:eq:PROVISIONING": everything,
        "filter=status:ne:provisioning": [],
        "filter=status:eq:no-such-status": [],
        "filter=status:lk:VISION": everything,
        f"filter=nodeName:eq:{cloud.node.name}|nodeName:lk:{cloud.node.name.upper()}": everything,
        f"filter=nodeName:ne:{cloud.node.name}": [],
        f"filter=flavorName:in:{cloud.flavor.name},none&orderBy=flavorName,nodeName:desc": everything,
        f"filter=flavorName:eq:{cloud.custom_flavor.name}": [],
        "filter=taskAt:lt:2020-01-01": [],
        "filter=rp_id:eq:rp-1": [],
        "filter=hgId:eq:hg-1": [],
        "filter=deploymentSet:eq:": everything,
        "orderBy=taskAt,display_name:asc": ["one", "two"],
        "orderBy=display_name:asc": ["one", "two"],
        "orderBy=created_at:desc": everything,
        "pageSize=1&pageNumber=2": ["one"],
    }
    assert {query: names(customer, query) for query in expected} == expected


@SQLITE_ONLY
@pytest.mark.parametrize("query", ["vmLabels=gold", "filter=colour:eq:red", "orderBy=colour", "isLock=perhaps"])
def test_conditions_that_make_no_sense_are_refused(customer: Api, cloud: Cloud, query: str) -> None:
    assert customer.refused("GET", f"{INSTANCES}?{query}").code == "ECS.InvalidParameter"


def test_a_locked_instance_refuses_every_change_until_it_is_unlocked(customer: Api, cloud: Cloud) -> None:
    path = f"{INSTANCES}/{make(customer, cloud)}"
    customer.ok("PUT", f"{path}/lock", {"isLock": "true"})
    changes = [
        ("DELETE", "", None),
        ("PUT", "/label", [{"key": "a", "value": "b"}]),
        ("PUT", "/reset-name", {"displayname": "other"}),
        ("PUT", "/description", {"description": "other"}),
        ("PUT", "/start", None),
        ("PUT", "/stop", {"gracePeriodSeconds": 0}),
        ("PUT", "/restart", None),
        ("PUT", "/suspend", None),
        ("PUT", "/resume", None),
        ("PUT", "/vmtools", {"qgaCommand": {"execute": "guest-shutdown"}}),
    ]
    answers = [customer.refused(method, path + more, body) for method, more, body in changes]
    assert {answer.code for answer in answers} == {LOCKED}
    assert all("locked" in answer.message for answer in answers)
    customer.ok("PUT", f"{path}/lock", {"isLock": False})
    customer.ok("PUT", f"{path}/description", {"description": "other"})


def test_labels_are_replaced_as_a_whole(customer: Api, cloud: Cloud) -> None:
    path = f"{INSTANCES}/{make(customer, cloud, vmLabels=[{'key': 'old', 'value': '1'}])}"
    customer.ok("PUT", f"{path}/label", [{"key": "公司A", "value": "部门1"}, {"key": "b", "value": ""}])
    assert {(row.key, row.value) for row in cloud.rows(InstanceLabel)} == {("公司A", "部门1"), ("b", "")}
    assert "value" in customer.refused("PUT", f"{path}/label", [{"key": "a"}]).message
    customer.ok("PUT", f"{path}/label", [])
    assert customer.ok("GET", path)["vmLabels"] is None
    six = [{"key": f"k{number}", "value": ""} for number in range(6)]
    assert "vmLabels" in customer.refused("PUT", f"{path}/label", six).message


def test_names_and_descriptions_change(customer: Api, cloud: Cloud) -> None:
    path = f"{INSTANCES}/{make(customer, cloud)}"
    customer.ok("PUT", f"{path}/reset-name", {"displayname": "数据库"})
    customer.ok("PUT", f"{path}/description", {"description": "of the shop"})
    shown = customer.ok("GET", path)
    assert (shown["displayName"], shown["description"], shown["hostName"]) == ("数据库", "of the shop", "web")
    for body in ({"displayname": ""}, {"displayname": "x" * 128}, {}):
        answer = customer.refused("PUT", f"{path}/reset-name", body)
        assert answer.code == "ECS.InvalidParameter.DisplayName.ValueNotSupported"
        assert answer.message.startswith("displayname: ")
    assert customer.refused("PUT", f"{path}/description", {"description": "x" * 256}).code == "ECS.InvalidParameter"


def test_what_reports_say_is_shown(customer: Api, cloud: Cloud) -> None:
    ecs_id = make(customer, cloud)
    [row] = cloud.rows(Instance)
    tools = {"vmtools_status": "VmtoolsRunning", "vmtools_version": "8.2.0", "monitor_version": 1}
    cloud.change(row, task_id=None, status="Running", **tools)
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["status"], shown["taskStatus"]) == ("Running", "Running")
    assert (shown["vmtoolsStatus"]["status"], shown["vmtoolsStatus"]["version"]) == ("VmtoolsRunning", "8.2.0")
    assert (shown["isInstalledAgent"], shown["monitor_agent_version"], shown["needUpgradeAgent"]) == (True, "1", False)
    assert shown["vmtoolsStatus"]["lastProbeTime"] == "0001-01-01T00:00:00Z"
