"""Volumes."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coordinator.runtime import Runtime
from coordinator.store.tables import Task, Tenant, Volume
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud, finish
from tests.builders import a_flavor, a_flavor_type, a_node, a_volume, add, an_instance
from tests.database import BOTH_DATABASES, SQLITE_ONLY
from tests.scripted_agent import ScriptedAgent

VOLUMES = "/api/ebs/v1/volumes"


def create(api: Api, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = api.ok("POST", VOLUMES, {"name": "data", "volumeSize": 3, **fields})
    return made


def store(runtime: Runtime, tenant: Tenant, **columns: Any) -> Volume:
    volume = a_volume(tenant, **columns)
    with runtime.database.write() as session:
        add(session, volume)
    return volume


def test_a_volume_is_addressed_by_number_and_by_uuid(customer: Api, tenant: Tenant) -> None:
    made = create(customer, volumeType="ssd", size=9)
    assert (made["status"], made["volumeSize"], made["size"], made["tenantId"]) == ("available", 3, 3, tenant.id)
    uuid = made["volumeUuid"]
    for address in (made["volumeId"], uuid, uuid.removeprefix("volume-"), uuid.upper().replace("VOLUME", "volume")):
        assert customer.ok("GET", f"{VOLUMES}/{address}") == made
    assert customer.ok("GET", VOLUMES) == {"list": [made], "totalCount": 1}


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 128}, "name"),
        ({"volumeSize": 0}, "volumeSize"),
        ({"volumeSize": 65537}, "volumeSize"),
        ({"volumeSize": 2**63}, "volumeSize"),
        ({"volumeSize": None}, "volumeSize"),
        ({"volumeType": "tape"}, "volumeType"),
        ({"diskBus": "floppy"}, "diskBus"),
        ({"diskBus": "usb"}, "diskBus"),
        ({"multiAttach": True, "diskBus": "sata"}, "multiAttach"),
        ({"multiAttach": True, "volumeMode": "Filesystem"}, "multiAttach"),
    ],
)
def test_a_value_out_of_range_is_named(customer: Api, fields: dict[str, Any], named: str) -> None:
    answer = customer.refused("POST", VOLUMES, {"name": "data", "volumeSize": 3, **fields})
    assert answer.code == "ECS.InvalidParameter"
    assert answer.message.startswith(f"{named}: ")


@pytest.mark.parametrize("address", ["0", "999999999999999999", "9" * 40, "volume-x", "-1", "1.5", "x"])
def test_a_volume_that_does_not_exist(operator: Api, address: str) -> None:
    assert operator.refused("GET", f"{VOLUMES}/{address}").code == "ECS.DBGet.NoData"
    assert operator.refused("DELETE", f"{VOLUMES}/{address}").code == "ECS.DBGet.NoData"


def test_tenants_touch_only_their_own(customer: Api, stranger: Api, operator: Api, tenant: Tenant) -> None:
    made = create(customer)
    for method in ("GET", "DELETE"):
        assert stranger.refused(method, f"{VOLUMES}/{made['volumeId']}").code == "ECS.DBGet.NoData"
    assert stranger.ok("GET", VOLUMES)["totalCount"] == 0
    assert stranger.refused("POST", VOLUMES, {"name": "n", "size": 1, "tenantId": tenant.id}).code == "ECS.DBGet.NoData"
    assert operator.ok("GET", VOLUMES)["totalCount"] == 1


def test_operators_say_for_whom(operator: Api, tenant: Tenant) -> None:
    answer = operator.refused("POST", VOLUMES, {"name": "n", "size": 1})
    assert "tenantId" in answer.message
    assert create(operator, tenantId=tenant.id)["tenantId"] == tenant.id
    unknown = {"name": "n", "size": 1, "tenantId": "1"}
    assert operator.refused("POST", VOLUMES, unknown).code == "Ecs.InvalidParameter.TenantId.NotFound"


@pytest.mark.parametrize(("quota", "told"), [("quota_volumes", "2 volumes"), ("quota_storage_gib", "6 GiB")])
@BOTH_DATABASES
def test_the_quota_holds_also_under_concurrency(
    customer: Api, runtime: Runtime, tenant: Tenant, quota: str, told: str
) -> None:
    with runtime.database.write() as session:
        setattr(tenant, quota, 2 if quota == "quota_volumes" else 6)
        session.add(tenant)
    order = {"name": "data", "size": 3}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: customer.call("POST", VOLUMES, order), range(6)))
    refused = [answer for answer in answers if answer.code != "Success"]
    assert {answer.code for answer in refused} == {"ECS.OperationDenied.QuotaExceeded"}
    assert len(refused) == 4
    assert told in refused[0].message
    assert customer.ok("GET", VOLUMES)["totalCount"] == 2


def test_a_volume_that_was_never_used_is_deleted_at_once(customer: Api) -> None:
    path = f"{VOLUMES}/{create(customer)['volumeUuid']}"
    answer = customer.call("DELETE", path)
    assert answer.code == "Success"
    assert "x-operation-id" not in answer.headers
    assert customer.refused("GET", path).code == "ECS.DBGet.NoData"


def test_a_volume_with_data_on_a_node_is_deleted_by_an_operation(
    customer: Api, runtime: Runtime, tenant: Tenant
) -> None:
    node = a_node()
    with runtime.database.write() as session:
        add(session, node)
    volume = store(runtime, tenant, node_id=node.id)
    answer = customer.call("DELETE", f"{VOLUMES}/{volume.id}")
    operation = customer.ok("GET", f"/api/ecs/v1/operations/{answer.headers['x-operation-id']}")
    assert (operation["kind"], operation["resourceId"]) == ("delete_volume", f"volume-{volume.uuid}")
    shown = customer.ok("GET", f"{VOLUMES}/{volume.id}")
    assert (shown["status"], shown["az"]) == ("deleting", "AZ0")
    again = customer.refused("DELETE", f"{VOLUMES}/{volume.id}")
    assert again.code == "ECS.InvalidParameter.Status.NotSupported"


def test_a_volume_in_use_is_not_deleted(customer: Api, runtime: Runtime, tenant: Tenant) -> None:
    kind = a_flavor_type()
    flavor = a_flavor(kind)
    instance = an_instance(tenant, flavor)
    with runtime.database.write() as session:
        add(session, kind, flavor, instance)
        add(session, a_volume(tenant, instance, is_os_disk=True))
    (volume,) = customer.ok("GET", f"{VOLUMES}?filter=ecsId:eq:{instance.ecs_id}")["list"]
    assert (volume["ecsId"], volume["isOSDisk"], volume["status"]) == (instance.ecs_id, True, "inUse")
    answer = customer.refused("DELETE", f"{VOLUMES}/{volume['volumeId']}")
    assert answer.code == "ECS.InvalidParameter.Status.NotSupported"


@BOTH_DATABASES
def test_volumes_are_filtered_and_ordered(customer: Api, runtime: Runtime, tenant: Tenant) -> None:
    node = a_node()
    with runtime.database.write() as session:
        add(session, node)
    made = store(runtime, tenant, node_id=node.id, delete_on_termination=True, disk_bus="scsi", size_gib=2)
    other = store(runtime, tenant, volume_mode="Filesystem", multi_attach=True, size_gib=1)
    both = [other.id, made.id]
    expected = {
        f"filter=volumeUuid:eq:volume-{made.uuid}": both[1:],
        f"filter=volumeUuid:lk:{other.uuid[:18]}": both[:1],
        "filter=az:eq:AZ0": both[1:],
        "filter=volumeMode:eq:Filesystem": both[:1],
        "filter=deleteOnTermination:eq:true": both[1:],
        "filter=multiAttach:eq:false|diskBus:in:scsi,sata": both[1:],
        "filter=imageId:eq:img-1": [],
        "orderBy=size:asc": both,
        "orderBy=volumeMode,volumeUuid:desc": both[::-1],
    }
    found = {query: [one["volumeId"] for one in customer.ok("GET", f"{VOLUMES}?{query}")["list"]] for query in expected}
    assert found == expected


def test_volumes_of_encrypted_types(
    customer: Api, cloud: Cloud, monkeypatch: pytest.MonkeyPatch, agent: ScriptedAgent
) -> None:
    monkeypatch.setattr(cloud.runtime.settings, "encrypted_volume_types", frozenset({"essd"}))
    types = customer.ok("GET", "/api/ebs/v1/volume-types")["list"]
    assert {it["volumeType"]: it["isEncrypted"] for it in types} == {"hdd": False, "ssd": False, "essd": True}
    shared = customer.refused("POST", VOLUMES, {"name": "d", "size": 1, "volumeType": "essd", "multiAttach": True})
    assert "multiAttach: volumes of type essd are encrypted" in shared.message
    data = create(customer, volumeType="essd")
    assert (data["isEncrypted"], "encryptionKey" in data) == (True, False)
    ecs_id = cloud.create(customer, volumes=[{**cloud.order()["volumes"][0], "volumeType": "essd"}])
    path = f"{INSTANCES}/{ecs_id}"
    attached = customer.call("PUT", f"{path}/attach-volumes", [{"volumeId": data["volumeId"]}])
    assert finish(customer, attached)["state"] == "Succeeded"
    rows = cloud.rows(Volume)
    assert agent.encrypted == {row.uuid for row in rows}
    assert len({row.encryption_key for row in rows}) == len(rows) == 2
    keys = {cloud.runtime.secrets.decrypt(row.encryption_key) for row in rows}
    stored = str([task.args for task in cloud.rows(Task)])
    assert not any(key in stored for key in keys)
    assert all(it["isEncrypted"] for it in customer.ok("GET", f"{path}/attached-volumes")["attachedVolumes"])
    backup = customer.refused("POST", "/api/ecs/v1/backups", {"ecsId": ecs_id})
    capture = customer.refused("POST", "/api/image/v1/images", {"name": "copy", "ecsId": ecs_id})
    for answer in (backup, capture):
        assert "is encrypted, and" in answer.message
    # An agent that knows nothing of encryption leaves no data in the clear.
    agent.is_old, agent.encrypted = True, set()
    plain = create(customer, volumeType="essd")
    failed = customer.call("PUT", f"{path}/attach-volumes", [{"volumeId": plain["volumeId"]}])
    told = finish(customer, failed)
    assert told["state"] == "Failed", told
    assert plain["volumeUuid"].removeprefix("volume-") not in agent.volumes


def test_volume_types(customer: Api) -> None:
    types = customer.ok("GET", "/api/ebs/v1/volume-types")
    assert [kind["volumeType"] for kind in types["list"]] == ["hdd", "ssd", "essd"]
