"""What operators keep: flavors, tokens, tenants, volumes, nodes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.nwctl.builders import TENANT_ID
from tests.unit.nwctl.conftest import Nwctl, data_of
from tests.unit.nwctl.standin import Reply, StandIn

FLAVORS, FLAVOR_TYPES = "/api/ecs/v1/flavors", "/api/ecs/v1/flavortypes"
TENANTS, TOKENS = "/api/iam/v1/tenants", "/api/iam/v1/tokens"
TYPE = {"flavorTypeId": "flavortype-aaaabbbb", "name": "general"}


def test_a_flavor_type_is_created_with_the_members_the_api_insists_on(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("POST", FLAVOR_TYPES, TYPE)

    assert data_of(nwctl("flavor-type", "create", "--name", "general", "--json")) == TYPE

    [request] = coordinator.requests
    assert request.headers["idempotency-key"]
    assert request.body == {
        "name": "general",
        "archType": "x86",
        "cpuModel": "any",
        "deviceType": "normal",
        "gpuType": "",
        "securityType": "none",
        "az": "",
        "isSystemLocalDisk": False,
        "flavorPrices": [{"billingMode": "OnDemand", "cpuPrice": 0.0, "ramPrice": 0.0}],
    }


@pytest.mark.parametrize(("device", "price"), [("gpu", "gpuPrice"), ("vgpu", "gpuMemoryPrice")])
def test_a_device_has_the_price_of_its_kind(coordinator: StandIn, nwctl: Nwctl, device: str, price: str) -> None:
    coordinator.on("POST", FLAVOR_TYPES, TYPE)
    options = ("--device", device, "--gpu-type", "10de1eb8", "--gpu-price", "2.5", "--vcpu-type", "custom")

    nwctl("flavor-type", "create", "--name", "t4", *options)

    body = coordinator.requests[0].body
    assert (body["deviceType"], body["gpuType"], body["vcpuType"]) == (device, "10de1eb8", "custom")
    assert body["flavorPrices"][0][price] == 2.5


def test_a_flavor_names_its_type_by_id_or_by_name(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("GET", FLAVOR_TYPES, {"flavorTypes": [TYPE], "totalCount": 1})
    coordinator.on("POST", FLAVORS, {"flavorId": "flavor-aaaabbbb"})

    for reference in ("general", "flavortype-aaaabbbb"):
        nwctl("flavor", "create", "--name", "small", "--type", reference, "--cpu", "2", "--ram", "4")

    by_name, by_id = coordinator.asked("POST", FLAVORS)
    assert by_name.body == by_id.body
    assert by_id.body == {"name": "small", "flavorTypeId": "flavortype-aaaabbbb", "cpu": 2, "ram": 4}


@pytest.mark.parametrize("reference", ["small", "flavor-aaaabbbb"])
def test_a_flavor_is_shown_as_its_list_has_it(coordinator: StandIn, nwctl: Nwctl, reference: str) -> None:
    flavor = {"flavorId": "flavor-aaaabbbb", "name": "small", "cpu": 2, "ram": 4}
    coordinator.on("GET", FLAVORS, {"flavors": [{"flavorId": "flavor-ccccdddd", "name": "large"}, flavor]})

    assert data_of(nwctl("flavor", "show", reference, "--json")) == flavor


def test_gpus_of_all_vendors_are_one_table(coordinator: StandIn, nwctl: Nwctl) -> None:
    vendors = [
        {"vendor": vendor, "gpuList": [{"vendor": vendor, "gpuType": vendor * 2, "product": vendor * 3}]}
        for vendor in ("X", "Y")
    ]
    coordinator.on("GET", f"{FLAVOR_TYPES}/supported-gpus", vendors)

    assert len(nwctl("flavor-type", "gpus").stdout.splitlines()) == 3
    assert data_of(nwctl("flavor-type", "gpus", "--json")) == vendors


def test_vgpu_types_show_their_memory(coordinator: StandIn, nwctl: Nwctl) -> None:
    types = [{"typeId": "nvidia-231", "typeName": "T4-2Q", "memorySize": 2048, "licenseType": "vWS"}]
    coordinator.on("GET", f"{FLAVOR_TYPES}/supported-vgpus", types)

    assert "2 GiB" in nwctl("flavor-type", "vgpus", "10de1eb8").stdout
    assert coordinator.requests[0].query == {"gpuType": "10de1eb8"}


def test_a_new_token_is_all_that_goes_to_standard_output(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("POST", TOKENS, {"tokenId": "tok-aaaabbbbccccdd", "token": "nwt_new"})

    result = nwctl("token", "create", "--name", "ci", "--role", "tenant", "--tenant", TENANT_ID, "--valid-for", "7d")

    assert (result.exit_code, result.stdout) == (0, "nwt_new\n")
    body: dict[str, Any] = coordinator.requests[0].body
    expires_in = datetime.fromisoformat(body.pop("expiresAt")) - datetime.now(UTC)
    assert body == {"name": "ci", "role": "tenant", "tenantId": TENANT_ID}
    assert timedelta(days=7, minutes=-1) < expires_in <= timedelta(days=7)


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        (TOKENS, ("token", "create", "--name", "ci")),
        ("/api/ecs/v1/nodes/enrolment-tokens", ("node", "enrolment-token", "create")),
    ],
)
def test_a_secret_is_asked_for_once_even_if_the_answer_is_lost(
    coordinator: StandIn, nwctl: Nwctl, path: str, arguments: tuple[str, ...]
) -> None:
    coordinator.on("POST", path, Reply(status=0))

    assert nwctl(*arguments).exit_code == 1
    assert len(coordinator.requests) == 1


def test_a_token_without_an_end_says_nothing_of_one(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("POST", TOKENS, {"tokenId": "tok-aaaabbbbccccdd", "token": "nwt_new"})

    nwctl("token", "create", "--name", "ci", "--role", "operator")

    assert coordinator.requests[0].body == {"name": "ci", "role": "operator"}


@pytest.mark.parametrize(
    ("noun", "path", "entry_id"),
    [
        ("flavor", FLAVORS, "flavor-aaaabbbb"),
        ("flavor-type", FLAVOR_TYPES, "flavortype-aaaabbbb"),
        ("image", "/api/image/v1/images", "img-aaaabbbbccccdd"),
        ("token", TOKENS, "tok-aaaabbbbccccdd"),
        ("tenant", TENANTS, TENANT_ID),
        ("volume", "/api/ebs/v1/volumes", "volume-ab216551-d373-402f-b669-71a393b86235"),
        ("volume", "/api/ebs/v1/volumes", "2833"),
    ],
)
def test_what_is_named_by_id_is_deleted_in_one_call(
    coordinator: StandIn, nwctl: Nwctl, noun: str, path: str, entry_id: str
) -> None:
    coordinator.on("DELETE", f"{path}/{entry_id}")

    result = nwctl(noun, "delete", entry_id)

    assert (result.exit_code, entry_id in result.stderr, len(coordinator.requests)) == (0, True, 1)


def test_an_enrolment_token_is_all_that_goes_to_standard_output(coordinator: StandIn, nwctl: Nwctl) -> None:
    join = "nodewright-agent join --coordinator https://c:8443 --token nwe_new.ab"
    answer = {"token": "nwe_new.ab", "expiresAt": "2026-07-18T17:49:09.555Z", "joinCommand": join}
    coordinator.on("POST", "/api/ecs/v1/nodes/enrolment-tokens", answer)

    result = nwctl("node", "enrolment-token", "create", "--valid-for", "15m")

    assert (result.exit_code, result.stdout) == (0, "nwe_new.ab\n")
    assert join in result.stderr
    assert coordinator.requests[0].body == {"validForSeconds": 900}


@pytest.mark.parametrize("text", ["", "h", "1w", "-1h", "1.5h"])
def test_what_is_no_duration_is_a_usage_error(nwctl: Nwctl, text: str) -> None:
    assert nwctl("node", "enrolment-token", "create", "--valid-for", text).exit_code == 2


def test_a_tenant_is_created_with_the_limits_given(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("POST", TENANTS, {"tenantId": TENANT_ID, "name": "acme"})

    assert nwctl("tenant", "create", "--name", "acme", "--instances", "10", "--ram", "0").exit_code == 0
    assert coordinator.requests[0].body == {"name": "acme", "quota": {"instances": 10, "ram": 0}}


def test_limits_are_changed_and_lifted_one_by_one(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("GET", TENANTS, {"list": [{"tenantId": TENANT_ID, "name": "acme"}], "totalCount": 1})
    coordinator.on("PUT", f"{TENANTS}/{TENANT_ID}/quota")

    assert nwctl("tenant", "set-quota", "acme", "--gpus", "2", "--storage", "-1").exit_code == 0
    assert coordinator.requests[-1].body == {"gpus": 2, "storage": None}
    assert nwctl("tenant", "set-quota", "acme").exit_code == 2


@pytest.mark.parametrize(
    ("noun", "path", "entry"),
    [
        ("tenant", TENANTS, {"tenantId": TENANT_ID, "quota": {"instances": None}}),
        ("volume", "/api/ebs/v1/volumes", {"volumeUuid": "volume-ab216551-d373-402f-b669-71a393b86235"}),
    ],
)
def test_what_has_a_path_of_its_own_is_read_there(
    coordinator: StandIn, nwctl: Nwctl, noun: str, path: str, entry: dict[str, Any]
) -> None:
    entry_id = str(next(iter(entry.values())))
    coordinator.on("GET", f"{path}/{entry_id}", entry)

    assert data_of(nwctl(noun, "show", entry_id, "--json")) == entry
    assert entry_id in nwctl(noun, "show", entry_id).stdout


def test_a_volume_is_created_for_the_caller_or_the_tenant_named(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("POST", "/api/ebs/v1/volumes", {"volumeUuid": "volume-1", "volumeSize": 40})

    nwctl("volume", "create", "--name", "data", "--size", "40")
    nwctl("volume", "create", "--name", "data", "--size", "40", "--type", "ssd", "--tenant", TENANT_ID)

    own, other = coordinator.requests
    assert own.body == {"name": "data", "volumeSize": 40, "volumeType": "hdd", "diskBus": "virtio"}
    assert other.body == {
        "name": "data",
        "volumeSize": 40,
        "volumeType": "ssd",
        "diskBus": "virtio",
        "tenantId": TENANT_ID,
    }


def test_volumes_come_to_an_instance_and_leave_it(coordinator: StandIn, nwctl: Nwctl) -> None:
    path, ids = "/api/ecs/v1/instances/ecs-00000000000000", ["17", "18"]
    for action in ("attach", "detach"):
        coordinator.on("PUT", f"{path}/{action}-volumes", None)
    coordinator.on("PUT", "/api/ebs/v1/volumes/17/resize", None)
    coordinator.on("PUT", "/api/ebs/v1/volumes/17", {"name": "logs"})

    nwctl("volume", "attach", "ecs-00000000000000", *ids, "--delete-with-instance")
    nwctl("volume", "detach", "ecs-00000000000000", *ids)
    nwctl("volume", "resize", "17", "--size", "40")
    nwctl("volume", "rename", "17", "logs")

    attach, detach, resize, rename = (request.body for request in coordinator.requests)
    assert attach == [{"volumeId": one, "deleteOnTermination": True, "bootable": False} for one in ids]
    assert (detach, resize, rename) == ({"volumeUuids": ids}, {"volumeSize": 40}, {"name": "logs"})


def test_devices_are_listed_with_why_one_is_not_offered(coordinator: StandIn, nwctl: Nwctl) -> None:
    gpu: dict[str, Any] = {
        "id": "0000:3b:00.0",
        "kind": "gpu",
        "nodeName": "host-1",
        "product": "NVIDIA T4",
        "state": "withheld",
    }
    gpu |= {"size": 0, "numaNode": 1, "holders": [], "withheldReason": "used by domain somebody's"}
    held = gpu | {"state": "used", "withheldReason": "", "holders": [{"ecsId": "ecs-1"}, {"ecsId": "ecs-2"}]}
    gpu["attributes"] = {"vgpu_migration": "nvidia 550"}
    held["details"] = {"vgpuMigrationObstacle": "QEMU 7.2.0 moves none"}
    coordinator.on("GET", "/api/ecs/v1/nodes", {"list": [{"hostId": "node-1", "name": "host-1"}], "total": 1})
    coordinator.on("GET", "/api/ecs/v1/devices", {"list": [gpu, held], "total": 2})

    first, second = nwctl("devices", "--kind", "gpu", "--node", "host-1").stdout.splitlines()[1:]

    assert first.startswith("host-1")
    assert first.endswith("used by domain somebody's")
    assert "nvidia 550" in first
    assert "ecs-1, ecs-2" in second
    assert "QEMU 7.2.0 moves none" in second
    (request,) = coordinator.asked("GET", "/api/ecs/v1/devices")
    assert request.query["filter"] == "kind:eq:gpu|nodeId:eq:node-1"


def test_a_node_is_shown_by_name(coordinator: StandIn, nwctl: Nwctl) -> None:
    disks = [{"diskNum": 2, "localDiskType": "SSD", "localDiskInterface": "NVME"}]
    figures = {"volumeTypes": ["hdd"], "poolId": "p", "totalGib": 50, "freeGib": 40, "availableGib": 20}
    storages = [{**figures, "silentSince": "0001-01-01T00:00:00Z"}]
    second = {"hostId": "node-2", "name": "host-2", "hardDiskList": disks, "storages": storages}
    nodes = [{"hostId": "node-1", "name": "host-1"}, second]
    coordinator.on("GET", "/api/ecs/v1/nodes", {"list": nodes, "total": 2})

    assert data_of(nwctl("node", "show", "host-2", "--json"))["hostId"] == "node-2"
    shown = nwctl("node", "show", "host-2").stdout
    assert "2 SSD NVME" in shown
    assert "hdd: 20 of 50 GiB for new volumes, 40 GiB free (pool p)" in shown


def test_snapshots_are_taken_of_instances_and_gone_back_to(coordinator: StandIn, nwctl: Nwctl) -> None:
    path, snapshot_id = "/api/ecs/v1/snapshot", "ecs.snapshot-x7jz40yae9lrepr5"
    part = {"volumeUuid": "volume-ab216551-d373-402f-b669-71a393b86235", "volumeSize": 20}
    shown = {"ecsSnapshotId": snapshot_id, "ecsSnapshotName": "before", "volumeSnapshots": [part]}
    coordinator.on("GET", path, {"ecsSnapshots": [{**shown, "volumeSnapshots": None}], "totalCount": 1})
    coordinator.on("GET", f"{path}/{snapshot_id}", {"ecsSnapshots": [shown], "totalCount": 1})
    coordinator.on("POST", path, None)
    coordinator.on("POST", f"{path}/{snapshot_id}/rollback", None)
    coordinator.on("DELETE", f"{path}/{snapshot_id}", None)

    assert nwctl("snapshot", "create", "ecs-00000000000000", "--name", "before", "--no-quiesce").exit_code == 0
    assert coordinator.requests[-1].body == {
        "ecsId": "ecs-00000000000000",
        "snapshotName": "before",
        "description": "",
        "quiesce": False,
    }
    assert "(20 GiB)" in nwctl("snapshot", "show", "before").stdout
    assert snapshot_id in nwctl("snapshot", "list").stdout
    assert nwctl("snapshot", "rollback", snapshot_id, "--force").exit_code == 0
    assert coordinator.requests[-1].body == {"force": True}
    assert nwctl("snapshot", "delete", "before").exit_code == 0
