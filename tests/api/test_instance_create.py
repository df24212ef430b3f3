"""Orders of instances over REST: what is answered, what is stored, what is refused."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from coordinator.store.tables import Allocation, Instance, Port, Task, Tenant, Volume
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud, a_network, an_os_disk
from tests.builders import a_flavor, a_flavor_type, a_volume, a_vpc, add, an_image
from tests.database import BOTH_DATABASES

BATCH = f"{INSTANCES}/batch-create"


def test_an_order_is_answered_as_it_begins(customer: Api, cloud: Cloud) -> None:
    answer = customer.call("POST", INSTANCES, cloud.order(vmLabels=[{"key": "team", "value": "storage"}]))
    assert answer.code == "Success"
    data = answer.data
    [task] = cloud.rows(Task)
    assert answer.headers["x-operation-id"] == task.id
    assert (data["status"], data["taskStatus"], data["errMessage"]) == ("Provisioning", "Provisioning", "")
    assert (data["ram"], data["vCpus"], data["nodeName"]) == (4 * 1024**3, 2, cloud.node.name)
    assert (data["displayName"], data["hostName"], data["password"]) == ("web", "web", "")
    assert data["namespace"] == f"tenant-{cloud.tenant.id}"
    assert data["vmLabels"] == [{"key": "team", "value": "storage"}]
    assert data["expiredAt"] == "0001-01-01T00:00:00Z"
    assert data["flavorInfo"]["flavorType"]["specCode"] == data["flavor"]["flavorType"]["SpecCode"]
    [disk] = data["blockDeviceMappings"]
    assert (disk["volumeSize"], disk["isOSDisk"], disk["status"]) == (20, True, "creating")
    [network] = data["networkMappings"]
    assert network["ipv4Address"] == network["ipv4_address"] == "10.80.0.2"
    assert network["portId"] == network["port_id"]
    assert network["secGroups"] == f"default({'sg-' + '0' * 20})"


def test_allocations_are_those_of_the_order(customer: Api, cloud: Cloud) -> None:
    customer.ok("POST", INSTANCES, cloud.order())
    amounts = {row.resource_class: row.amount for row in cloud.rows(Allocation)}
    assert amounts == {"VCPU": 2, "MEMORY_MIB": 4096, "STORAGE_GIB": 20}


@BOTH_DATABASES
def test_a_batch_is_numbered_and_answered_as_a_list(customer: Api, cloud: Cloud) -> None:
    answer = customer.call("POST", BATCH, cloud.order(ecsCount="3", hostName="box"))
    assert [one["displayName"] for one in answer.data] == ["web-1", "web-2", "web-3"]
    assert [one["hostName"] for one in answer.data] == ["box-1", "box-2", "box-3"]
    assert len({one["networkMappings"][0]["ipv4Address"] for one in answer.data}) == 3
    assert len(answer.headers["x-operation-id"].split(",")) == 3


def test_one_of_a_batch_keeps_its_name(customer: Api, cloud: Cloud) -> None:
    [one] = customer.ok("POST", BATCH, cloud.order())
    assert one["displayName"] == "web"


def test_of_a_batch_that_does_not_fit_there_is_none(customer: Api, cloud: Cloud) -> None:
    answer = customer.refused("POST", BATCH, cloud.order(ecsCount=9))
    assert answer.code == "ECS.OperationFailed.Unschedulable"
    assert answer.message == "0/1 hosts: 1 too few vCPUs (wanted 2 vCPUs, at most 0 vCPUs free)"
    assert "台物理机" in customer.speaking("zh").refused("POST", BATCH, cloud.order(ecsCount=9)).message
    assert cloud.holds_nothing()
    assert cloud.rows(Task) == cloud.rows(Instance) == []


def test_a_single_instance_that_does_not_fit_is_kept_and_says_why(customer: Api, cloud: Cloud) -> None:
    answer = customer.call("POST", INSTANCES, cloud.order(cpus=200, flavorId=cloud.custom_flavor.flavor_id))
    assert (answer.code, "x-operation-id" in answer.headers) == ("Success", False)
    assert (answer.data["status"], answer.data["nodeName"]) == ("ErrorUnschedulable", "")
    assert answer.data["errMessage"] == "0/1 hosts: 1 too few vCPUs (wanted 200 vCPUs, at most 16 vCPUs free)"
    assert cloud.holds_nothing()
    assert cloud.rows(Task) == []


@BOTH_DATABASES
def test_an_instance_without_a_host_counts_as_an_instance(customer: Api, cloud: Cloud) -> None:
    cloud.change(cloud.tenant, quota_instances=1, quota_vcpus=200)
    customer.ok("POST", INSTANCES, cloud.order(cpus=200, flavorId=cloud.custom_flavor.flavor_id))
    answer = customer.refused("POST", INSTANCES, cloud.order())
    assert answer.code == "ECS.OperationDenied.QuotaExceeded"
    cloud.change(cloud.tenant, quota_instances=2)
    customer.ok("POST", INSTANCES, cloud.order())


def test_an_unschedulable_instance_is_deleted_without_an_operation(customer: Api, cloud: Cloud) -> None:
    data = customer.ok("POST", INSTANCES, cloud.order(cpus=200, flavorId=cloud.custom_flavor.flavor_id))
    answer = customer.call("DELETE", f"{INSTANCES}/{data['ecsId']}")
    assert (answer.code, "x-operation-id" in answer.headers) == ("Success", False)
    customer.refused("GET", f"{INSTANCES}/{data['ecsId']}")


def test_passwords_are_stored_as_hashes_only(customer: Api, cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    customer.ok("POST", INSTANCES, cloud.order(password="Admin@123", vncPassword="abc12345"))
    [row] = cloud.rows(Instance)
    assert row.password_hash.startswith("$6$")
    assert cloud.runtime.secrets.decrypt(row.vnc_password_encrypted) == "abc12345"
    assert "Admin@123" not in repr(row) + caplog.text
    assert row.vnc_password_enabled


def test_without_a_vnc_password_a_random_one_is_set(customer: Api, cloud: Cloud) -> None:
    customer.ok("POST", BATCH, cloud.order())
    [row] = cloud.rows(Instance)
    assert len(cloud.runtime.secrets.decrypt(row.vnc_password_encrypted)) == 8
    assert not row.vnc_password_enabled


@BOTH_DATABASES
def test_a_flavor_is_found_by_its_size(customer: Api, cloud: Cloud) -> None:
    assert customer.ok("POST", INSTANCES, cloud.order(flavorId=None))["flavorId"] == cloud.flavor.flavor_id


def test_a_flavor_of_that_size_is_one_that_can_be_given_there(customer: Api, cloud: Cloud) -> None:
    elsewhere, special = a_flavor_type(az="AZ1"), a_flavor_type(is_dedicated_cpu=True)
    fitting = a_flavor_type(az="AZ0")
    sizes = [a_flavor(kind) for kind in (elsewhere, special, fitting)]
    cloud.change(cloud.flavor, deleted_at=cloud.runtime.now())
    with cloud.runtime.database.write() as session:
        add(session, elsewhere, special, fitting, *sizes)
    assert customer.ok("POST", INSTANCES, cloud.order(flavorId=None))["flavorId"] == sizes[2].flavor_id


@pytest.mark.parametrize("size", [{"cpus": 3}, {"memory": {"amount": "4097Mi"}}])
def test_where_no_flavor_has_the_size_a_custom_one_is_taken(customer: Api, cloud: Cloud, size: dict[str, Any]) -> None:
    order = cloud.order(flavorId=None, **size)
    assert customer.ok("POST", INSTANCES, order)["flavorId"] == cloud.custom_flavor.flavor_id
    cloud.change(cloud.custom_flavor, deleted_at=cloud.runtime.now())
    answer = customer.refused("POST", INSTANCES, order)
    assert (answer.code, "flavorId" in answer.message) == (NO_DATA, True)


def test_memory_is_the_flavors_unless_given(customer: Api, cloud: Cloud) -> None:
    assert customer.ok("POST", INSTANCES, cloud.order(memory={}))["ram"] == 4 * 1024**3
    [row] = cloud.rows(Instance)
    assert row.memory_bytes == 4 * 1024**3
    for flavor_id in (None, cloud.custom_flavor.flavor_id):
        assert customer.refused("POST", INSTANCES, cloud.order(memory={}, flavorId=flavor_id)).code == MEMORY


@BOTH_DATABASES
def test_an_image_is_found_by_its_file_url_and_by_its_source(customer: Api, cloud: Cloud) -> None:
    cloud.change(cloud.image, source_url="http://mirror.example/debian.qcow2")
    for url in (f"https://any/api/image/v1/images/{cloud.image.id}/file", "http://mirror.example/debian.qcow2"):
        assert customer.ok("POST", INSTANCES, cloud.order(image={"url": url}))["imageId"] == cloud.image.id


def test_interfaces_come_primary_first_and_then_by_index(customer: Api, cloud: Cloud) -> None:
    networks = [
        a_network(portType="Extend", index=2, fixedIp="10.80.0.22", networkType="Flat"),
        a_network(portType="Extend", index=1, fixedIp="10.80.0.21"),
        a_network(ipType="fixedIp", fixedIp="10.80.0.20", macAddr="52:54:00:AB:CD:EF"),
    ]
    data = customer.ok("POST", INSTANCES, cloud.order(networks=networks))
    assert [port["ipv4Address"] for port in data["networkMappings"]] == ["10.80.0.20", "10.80.0.21", "10.80.0.22"]
    assert data["networkMappings"][0]["macAddress"] == "52:54:00:ab:cd:ef"


def test_numbers_as_strings_and_confused_spellings_are_understood(customer: Api, cloud: Cloud) -> None:
    network = a_network()
    network["vpclId"] = network.pop("vpcId")
    order = cloud.order(cpus="2", networks=[network], volumes=[an_os_disk(volumeSize="20", isOsDisk="true")])
    assert customer.ok("POST", INSTANCES, order)["vCpus"] == 2


def test_an_operator_may_order_beyond_the_quota(operator: Api, customer: Api, cloud: Cloud) -> None:
    cloud.change(cloud.tenant, quota_instances=0)
    for caller in (operator, customer):
        caller.refused("POST", INSTANCES, cloud.order())
    customer.refused("POST", INSTANCES, cloud.order(bUpdateQuotas=False))
    assert operator.ok("POST", INSTANCES, cloud.order(bUpdateQuotas=False))["bUpdateQuotas"] is False
    cloud.change(cloud.tenant, quota_instances=2)
    assert customer.ok("POST", INSTANCES, cloud.order(bUpdateQuotas=False))["bUpdateQuotas"] is True
    answer = customer.speaking("zh").refused("POST", INSTANCES, cloud.order())
    assert answer.message == f"租户{cloud.tenant.name}：实例数量将达到3，超出配额2"


@BOTH_DATABASES
@pytest.mark.parametrize(
    ("quota", "limit"),
    [
        ("quota_instances", 1),
        ("quota_vcpus", 3),
        ("quota_memory_gib", 7),
        ("quota_volumes", 1),
        ("quota_storage_gib", 39),
    ],
)
def test_each_quota_counts_what_is_there_already(customer: Api, cloud: Cloud, quota: str, limit: int) -> None:
    cloud.change(cloud.tenant, **{quota: limit})
    customer.ok("POST", INSTANCES, cloud.order())
    answer = customer.refused("POST", INSTANCES, cloud.order())
    assert answer.code == "ECS.OperationDenied.QuotaExceeded"
    assert f"quota of {limit}" in answer.message
    assert len(cloud.rows(Instance)) == 1


INVALID = "ECS.InvalidParameter"
NO_DATA = "ECS.DBGet.NoData"
MEMORY = "ECS.InvalidParameter.MemoryAmount.ValueNotSupported"
PASSWORD = "ECS.InvalidParameter.Password.ValueNotSupported"
NAME = "ECS.InvalidParameter.DisplayName.ValueNotSupported"
IMAGE = "ECS.GetImage.Fail"

# What is changed in a good order; code of the refusal; what its message names.
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no tenant": ({"tenantId": None}, "ECS.InvalidParameter.TenantId.ValueNotSupported", "tenantId"),
    "unknown tenant": ({"tenantId": "42"}, "Ecs.InvalidParameter.TenantId.NotFound", "tenantId"),
    "unknown department": ({"departmentId": "42"}, NO_DATA, "departmentId"),
    "unknown resource group": ({"resourceGroupId": "42"}, NO_DATA, "resourceGroupId"),
    "other region": ({"region": "region9"}, INVALID, "region"),
    "unknown zone": ({"az": "AZ9"}, INVALID, "az"),
    "unknown node": ({"hostId": "node-nowhere"}, NO_DATA, "hostId"),
    "empty name": ({"displayName": ""}, NAME, "displayName"),
    "long name": ({"displayName": "x" * 128}, NAME, "displayName"),
    "name with a line break": ({"displayName": "a\nb"}, NAME, "displayName"),
    "batch name without room": ({"displayName": "x" * 126, "ecsCount": 2}, NAME, "displayName"),
    "batch host name without room": ({"hostName": "x" * 126, "ecsCount": 2}, INVALID, "hostName"),
    "long image source": ({"imageSource": "x" * 17}, INVALID, "imageSource"),
    "host name begins with a digit": ({"hostName": "9lives"}, INVALID, "hostName"),
    "long description": ({"description": "x" * 256}, INVALID, "description"),
    "no vCPU": ({"cpus": 0}, INVALID, "cpus"),
    "too many vCPUs": ({"cpus": 257}, INVALID, "cpus"),
    "vCPUs are no number": ({"cpus": "many"}, INVALID, "cpus"),
    "vCPUs not the flavor's": ({"cpus": 4}, INVALID, "cpus"),
    "memory is no amount": ({"memory": {"amount": "lots"}}, MEMORY, "memory.amount"),
    "memory absent in a batch": ({"memory": {}}, MEMORY, "memory.amount"),
    "memory too small": ({"memory": {"amount": "512Mi"}}, MEMORY, "memory.amount"),
    "memory too large": ({"memory": {"amount": "2Ti"}}, MEMORY, "memory.amount"),
    "memory not the flavor's": ({"memory": {"amount": "8Gi"}}, MEMORY, "memory.amount"),
    "huge pages of no size": ({"memory": {"amount": "4Gi", "hugePage": "3Mi"}}, INVALID, "memory.hugePage"),
    "huge pages are no amount": ({"memory": {"amount": "4Gi", "hugePage": "big"}}, INVALID, "memory.hugePage"),
    "a part of a huge page": ({"memory": {"amount": "4098Mi", "hugePage": "1Gi"}}, MEMORY, "memory.amount"),
    "unknown architecture": ({"archType": "mips"}, INVALID, "archType"),
    "architecture not the flavor's": ({"archType": "arm"}, INVALID, "archType"),
    "unknown flavor": ({"flavorId": "flavor-nowhere"}, NO_DATA, "flavorId"),
    "no image": ({"image": {}}, "ECS.InvalidParameter.Image.NotFound", "image"),
    "unknown image": ({"image": {"imageUid": "img-nowhere"}}, IMAGE, "img-nowhere"),
    "unknown image URL": ({"image": {"url": "http://elsewhere/x.raw"}}, IMAGE, "image.url"),
    "no volume": ({"volumes": []}, INVALID, "volumes"),
    "no system disk": ({"volumes": [an_os_disk(isOsDisk=False)]}, INVALID, "volumes"),
    "two system disks": ({"volumes": [an_os_disk(), an_os_disk(bootIndex=2)]}, INVALID, "volumes"),
    "volume of size 0": ({"volumes": [an_os_disk(volumeSize=0)]}, INVALID, "volumes[0].volumeSize"),
    "huge volume": ({"volumes": [an_os_disk(volumeSize=99999)]}, INVALID, "volumes[0].volumeSize"),
    "unknown volume type": ({"volumes": [an_os_disk(volumeType="tape")]}, INVALID, "volumes[0].volumeType"),
    "unknown bus": ({"volumes": [an_os_disk(diskBus="ide")]}, INVALID, "volumes[0].diskBus"),
    "boot index twice": ({"volumes": [an_os_disk(), an_os_disk(isOsDisk=False)]}, INVALID, "bootIndex"),
    "too many volumes": (
        {"volumes": [an_os_disk()] + [an_os_disk(isOsDisk=False, bootIndex=None)] * 16},
        "ECS.OperationDenied.VolumeNumOverLimit",
        "volumes",
    ),
    "unknown snapshot": ({"volumes": [an_os_disk(osSnapshotId=7)]}, NO_DATA, "'7'"),
    "snapshot of a data disk": (
        {"volumes": [an_os_disk(), an_os_disk(isOsDisk=False, bootIndex=None, osSnapshotId=7)]},
        INVALID,
        "volumes[1].osSnapshotId",
    ),
    "no network": ({"networks": []}, INVALID, "networks"),
    "no primary interface": ({"networks": [a_network(portType="Extend")]}, INVALID, "networks"),
    "unknown subnet": ({"networks": [a_network(subnetId="snet-nowhere")]}, NO_DATA, "snet-nowhere"),
    "subnet of another network": ({"networks": [a_network(vpcId="vpc-other")]}, NO_DATA, "snet-"),
    "fixedIp missing": ({"networks": [a_network(ipType="fixedIp")]}, INVALID, "networks[0].fixedIp"),
    "fixedIp is no address": ({"networks": [a_network(fixedIp="10.80.0")]}, INVALID, "networks[0].fixedIp"),
    "fixedIp elsewhere": ({"networks": [a_network(fixedIp="192.0.2.1")]}, INVALID, "192.0.2.1"),
    "fixedIp of the gateway": ({"networks": [a_network(fixedIp="10.80.0.1")]}, "ECS.OperationDenied.Repeat", "10.80"),
    "fixedIp for several": ({"ecsCount": 2, "networks": [a_network(fixedIp="10.80.0.9")]}, INVALID, "fixedIp"),
    "bad MAC": ({"networks": [a_network(macAddress="zz")]}, INVALID, "networks[0].macAddress"),
    "flat primary interface": ({"networks": [a_network(networkType="Flat")]}, INVALID, "networks[0].networkType"),
    "InfiniBand alone": ({"networks": [a_network(networkType="IBNic")]}, INVALID, "networks"),
    "IPv6": ({"networks": [a_network(ipv6Enabled=True)]}, INVALID, "networks[0].ipv6Enabled"),
    "unknown security group": ({"secGroupList": ["sg-nowhere"]}, NO_DATA, "sg-nowhere"),
    "weak password": ({"password": "password"}, PASSWORD, "password"),
    "short password": ({"password": "Ab@1"}, PASSWORD, "password"),
    "long VNC password": ({"vncPassword": "123456789"}, PASSWORD, "vncPassword"),
    "user data is not base64": ({"userData": "#cloud-config"}, INVALID, "userData"),
    "user data too long": ({"userData": base64.b64encode(bytes(32769)).decode()}, INVALID, "userData"),
    "no SSH key": ({"sshPublicKeys": ["hello"]}, INVALID, "sshPublicKeys"),
    "no instance": ({"ecsCount": 0}, INVALID, "ecsCount"),
    "too many instances": ({"ecsCount": 51}, INVALID, "ecsCount"),
    "six labels": ({"vmLabels": [{"key": f"k{n}", "value": ""} for n in range(6)]}, INVALID, "vmLabels"),
    "label twice": ({"vmLabels": [{"key": "k"}, {"key": "k"}]}, INVALID, "vmLabels"),
    "unknown billing": ({"billingMode": "Free"}, INVALID, "billingMode"),
    "no cycles": ({"billingMode": "ByCycle"}, INVALID, "cycleCount"),
    "GPUs": ({"gpus": 1}, INVALID, "gpus"),
    "vGPUs": ({"vgpu": 1}, INVALID, "vgpu"),
    "another GPU": ({"hostGpus": {"gpuType": "10de1eb8", "number": 1}}, INVALID, "hostGpus.gpuType"),
    "fewer than no disks": ({"localDisk": -1}, INVALID, "localDisk"),
    "host group": ({"hgld": "hg-12345678"}, NO_DATA, "host group"),
    "resource pool": ({"rpld": "rp-12345678901234"}, NO_DATA, "resource pool"),
    "deployment set": ({"deploymentSet": "d-set-1"}, NO_DATA, "d-set-1"),
    "body is no object": ({"memory": "4Gi"}, INVALID, "memory"),
}  # fmt: skip


def test_bad_orders_name_the_field_and_leave_nothing_behind(customer: Api, cloud: Cloud) -> None:
    told = {}
    for name, (changes, _code, named) in REFUSED.items():
        answer = customer.call("POST", BATCH, cloud.order(**changes))
        told[name] = (answer.status, answer.code, named in answer.message or answer.message)
    assert told == {name: (400, code, True) for name, (_changes, code, _named) in REFUSED.items()}
    assert cloud.holds_nothing()
    assert cloud.rows(Instance) == []
    assert cloud.rows(Task) == []


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"status": "Queued"}, IMAGE),
        ({"status": "Error", "error_message": "checksum differs"}, IMAGE),
        ({"cpu_arch": "arm"}, "ECS.OperationFailed.InvalidCpuArch"),
        ({"virtual_size_bytes": 21 * 1024**3}, INVALID),
    ],
)
def test_an_image_that_does_not_serve_is_refused(
    customer: Api, cloud: Cloud, columns: dict[str, Any], code: str
) -> None:
    cloud.change(cloud.image, **columns)
    assert customer.refused("POST", INSTANCES, cloud.order()).code == code


def test_other_tenants_things_do_not_exist(customer: Api, stranger: Api, operator: Api, cloud: Cloud) -> None:
    assert stranger.refused("POST", INSTANCES, cloud.order()).code == "Ecs.InvalidParameter.TenantId.NotFound"
    other_vpc, private = a_vpc(), an_image(visibility="private")
    with cloud.runtime.database.write() as session:
        other = Tenant(id="4611686018427387999", name="other")
        add(session, other)
        other_vpc.tenant_id = private.tenant_id = other.id
        add(session, other_vpc, private)
    # Not even an operator mixes tenants.
    for caller in (customer, operator):
        assert caller.refused("POST", INSTANCES, cloud.order(image={"imageUid": private.id})).code == IMAGE
        networks = [a_network(vpcId=other_vpc.id, subnetId="snet-nowhere")]
        assert caller.refused("POST", INSTANCES, cloud.order(networks=networks)).code == NO_DATA


def test_an_auditor_may_not_order(auditor: Api, cloud: Cloud) -> None:
    assert auditor.refused("POST", INSTANCES, cloud.order()).code == "ECS.OperationDenied.Identity"


def test_refusals_are_told_in_chinese_by_default(customer: Api, cloud: Cloud) -> None:
    answer = customer.speaking("zh").refused("POST", INSTANCES, cloud.order(cpus=0))
    assert "取值范围" in answer.message


def test_the_same_idempotency_key_creates_once(customer: Api, cloud: Cloud) -> None:
    keyed: Callable[[], Any] = lambda: customer.ok(  # noqa: E731
        "POST", INSTANCES, cloud.order(), headers={"Idempotency-Key": "once"}
    )
    assert keyed()["ecsId"] == keyed()["ecsId"]
    assert len(cloud.rows(Instance)) == len(cloud.rows(Volume)) == len(cloud.rows(Port)) == 1


@BOTH_DATABASES
def test_an_order_that_counts_quotas_does_not_stop_what_else_the_tenant_does(customer: Api, cloud: Cloud) -> None:
    """PostgreSQL: two orders of the tenant would wait for each other, one for the host, one for the tenant."""
    database = cloud.runtime.database
    if database.is_sqlite:
        pytest.skip("one writer at a time")
    cloud.change(cloud.tenant, quota_instances=10)
    added = 0

    def before_execute(_connection: object, statement: object, *_rest: object) -> None:
        nonlocal added
        if str(statement).startswith("UPDATE node") and not added:
            added += 1
            with database.write() as session:
                session.execute(text("SET LOCAL lock_timeout = '2s'"))
                add(session, a_volume(cloud.tenant))

    event.listen(Engine, "before_execute", before_execute)
    try:
        customer.ok("POST", INSTANCES, cloud.order())
    finally:
        event.remove(Engine, "before_execute", before_execute)
    assert added == 1
