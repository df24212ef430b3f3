"""Orders of instances that name a launch template."""

import pytest

from coordinator.domain.clock import utc_now
from coordinator.store.tables import InstanceLabel, Port, Volume
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud, an_os_disk
from tests.api.launch_template import INVALID, NO_DATA, PASSWORD, TEMPLATES, create, launch, order_instance, row_of
from tests.builders import a_flavor, add, an_image


@pytest.fixture
def ecs_id(customer: Api, cloud: Cloud) -> str:
    """An instance with everything that can be ordered."""
    return order_instance(customer, cloud)


def test_an_instance_of_a_template_is_alike_but_for_what_is_its_own(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    made = launch(customer, create(customer, ecs_id))
    first, second = row_of(cloud, ecs_id), row_of(cloud, made["ecsId"])
    same = ("display_name", "description", "flavor_id", "vcpus", "memory_bytes", "image_id", "user_data")
    for name in (*same, "ssh_public_keys", "ha_enabled", "tenant_id", "department_id", "zone", "os_type"):
        assert getattr(second, name) == getattr(first, name), name
    assert (second.password_hash, second.host_name) == ("", "web")
    assert second.options == {"evictionStrategy": "None", "haPriority": 7, "room": first.options["room"]}
    assert second.uuid != first.uuid
    sizes = {(row.size_gib, row.disk_bus, row.boot_index) for row in cloud.rows(Volume) if row.instance_id == second.id}
    assert sizes == {(20, "virtio", 1), (7, "scsi", 0)}
    ports = {row.instance_id: row for row in cloud.rows(Port)}
    assert ports[second.id].ipv4_address != ports[first.id].ipv4_address
    assert [row.value for row in cloud.rows(InstanceLabel) if row.instance_id == second.id] == ["web"]


def test_what_is_given_comes_before_what_the_template_says(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    template_id = create(customer, ecs_id)
    given = {"displayname": "other", "volumes": [an_os_disk(volumeSize=33)], "vmLabels": [], "password": PASSWORD}
    made = launch(customer, template_id, **given, haEnabled="false")
    row = row_of(cloud, made["ecsId"])
    assert (row.display_name, row.ha_enabled, bool(row.password_hash)) == ("other", False, True)
    assert [volume.size_gib for volume in cloud.rows(Volume) if volume.instance_id == row.id] == [33]
    assert made["vmLabels"] is None


def test_a_flavor_brings_its_size_and_a_size_finds_its_flavor(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    large = a_flavor(cloud.flavor_type, vcpus=4, memory_gib=8, name="large")
    with cloud.runtime.database.write() as session:
        add(session, large)
    template_id = create(customer, ecs_id)
    by_flavor = row_of(cloud, launch(customer, template_id, flavorId=large.flavor_id)["ecsId"])
    by_size = row_of(cloud, launch(customer, template_id, cpus=4, memory={"amount": "8Gi"})["ecsId"])
    custom = {"flavorId": cloud.custom_flavor.flavor_id, "cpus": 3}
    by_custom = row_of(cloud, launch(customer, template_id, **custom)["ecsId"])
    assert (by_flavor.flavor_id, by_flavor.vcpus, by_flavor.memory_bytes >> 30) == (large.flavor_id, 4, 8)
    assert (by_size.flavor_id, by_size.vcpus) == (large.flavor_id, 4)
    assert (by_custom.vcpus, by_custom.memory_bytes >> 30) == (3, 4)


def test_a_batch_and_an_explanation_take_templates_too(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    template_id = create(customer, ecs_id)
    body = {"launchTemplateld": template_id, "ecsCount": 3, "displayName": "many"}
    made = customer.ok("POST", f"{INSTANCES}/batch-create", body)
    assert [item["displayName"] for item in made] == ["many-1", "many-2", "many-3"]
    assert customer.ok("POST", f"{INSTANCES}/explain-placement", body)["placeable"]


def test_a_bad_field_beside_a_template_is_named_as_without_one(customer: Api, ecs_id: str) -> None:
    template_id = create(customer, ecs_id)
    for given, code, field in (
        ({"displayName": ""}, "ECS.InvalidParameter.DisplayName.ValueNotSupported", "displayName"),
        ({"cpus": "many"}, INVALID, "cpus"),
        ({"volumes": [{"volumeType": "ssd"}]}, INVALID, "volumes.0.volumeSize"),
        ({"password": "weak"}, "ECS.InvalidParameter.Password.ValueNotSupported", "password"),
        ({"tenantId": "1"}, "Ecs.InvalidParameter.TenantId.NotFound", "tenantId"),
    ):
        answer = customer.refused("POST", INSTANCES, {"launchTemplateId": template_id, **given})
        assert (answer.code, answer.message.split(":")[0]) == (code, field)
    assert customer.refused("POST", INSTANCES, {"launchTemplateId": "lt-nowhere"}).code == NO_DATA
    assert customer.refused("POST", INSTANCES, {"launchTemplateId": ["lt-a"]}).message.startswith("launchTemplateId")
    # Without the id of a template nothing has become optional.
    assert "is required" in customer.refused("POST", INSTANCES, {"launchTemplateId": ""}).message
    assert customer.refused("POST", INSTANCES, []).code == INVALID


def test_what_the_template_orders_and_is_gone_is_named(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    template_id = create(customer, ecs_id)
    now = utc_now()
    other = an_image()
    with cloud.runtime.database.write() as session:
        add(session, other)
    cloud.change(cloud.image, deleted_at=now)
    gone = customer.refused("POST", INSTANCES, {"launchTemplateId": template_id})
    assert gone.code == NO_DATA
    for part in (f"{template_id}:1", cloud.image.id, "give image"):
        assert part in gone.message
    chinese = customer.speaking("zh").refused("POST", INSTANCES, {"launchTemplateId": template_id})
    assert "镜像" in chinese.message
    cloud.change(cloud.flavor, deleted_at=now)
    with_image = {"launchTemplateId": template_id, "image": {"imageUid": other.id}}
    assert "give flavorId" in customer.refused("POST", INSTANCES, with_image).message
    custom = {"flavorId": cloud.custom_flavor.flavor_id}
    assert customer.ok("POST", INSTANCES, {**with_image, **custom})["image"]["imageId"] == other.id
    shown = customer.ok("GET", f"{TEMPLATES}/{template_id}")
    assert (shown["flavor"], shown["imageVisibility"], shown["imageId"]) == (None, "", cloud.image.id)
