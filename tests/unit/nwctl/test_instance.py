"""Instances: creating, changing, deleting."""

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.unit.nwctl.builders import (
    DEPARTMENT_ID,
    INSTANCE_ID,
    OPERATION_ID,
    OTHER_INSTANCE_ID,
    OTHER_OPERATION_ID,
    TENANT_ID,
    an_instance,
    an_operation,
)
from tests.unit.nwctl.conftest import Nwctl, data_of
from tests.unit.nwctl.standin import Reply, StandIn

INSTANCES = "/api/ecs/v1/instances"
BATCH_CREATE = f"{INSTANCES}/batch-create"
FLAVOR = {
    "flavorId": "flavor-aaaabbbb",
    "name": "small",
    "cpu": 2,
    "ram": 4,
    "gpu": 0,
    "flavorType": {"archType": "x86", "deviceType": "normal"},
}
IMAGE = {"imageId": "img-aaaabbbbccccdd", "name": "debian", "visibility": "public"}
SUBNETS = [
    {"subnetId": "snet-other", "name": "other", "vpcId": "vpc-2", "isDefault": False},
    {"subnetId": "snet-default", "name": "default", "vpcId": "vpc-1", "isDefault": True},
]
GROUPS = [{"securityGroupId": "sg-default", "name": "default", "isDefault": True}]
REGIONS = [{"regionId": "region0", "azList": [{"azId": "AZ7"}, {"azId": "AZ8"}]}]
PROVISIONING = [an_instance(status="Provisioning")]
ACCEPTED = Reply(PROVISIONING, headers={"x-operation-id": OPERATION_ID})
SET_ID = "d-set-" + "a" * 14
CREATE = ("instance", "create", "--name", "web", "--flavor", "small", "--image", "debian")


@pytest.fixture
def cloud(coordinator: StandIn) -> StandIn:
    """A coordinator with one flavor, one image, a tenant that asks, and room."""
    whoami = {"role": "tenant", "tenantId": TENANT_ID, "departmentId": DEPARTMENT_ID}
    coordinator.on("GET", "/api/iam/v1/whoami", whoami)
    coordinator.on("GET", "/api/ecs/v1/flavors", {"flavors": [FLAVOR], "totalCount": 1})
    coordinator.on("GET", "/api/image/v1/images", {"list": [IMAGE], "totalCount": 1})
    coordinator.on("GET", "/api/vpc/v1/subnets", {"list": SUBNETS, "totalCount": 2})
    coordinator.on("GET", "/api/vpc/v1/security-groups", {"list": GROUPS, "totalCount": 1})
    coordinator.on("POST", "/api/ecs/v1/service-region-info", REGIONS)
    coordinator.on("POST", BATCH_CREATE, ACCEPTED)
    return coordinator


def order(cloud: StandIn) -> Any:
    """The body of the one creating call."""
    [request] = cloud.asked("POST", BATCH_CREATE)
    return request.body


def test_what_is_not_given_is_looked_up(cloud: StandIn, nwctl: Nwctl) -> None:
    assert nwctl(*CREATE).exit_code == 0

    body = order(cloud)
    [disk], [port] = body.pop("volumes"), body.pop("networks")
    assert body == {
        "displayName": "web",
        "description": "",
        "ecsCount": 1,
        "flavorId": "flavor-aaaabbbb",
        "cpus": 2,
        "memory": {"amount": "4Gi"},
        "archType": "x86",
        "image": {"imageUid": "img-aaaabbbbccccdd"},
        "imageSource": "public",
        "vmLabels": [],
        "billingMode": "OnDemand",
        "tenantId": TENANT_ID,
        "departmentId": DEPARTMENT_ID,
        "resourceGroupId": "",
        "region": "region0",
        "az": "AZ7",
        "secGroupList": ["sg-default"],
    }
    assert (disk["isOsDisk"], disk["volumeSize"], disk["deleteOnTermination"]) == (True, 20, True)
    assert port == {"vpcId": "vpc-1", "subnetId": "snet-default", "portType": "Primary", "ipType": "dhcp"}


def test_what_is_given_is_sent(cloud: StandIn, nwctl: Nwctl, tmp_path: Path) -> None:
    keys, script = tmp_path / "keys", tmp_path / "script"
    keys.write_text("# laptop\nssh-ed25519 AAAA a\n\nssh-ed25519 BBBB b\n")
    script.write_bytes(b"#!/bin/sh\necho \xff\n")
    options = ("--count", "3", "--zone", "AZ8", "--volume-size", "40", "--volume-type", "ssd", "--host-name", "h")
    network = ("--subnet", "other", "--fixed-ip", "10.0.1.9", "--label", "tier=web=1", "--resource-group", "rg")
    cloud.on("GET", "/api/ecs/v1/nodes", {"list": [{"hostId": "node-1", "name": "host-1"}], "total": 1})
    cloud.on("GET", "/api/ecs/v1/deployment-sets", {"list": [{"deploymentSetId": SET_ID, "name": "apart"}], "total": 1})

    place = ("--node", "host-1", "--pool", "rp-" + "a" * 14, "--host-group", "hg-" + "a" * 8)
    together = ("--deployment-set", "apart")

    nwctl(*CREATE, *options, *network, "--ssh-key-file", str(keys), "--user-data", str(script), *place, *together)

    body = order(cloud)
    assert (body["hostId"], body["rpId"], body["hgId"]) == ("node-1", "rp-" + "a" * 14, "hg-" + "a" * 8)
    assert body["deploymentSet"] == SET_ID
    assert (body["ecsCount"], body["az"], body["hostName"], body["resourceGroupId"]) == (3, "AZ8", "h", "rg")
    assert (body["volumes"][0]["volumeSize"], body["volumes"][0]["volumeType"]) == (40, "ssd")
    assert body["networks"][0]["subnetId"] == "snet-other"
    assert (body["networks"][0]["ipType"], body["networks"][0]["fixedIp"]) == ("fixedIp", "10.0.1.9")
    assert body["vmLabels"] == [{"key": "tier", "value": "web=1"}]
    assert body["sshPublicKeys"] == ["ssh-ed25519 AAAA a", "ssh-ed25519 BBBB b"]
    assert base64.b64decode(body["userData"]) == script.read_bytes()


def test_a_password_comes_from_standard_input_and_is_never_shown(cloud: StandIn, nwctl: Nwctl) -> None:
    result = nwctl(*CREATE, "--password", stdin="S3cret,word\n")

    assert order(cloud)["password"] == "S3cret,word"
    assert "S3cret,word" not in result.output


def test_a_password_promised_and_not_given_creates_nothing(cloud: StandIn, nwctl: Nwctl) -> None:
    assert nwctl(*CREATE, "--password", stdin="").exit_code == 2
    assert not cloud.asked("POST", BATCH_CREATE)


@pytest.mark.parametrize(("device", "member"), [("gpu", "gpus"), ("vgpu", "vgpu")])
def test_devices_of_the_flavor_are_asked_for(cloud: StandIn, nwctl: Nwctl, device: str, member: str) -> None:
    flavor = {**FLAVOR, "gpu": 2, "flavorType": {"archType": "x86", "deviceType": device}}
    cloud.on("GET", "/api/ecs/v1/flavors", {"flavors": [flavor], "totalCount": 1})

    nwctl(*CREATE)

    assert order(cloud)[member] == 2


def test_an_operator_creates_for_the_tenant_that_it_names(cloud: StandIn, nwctl: Nwctl) -> None:
    cloud.on("GET", "/api/iam/v1/whoami", {"role": "operator", "tenantId": None, "departmentId": None})
    tenants = [{"tenantId": TENANT_ID, "name": "acme"}, {"tenantId": "1" * 19, "name": "other"}]
    cloud.on("GET", "/api/iam/v1/tenants", {"list": tenants, "totalCount": 2})
    cloud.on("GET", "/api/iam/v1/departments", {"list": [{"departmentId": DEPARTMENT_ID}], "totalCount": 1})

    assert nwctl(*CREATE).exit_code == 2
    assert nwctl(*CREATE, "--tenant", "acme").exit_code == 0

    assert (order(cloud)["tenantId"], order(cloud)["departmentId"]) == (TENANT_ID, DEPARTMENT_ID)
    [departments] = cloud.asked("GET", "/api/iam/v1/departments")
    assert departments.query == {"tenantId": TENANT_ID}


def test_a_region_without_nodes_is_said_to_have_no_zone(cloud: StandIn, nwctl: Nwctl) -> None:
    cloud.on("POST", "/api/ecs/v1/service-region-info", [{"regionId": "region0", "azList": []}])

    result = nwctl(*CREATE)

    assert (result.exit_code, "has no zone" in result.stderr) == (2, True)


def test_waiting_for_a_creation_ends_with_the_instance_as_it_came_up(cloud: StandIn, nwctl: Nwctl) -> None:
    cloud.on("GET", f"/api/ecs/v1/operations/{OPERATION_ID}", an_operation())
    cloud.on("GET", f"{INSTANCES}/{INSTANCE_ID}", an_instance())

    assert data_of(nwctl(*CREATE, "--json")) == PROVISIONING
    assert data_of(nwctl(*CREATE, "--wait", "--json")) == [an_instance()]


def test_an_instance_that_fits_nowhere_is_a_failure_with_the_scheduler_s_reason(cloud: StandIn, nwctl: Nwctl) -> None:
    refused = [an_instance(status="ErrorUnschedulable", errMessage="0/3 hosts: 3 too little memory")]
    cloud.on("POST", BATCH_CREATE, refused)

    result = nwctl(*CREATE, "--wait")

    assert result.exit_code == 6
    assert f"{INSTANCE_ID}: 0/3 hosts: 3 too little memory" in result.stderr


VERDICTS = [
    {"nodeName": "host-a", "accepted": True, "score": 1.2, "filter": "", "reason": "", "wanted": "", "available": ""},
    {
        "nodeName": "host-b",
        "accepted": False,
        "score": 0.0,
        "filter": "capacity",
        "reason": "too little memory",
        "wanted": "8 GiB",
        "available": "3.2 GiB",
    },
]
EXPLAIN = ("explain", *CREATE[2:])


def test_an_operator_is_told_where_instances_would_go(cloud: StandIn, nwctl: Nwctl) -> None:
    cloud.on("POST", f"{INSTANCES}/explain-placement", {"placeable": True, "hosts": VERDICTS, "rejections": []})
    done = nwctl(*EXPLAIN)
    assert done.exit_code == 0
    assert "too little memory" in done.stdout
    [asked] = cloud.asked("POST", f"{INSTANCES}/explain-placement")
    assert (asked.body["flavorId"], asked.body["az"]) == (FLAVOR["flavorId"], "AZ7")
    assert "password" not in asked.body
    assert cloud.asked("POST", BATCH_CREATE) == []


def test_what_would_fit_nowhere_is_a_failure(cloud: StandIn, nwctl: Nwctl) -> None:
    group = {"count": 2, "filter": "capacity", "reason": "too few vCPUs", "wanted": "8 vCPUs", "available": "1 vCPU"}
    told = {"placeable": False, "hosts": None, "rejections": [group], "summary": "0/2 hosts: 2 too few vCPUs"}
    cloud.on("POST", f"{INSTANCES}/explain-placement", told)
    done = nwctl(*EXPLAIN)
    assert done.exit_code == 6
    assert "8 vCPUs" in done.stdout
    assert "0/2 hosts" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "leaf", "body"),
    [
        (("start",), "start", None),
        (("stop",), "stop", {"gracePeriodSeconds": 1}),
        (("stop", "--force"), "stop", {"gracePeriodSeconds": 0}),
        (("restart",), "restart", {"gracePeriodSeconds": 1}),
        (("restart", "--force"), "restart", {"gracePeriodSeconds": 0}),
        (("suspend",), "suspend", None),
        (("hibernate",), "hibernate", None),
        (("resume",), "resume", None),
        (("lock",), "lock", {"isLock": True}),
        (("unlock",), "lock", {"isLock": False}),
        (("ha",), "high-availability", {"haEnabled": True}),
        (("ha", "--off"), "high-availability", {"haEnabled": False}),
    ],
)
def test_a_change_of_one_instance_is_one_call(
    coordinator: StandIn, nwctl: Nwctl, arguments: tuple[str, ...], leaf: str, body: Any
) -> None:
    coordinator.on("PUT", f"{INSTANCES}/{INSTANCE_ID}/{leaf}")

    assert nwctl("instance", *arguments, INSTANCE_ID).exit_code == 0

    [request] = coordinator.requests
    assert (request.body if request.content else None) == body


@pytest.mark.parametrize(
    ("arguments", "leaf", "body"),
    [
        (("rename", "网站"), "reset-name", {"displayname": "网站"}),
        (("describe", "front end"), "description", {"description": "front end"}),
        (("label", "a=b", "c="), "label", [{"key": "a", "value": "b"}, {"key": "c", "value": ""}]),
        (("label",), "label", []),
    ],
)
def test_a_property_is_set_as_given(
    coordinator: StandIn, nwctl: Nwctl, arguments: tuple[str, ...], leaf: str, body: Any
) -> None:
    coordinator.on("PUT", f"{INSTANCES}/{INSTANCE_ID}/{leaf}")
    verb, *values = arguments

    assert nwctl("instance", verb, INSTANCE_ID, *values).exit_code == 0
    assert coordinator.requests[0].body == body


def test_a_label_without_a_value_is_a_usage_error(nwctl: Nwctl) -> None:
    assert nwctl("instance", "label", INSTANCE_ID, "tier").exit_code == 2


@pytest.mark.parametrize("verb", ["stop", "restart"])
def test_a_change_of_several_instances_is_one_batch(coordinator: StandIn, nwctl: Nwctl, verb: str) -> None:
    coordinator.on("PUT", f"{INSTANCES}/batch-{verb}")

    assert nwctl("instance", verb, INSTANCE_ID, OTHER_INSTANCE_ID, "--force").exit_code == 0

    [request] = coordinator.requests
    assert request.body == {"ecsIds": [INSTANCE_ID, OTHER_INSTANCE_ID], "gracePeriodSeconds": 0}


def test_deleting_waits_for_each_of_several(coordinator: StandIn, nwctl: Nwctl) -> None:
    ids = {"x-operation-id": f"{OPERATION_ID},{OTHER_OPERATION_ID}"}
    coordinator.on("DELETE", f"{INSTANCES}/batch-delete", Reply(headers=ids))
    for operation_id in (OPERATION_ID, OTHER_OPERATION_ID):
        path = f"/api/ecs/v1/operations/{operation_id}"
        coordinator.on("GET", path, an_operation(operation_id, kind="delete_instance"))

    result = nwctl("instance", "delete", INSTANCE_ID, OTHER_INSTANCE_ID, "--wait")

    assert result.exit_code == 0, result.stderr
    assert coordinator.requests[0].body == {"ecsIds": [INSTANCE_ID, OTHER_INSTANCE_ID]}
    assert f"Deleted {INSTANCE_ID} {OTHER_INSTANCE_ID}" in result.stderr


def test_a_clone_is_ordered_like_its_source(nwctl: Nwctl, coordinator: StandIn) -> None:
    port = {"vpcId": "vpc-1", "subnetId": "snet-1", "portType": "Primary", "networkType": "Geneve"}
    port |= {"secGroupSpec": "sg-1", "ipv4Address": "10.0.0.7"}
    same = {"resourceGroupId": "", "region": "region0", "az": "AZ0", "flavorId": "flavor-aaaabbbb"}
    source = an_instance(tenantId=TENANT_ID, departmentId=DEPARTMENT_ID, billingMode="OnDemand", **same)
    source |= {"cpuArch": "x86", "vCpus": 2, "ram": 4 * 2**30, "networkMappings": [port]}
    coordinator.on("GET", f"{INSTANCES}/{INSTANCE_ID}", source)
    accepted = Reply(an_instance(ecsId=OTHER_INSTANCE_ID), headers={"x-operation-id": OPERATION_ID})
    coordinator.on("POST", f"{INSTANCES}/{INSTANCE_ID}/clone", accepted)
    nwctl("instance", "clone", INSTANCE_ID, "web-2")
    [request] = coordinator.asked("POST", f"{INSTANCES}/{INSTANCE_ID}/clone")
    body = request.body
    assert (body["displayName"], body["sourceEcsId"], body["memory"]) == ("web-2", INSTANCE_ID, {"amount": "4096Mi"})
    assert body["networks"] == [{name: port[name] for name in ("vpcId", "subnetId", "portType", "networkType")}]
    assert body["secGroupList"] == ["sg-1"]


def test_a_table_of_instances_is_written_to_a_file(nwctl: Nwctl, coordinator: StandIn, tmp_path: Path) -> None:
    coordinator.on("POST", f"{INSTANCES}/export", Reply(text="PK workbook"))
    nwctl("instance", "export", str(tmp_path / "all.xlsx"), "--status", "Running", "--label", "team=a")
    assert (tmp_path / "all.xlsx").read_bytes() == b"PK workbook"
    assert coordinator.requests[-1].body["filterParams"] == {"status": ["Running"], "vmLabels": ["team=a"]}
