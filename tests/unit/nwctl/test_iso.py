"""ISO images in drives of instances."""

import pytest

from tests.unit.nwctl.builders import INSTANCE_ID, OPERATION_ID, an_instance, an_operation
from tests.unit.nwctl.conftest import Nwctl
from tests.unit.nwctl.standin import Reply, StandIn

IMAGE_ID = "img-" + "a" * 14
PATH = f"/api/ecs/v1/instances/{INSTANCE_ID}"
ACCEPTED = Reply(None, headers={"x-operation-id": OPERATION_ID})


@pytest.fixture
def cloud(coordinator: StandIn) -> StandIn:
    coordinator.on("GET", "/api/ecs/v1/instances", {"virtualMachines": [an_instance()], "totalCount": 1})
    coordinator.on("GET", "/api/image/v1/images", {"list": [{"imageId": IMAGE_ID, "name": "netinst"}], "totalCount": 1})
    coordinator.on("GET", f"/api/ecs/v1/operations/{OPERATION_ID}", an_operation())
    return coordinator


def test_isos_come_and_go(cloud: StandIn, nwctl: Nwctl) -> None:
    for action in ("attach-iso", "detach-iso", "attach-vmtools"):
        cloud.on("PUT", f"{PATH}/{action}", ACCEPTED)
    assert nwctl("iso", "attach", "web", "netinst", IMAGE_ID, "--wait").exit_code == 0
    assert [request.body for request in cloud.asked("PUT", f"{PATH}/attach-iso")] == [[{"imageId": IMAGE_ID}] * 2]
    assert nwctl("iso", "detach", "web", "netinst", "--wait").exit_code == 0
    assert nwctl("iso", "detach", "web", "--force", "--wait").exit_code == 0
    asked = [(request.body, request.query) for request in cloud.asked("PUT", f"{PATH}/detach-iso")]
    assert asked == [([{"imageId": IMAGE_ID}], {}), ([], {"force": "true"})]
    assert nwctl("iso", "attach-tools", "web", "--wait").exit_code == 0
    assert len(cloud.asked("PUT", f"{PATH}/attach-vmtools")) == 1


def test_what_is_in_the_drives_is_listed(cloud: StandIn, nwctl: Nwctl) -> None:
    iso = {"imageId": IMAGE_ID, "imageName": "netinst", "status": "attached", "bootState": False}
    cloud.on("GET", f"{PATH}/attached-iso", [iso])
    assert "netinst" in nwctl("iso", "list", "web").stdout
