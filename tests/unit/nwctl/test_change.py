"""What makes something else of an instance: its size, its system, from what it starts."""

import pytest

from tests.unit.nwctl.builders import INSTANCE_ID, OPERATION_ID, a_failed_operation, an_instance, an_operation
from tests.unit.nwctl.conftest import Nwctl
from tests.unit.nwctl.standin import Reply, StandIn

FLAVOR_ID, IMAGE_ID, POOL_ID = "flavor-aaaabbbb", "img-" + "a" * 14, "rp-" + "a" * 14
PATH = f"/api/ecs/v1/instances/{INSTANCE_ID}"
FLAVOR = {"flavorId": FLAVOR_ID, "name": "large", "cpu": 4, "ram": 8}
ACCEPTED = Reply(None, headers={"x-operation-id": OPERATION_ID})


@pytest.fixture
def cloud(coordinator: StandIn) -> StandIn:
    coordinator.on("GET", "/api/ecs/v1/instances", {"virtualMachines": [an_instance()], "totalCount": 1})
    coordinator.on("GET", "/api/ecs/v1/flavors", {"flavors": [FLAVOR], "totalCount": 1})
    coordinator.on("GET", f"/api/ecs/v1/flavors/{FLAVOR_ID}", FLAVOR)
    coordinator.on("GET", "/api/image/v1/images", {"list": [{"imageId": IMAGE_ID, "name": "debian"}], "totalCount": 1})
    coordinator.on("GET", f"/api/ecs/v1/operations/{OPERATION_ID}", an_operation(), a_failed_operation())
    coordinator.on("PATCH", PATH, ACCEPTED)
    for method, action in (("POST", "change-os"), ("PUT", "set-boot-order")):
        coordinator.on(method, f"{PATH}/{action}", ACCEPTED)
    return coordinator


@pytest.mark.parametrize(
    ("options", "cpus", "amount"), [((), 4, "8Gi"), (("--cpus", "3", "--memory", "5Gi"), 3, "5Gi")]
)
def test_a_size_is_the_flavors_unless_another_is_given(
    cloud: StandIn, nwctl: Nwctl, options: tuple[str, ...], cpus: int, amount: str
) -> None:
    assert nwctl("instance", "resize", "web", FLAVOR_ID, "--pool", POOL_ID, *options, "--wait").exit_code == 0
    [asked] = cloud.asked("PATCH", PATH)
    assert asked.body == {"flavorId": FLAVOR_ID, "cpus": cpus, "memory": {"amount": amount}, "rpId": POOL_ID}
    # The next operation fails, and that is the end of the command.
    assert nwctl("instance", "resize", "web", FLAVOR_ID, "--wait").exit_code == 6
    assert nwctl("instance", "resize", "web", FLAVOR_ID, "--cpus", "0").exit_code == 2
    assert len(cloud.asked("PATCH", PATH)) == 2


def test_devices_are_changed_with_the_size(cloud: StandIn, nwctl: Nwctl) -> None:
    counts = ("--gpus", "2", "--gpu-type", "10de1eb8", "--vgpus", "0", "--local-disks", "1", "--virtual-functions", "3")
    for options in ((*counts, "--infiniband", "15b3:1021", "--infiniband", ""), ("--no-infiniband",)):
        assert nwctl("instance", "resize", "web", FLAVOR_ID, *options).exit_code == 0
    all_of_them, none = (request.body for request in cloud.asked("PATCH", PATH))
    named, anything = {"vendorId": "15b3", "productId": "1021"}, {"vendorId": "", "productId": ""}
    expected = {
        "hostGpus": {"number": 2, "gpuType": "10de1eb8"},
        "vgpus": 0,
        "localDisk": 1,
        "sriov": 3,
        "networks": [{"networkType": "IBNic", **named}, {"networkType": "IBNic", **anything}],
    }
    assert {name: value for name, value in all_of_them.items() if name in expected} == expected
    assert (none["networks"], "sriov" in none, "hostGpus" in none) == ([], False, False)
    for wrong in (("--gpu-type", "10de1eb8"), ("--infiniband", "", "--no-infiniband"), ("--gpus", "-1")):
        assert nwctl("instance", "resize", "web", FLAVOR_ID, *wrong).exit_code == 2


def test_a_system_is_changed(cloud: StandIn, nwctl: Nwctl) -> None:
    assert nwctl("instance", "change-os", "web", "--wait").exit_code == 0
    done = nwctl("instance", "change-os", "web", "--image", "debian", "--user", "admin", stdin="secret\n")
    assert done.exit_code == 0
    bodies = [request.body for request in cloud.asked("POST", f"{PATH}/change-os")]
    assert bodies == [
        {"imageId": "", "user": "", "password": ""},
        {"imageId": IMAGE_ID, "user": "admin", "password": "secret"},
    ]


def test_what_an_instance_starts_from_is_chosen(cloud: StandIn, nwctl: Nwctl) -> None:
    assert nwctl("instance", "boot-order", "web", "--iso", "debian", "--wait").exit_code == 0
    assert nwctl("instance", "boot-order", "web").exit_code == 0
    bodies = [request.body for request in cloud.asked("PUT", f"{PATH}/set-boot-order")]
    assert bodies == [{"bootMode": 1, "bootId": IMAGE_ID}, {"bootMode": 0}]
