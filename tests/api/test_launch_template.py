"""Launch templates: made of instances, changed by versions, and what is made of them."""

import json
from typing import Any

import pytest

from coordinator.domain.clock import utc_now
from coordinator.domain.instance import InstanceStatus
from coordinator.services.launch_order import dump_order, load_order
from coordinator.store.tables import (
    Image,
    LaunchTemplate,
    LaunchTemplateVersion,
)
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud
from tests.api.launch_template import (
    INVALID,
    KEY,
    NO_DATA,
    PASSWORD,
    TEMPLATES,
    create,
    encode,
    launch,
    order_instance,
    row_of,
)
from tests.builders import add, an_instance
from tests.database import BOTH_DATABASES


@pytest.fixture
def ecs_id(customer: Api, cloud: Cloud) -> str:
    """An instance with everything that can be ordered."""
    return order_instance(customer, cloud)


def test_the_example_of_the_reference_works(customer: Api, ecs_id: str) -> None:
    body = {"templateName": "test-dm", "templateDesc": "test desc"}
    template_id = customer.ok("POST", f"{INSTANCES}/{ecs_id}/create-template", body)["templateId"]
    assert template_id.startswith("lt-")
    assert len(template_id) == len("lt-") + 14
    assert customer.ok("PUT", f"{TEMPLATES}/{template_id}/name", {"templateName": "test1"}) is None
    user_data = {"userData": "I2Nsb3VkLWNvbmZpZwpib290Y21kOg=="}
    assert customer.ok("PUT", f"{TEMPLATES}/{template_id}/userdata", user_data) is None
    shown = customer.ok("GET", f"{TEMPLATES}/{template_id}")
    assert (shown["templateName"], shown["userData"]) == ("test1", user_data["userData"])
    assert customer.ok("POST", f"{TEMPLATES}/batch-delete", {"templateIdList": [template_id]}) is None
    assert customer.refused("GET", f"{TEMPLATES}/{template_id}").code == NO_DATA


def test_the_details_are_what_the_instance_is_like(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    shown = customer.ok("GET", f"{TEMPLATES}/{create(customer, ecs_id, templateDesc='of web')}")
    expected = {
        "templateName": "web",
        "templateDesc": "of web",
        "tenantId": cloud.tenant.id,
        "tenantName": cloud.tenant.name,
        "departmentId": cloud.department.id,
        "departmentName": cloud.department.name,
        "resourceGroupId": "",
        "resourceGroupName": "",
        "ecsName": "web",
        "region": "region0",
        "az": "AZ0",
        "archType": "x86",
        "flavorId": cloud.flavor.flavor_id,
        "imageId": cloud.image.id,
        "imageVisibility": "public",
        "sgIdList": ["sg-" + "0" * 20],
        "eipChargeType": "",
        "bandWidth": 0,
        "defaultVersion": 1,
        "currentVersion": 1,
        "version": 1,
        "billingMode": "OnDemand",
        "ram": 4 * 1024**3,
        "vcpus": 2,
        "userData": encode("#cloud-config\n"),
        "keyPairName": "",
        "keyPairId": "",
        "standardFlavor": 1,
        "sshPublicKeys": [KEY],
        "vmLabels": [{"key": "team", "value": "web"}],
        "haEnabled": True,
    }
    assert expected.items() <= shown.items()
    network = {"vpcId": "vpc-" + "0" * 20, "subnetId": "snet-" + "0" * 20, "portType": "Primary", "ipv6Enabled": False}
    assert network.items() <= shown["networks"][0].items()
    assert [(it["osOrData"], it["volumeSize"], it["diskBus"]) for it in shown["volumes"]] == [
        ("osDisk", 20, "virtio"),
        ("dataDisk", 7, "scsi"),
    ]
    assert (shown["flavor"]["cpu"], shown["flavor"]["ram"], shown["flavor"]["isCustom"]) == (2, 4, False)
    assert shown["flavor"]["flavorType"]["SpecCode"] == cloud.flavor_type.spec_code


def test_no_secret_address_or_host_is_kept(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    template_id = create(customer, ecs_id)
    [version] = cloud.rows(LaunchTemplateVersion)
    instance = row_of(cloud, ecs_id)
    text = f"{version.order} {customer.ok('GET', f'{TEMPLATES}/{template_id}')}"
    for secret in (PASSWORD, instance.password_hash, "vnc-own", "10.80.0.77", "52:54:00:00:00:77", "own-name"):
        assert secret not in text
    assert cloud.node.id not in text
    # What is kept comes back as it was.
    assert json.loads(json.dumps(dump_order(load_order(version.order)))) == version.order


def test_another_version_of_this_program_may_have_written_the_order(cloud: Cloud, customer: Api, ecs_id: str) -> None:
    create(customer, ecs_id)
    [version] = cloud.rows(LaunchTemplateVersion)
    newer = {**version.order, "something_new": 1, "networks": [{**version.order["networks"][0], "speed": 9}]}
    older = {name: value for name, value in version.order.items() if name not in ("labels", "ha_enabled")}
    assert load_order(newer) == load_order(version.order)
    assert load_order(older).labels == ()


def test_every_edit_of_user_data_is_a_version(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    template_id = create(customer, ecs_id)
    path = f"{TEMPLATES}/{template_id}"
    for text in ("two", "three"):
        customer.ok("PUT", f"{path}/userdata", {"userData": encode(text)})
    shown = customer.ok("GET", path)
    assert (shown["defaultVersion"], shown["currentVersion"], shown["userData"]) == (3, 3, encode("three"))
    assert customer.ok("GET", f"{path}?version=2")["userData"] == encode("two")
    assert row_of(cloud, launch(customer, template_id)["ecsId"]).user_data == encode("three")
    older = launch(customer, template_id, launchTemplateVersion="1")
    assert row_of(cloud, older["ecsId"]).user_data == encode("#cloud-config\n")
    listed = customer.ok("GET", f"{path}/versions")
    assert [(it["version"], it["isDefault"]) for it in listed["list"]] == [(3, True), (2, False), (1, False)]


def test_a_default_version_that_was_chosen_stays(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    template_id = create(customer, ecs_id)
    path = f"{TEMPLATES}/{template_id}"
    customer.ok("PUT", f"{path}/userdata", {"userData": encode("two")})
    assert customer.ok("PUT", f"{path}/default-version", {"version": 1}) is None
    customer.ok("PUT", f"{path}/userdata", {"userData": ""})
    shown = customer.ok("GET", path)
    assert (shown["defaultVersion"], shown["currentVersion"], shown["userData"]) == (1, 3, "")
    assert row_of(cloud, launch(customer, template_id)["ecsId"]).user_data == encode("#cloud-config\n")


def test_only_so_many_versions_are_kept_and_always_the_default_one(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    cloud.runtime.settings.versions_per_template = 3
    path = f"{TEMPLATES}/{create(customer, ecs_id)}"
    customer.ok("PUT", f"{path}/userdata", {"userData": encode("2")})
    customer.ok("PUT", f"{path}/default-version", {"version": 1})
    for number in range(3, 7):
        customer.ok("PUT", f"{path}/userdata", {"userData": encode(str(number))})
    kept = customer.ok("GET", f"{path}/versions")
    assert ([it["version"] for it in kept["list"]], kept["totalCount"]) == ([6, 5, 1], 3)


@BOTH_DATABASES
def test_lists_are_narrowed_and_paged(customer: Api, stranger: Api, operator: Api, cloud: Cloud, ecs_id: str) -> None:
    ids = [create(customer, ecs_id, name) for name in ("web-a", "web-b", "db")]
    listed = customer.ok("GET", f"{TEMPLATES}?pageSize=2&pageNumber=1")
    assert ([it["templateId"] for it in listed["templatelist"]], listed["totalCount"]) == ([ids[2], ids[1]], 3)
    for query, found in (
        ("templateName=WEB", ids[:2]),
        (f"templateId={ids[2]}", ids[2:]),
        (f"departmentId={cloud.department.id}", ids),
        ("departmentId=1", []),
        ("resourceGroupId=1", []),
        ("filter=templateName:eq:db", ids[2:]),
    ):
        shown = operator.ok("GET", f"{TEMPLATES}?{query}&orderBy=createdAt:asc")
        assert [it["templateId"] for it in shown["templatelist"]] == found, query
    assert stranger.ok("GET", TEMPLATES) == {"templatelist": [], "totalCount": 0}


def test_strangers_see_and_change_nothing(
    customer: Api, stranger: Api, auditor: Api, cloud: Cloud, ecs_id: str
) -> None:
    template_id = create(customer, ecs_id)
    path = f"{TEMPLATES}/{template_id}"
    calls: list[tuple[str, str, Any]] = [
        ("GET", path, None),
        ("GET", f"{path}/versions", None),
        ("PUT", f"{path}/name", {"templateName": "mine"}),
        ("PUT", f"{path}/userdata", {"userData": ""}),
        ("PUT", f"{path}/default-version", {"version": 1}),
        ("POST", f"{TEMPLATES}/batch-delete", {"templateIdList": [template_id]}),
        ("POST", f"{INSTANCES}/{ecs_id}/create-template", {"templateName": "mine"}),
        ("POST", INSTANCES, {"launchTemplateId": template_id}),
    ]
    for method, called, body in calls:
        assert stranger.refused(method, called, body).code == NO_DATA, called
    assert auditor.ok("GET", path)["templateName"] == "web"
    assert auditor.refused("PUT", f"{path}/name", {"templateName": "x"}).code == "ECS.OperationDenied.Identity"
    assert [row.name for row in cloud.rows(LaunchTemplate)] == ["web"]


def test_a_name_is_one_of_a_kind_in_its_tenant(customer: Api, operator: Api, cloud: Cloud, ecs_id: str) -> None:
    first, second = create(customer, ecs_id), create(customer, ecs_id, "other")
    path = f"{INSTANCES}/{ecs_id}/create-template"
    assert customer.refused("POST", path, {"templateName": "web"}).code == "ECS.OperationDenied.Repeat"
    renamed = customer.refused("PUT", f"{TEMPLATES}/{second}/name", {"templateName": "web"})
    assert renamed.code == "ECS.OperationDenied.Repeat"
    customer.ok("PUT", f"{TEMPLATES}/{first}/name", {"templateName": "web"})
    assert sorted(row.name for row in cloud.rows(LaunchTemplate)) == ["other", "web"]


def test_a_tenant_has_so_many_templates(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    cloud.runtime.settings.templates_per_tenant = 1
    create(customer, ecs_id)
    refused = customer.refused("POST", f"{INSTANCES}/{ecs_id}/create-template", {"templateName": "b"})
    assert refused.code == "ECS.OperationDenied.QuotaExceeded"


def test_bad_names_and_descriptions_are_refused(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    path = f"{INSTANCES}/{ecs_id}/create-template"
    names: list[dict[str, Any]] = [{}, *({"templateName": name} for name in ("", "x" * 128, " x", "a\nb", ["x"], 7))]
    for body in names:
        answer = customer.refused("POST", path, body)
        assert (answer.code, answer.message.split(":")[0]) == (INVALID, "templateName"), body
    answer = customer.refused("POST", path, {"templateName": "x", "templateDesc": "d" * 256})
    assert (answer.code, answer.message.split(":")[0]) == (INVALID, "templateDesc")
    assert cloud.rows(LaunchTemplate) == []
    template_id = create(customer, ecs_id)
    for body in names:
        assert customer.refused("PUT", f"{TEMPLATES}/{template_id}/name", body).code == INVALID


def test_bad_user_data_is_refused(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    path = f"{TEMPLATES}/{create(customer, ecs_id)}/userdata"
    for user_data in (None, "not base64!", 7, encode("x" * 33_000)):
        answer = customer.refused("PUT", path, {"userData": user_data})
        assert (answer.code, answer.message.split(":")[0]) == (INVALID, "userData")
    assert len(cloud.rows(LaunchTemplateVersion)) == 1


def test_bad_versions_are_refused(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    template_id = create(customer, ecs_id)
    path = f"{TEMPLATES}/{template_id}"
    for version in (0, -1, "first", 1.5):
        answer = customer.refused("PUT", f"{path}/default-version", {"version": version})
        assert (answer.code, "version" in answer.message) == (INVALID, True)
        body = {"launchTemplateId": template_id, "launchTemplateVersion": version}
        answer = customer.refused("POST", INSTANCES, body)
        assert (answer.code, answer.message.split(":")[0]) == (INVALID, "launchTemplateVersion")
        assert customer.refused("GET", f"{path}?version={version}").code == INVALID
    assert customer.refused("PUT", f"{path}/default-version", {}).code == INVALID


def test_unknown_versions_are_refused(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    template_id = create(customer, ecs_id)
    path = f"{TEMPLATES}/{template_id}"
    for version in (2, 2**31, 2**63, 10**30):
        assert customer.refused("PUT", f"{path}/default-version", {"version": version}).code == NO_DATA
        assert customer.refused("GET", f"{path}?version={version}").code == NO_DATA
        body = {"launchTemplateId": template_id, "launchTemplateVersion": version}
        assert f"{template_id}:{version}" in customer.refused("POST", INSTANCES, body).message


def test_a_batch_deletion_is_all_or_nothing(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    ids = [create(customer, ecs_id, name) for name in ("a", "b")]
    path = f"{TEMPLATES}/batch-delete"
    answer = customer.refused("POST", path, {"templateIdList": [*ids, "lt-nowhere"]})
    assert (answer.code, "lt-nowhere" in answer.message, ids[0] in answer.message) == (NO_DATA, True, False)
    wrong: list[object] = [[], None, "x", [1.5], [[]], {"a": 1}]
    for wanted in wrong:
        assert customer.refused("POST", path, {"templateIdList": wanted}).code == INVALID
    assert len(cloud.rows(LaunchTemplate)) == 2
    customer.ok("POST", path, {"templateIdList": [*ids, ids[0]]})
    assert (cloud.rows(LaunchTemplate), cloud.rows(LaunchTemplateVersion)) == ([], [])


def test_a_template_is_checked_as_a_creation_is(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    path = f"{INSTANCES}/{ecs_id}/create-template"
    cloud.change(cloud.image, status="Error")
    assert customer.refused("POST", path, {"templateName": "x"}).code == "ECS.GetImage.Fail"
    cloud.change(cloud.image, status="Active", deleted_at=utc_now())
    assert customer.refused("POST", path, {"templateName": "x"}).code == "ECS.GetImage.Fail"
    nowhere = an_instance(cloud.tenant, cloud.flavor, status=InstanceStatus.ERROR_UNSCHEDULABLE)
    with cloud.runtime.database.write() as session:
        add(session, nowhere)
    answer = customer.refused("POST", f"{INSTANCES}/{nowhere.ecs_id}/create-template", {"templateName": "x"})
    assert answer.code == "ECS.InvalidParameter.Status.NotSupported"
    assert customer.refused("POST", f"{INSTANCES}/ecs-nowhere/create-template", {"templateName": "x"}).code == NO_DATA
    assert len(cloud.rows(Image)) == 1
    assert cloud.rows(LaunchTemplate) == []


def test_who_owns_templates_is_not_deleted(customer: Api, operator: Api, cloud: Cloud, ecs_id: str) -> None:
    template_id = create(customer, ecs_id)
    cloud.change(row_of(cloud, ecs_id), deleted_at=utc_now())
    refused = operator.refused("DELETE", f"/api/iam/v1/departments/{cloud.department.id}")
    assert refused.code == "ECS.OperationDenied.InUse"
    customer.ok("POST", f"{TEMPLATES}/batch-delete", {"templateIdList": [template_id]})
    operator.ok("DELETE", f"/api/iam/v1/departments/{cloud.department.id}")


def test_a_repeated_creation_makes_one(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    path, body = f"{INSTANCES}/{ecs_id}/create-template", {"templateName": "once"}
    headers = {"idempotency-key": "the-same"}
    ids = {customer.ok("POST", path, body, headers=headers)["templateId"] for _ in range(2)}
    assert len(ids) == len(cloud.rows(LaunchTemplate)) == 1
