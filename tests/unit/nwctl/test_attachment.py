"""Devices: bound to instances, taken away, and the mode of GPUs."""

from typing import Any

import pytest

from tests.unit.nwctl.builders import INSTANCE_ID, OPERATION_ID, an_instance, an_operation
from tests.unit.nwctl.conftest import Nwctl
from tests.unit.nwctl.standin import Reply, StandIn

USB = "/api/ecs/v1/usb"
INSTANCES = "/api/ecs/v1/instances"
NODES = "/api/ecs/v1/nodes"
ACCEPTED = Reply(None, headers={"x-operation-id": OPERATION_ID})


@pytest.fixture
def cloud(coordinator: StandIn) -> StandIn:
    coordinator.on("GET", INSTANCES, {"virtualMachines": [an_instance()], "totalCount": 1})
    coordinator.on("GET", f"/api/ecs/v1/operations/{OPERATION_ID}", an_operation())
    return coordinator


@pytest.mark.parametrize(
    ("words", "method", "path", "body"),
    [
        (("usb", "bind"), "POST", f"{USB}/{INSTANCE_ID}/bind", [{"name": "host-1-1-4"}, {"name": "host-1-1-5"}]),
        (("usb", "unbind"), "DELETE", f"{USB}/{INSTANCE_ID}/unbind", [{"name": "host-1-1-4"}, {"name": "host-1-1-5"}]),
        (
            ("instance", "attach-disk"),
            "PUT",
            f"{INSTANCES}/{INSTANCE_ID}/attach-localdisks",
            [{"diskName": "host-1-1-4"}, {"diskName": "host-1-1-5"}],
        ),
        (
            ("instance", "detach-disk"),
            "PUT",
            f"{INSTANCES}/{INSTANCE_ID}/detach-localdisks",
            [{"diskName": "host-1-1-4"}, {"diskName": "host-1-1-5"}],
        ),
    ],
)
def test_devices_come_and_go(
    cloud: StandIn, nwctl: Nwctl, words: tuple[str, str], method: str, path: str, body: list[dict[str, Any]]
) -> None:
    cloud.on(method, path, ACCEPTED)
    done = nwctl(*words, "web", "host-1-1-4", "host-1-1-5", "--wait")
    assert done.exit_code == 0
    assert "host-1-1-4, host-1-1-5" in done.stderr + done.stdout
    assert [request.body for request in cloud.asked(method, path)] == [body]


def test_that_another_one_is_as_good_is_said(cloud: StandIn, nwctl: Nwctl) -> None:
    path = f"{USB}/{INSTANCE_ID}/bind"
    cloud.on("POST", path, ACCEPTED)
    assert nwctl("usb", "bind", "web", "host-1-1-4", "--replaceable").exit_code == 0
    assert [request.body for request in cloud.asked("POST", path)] == [[{"name": "host-1-1-4", "replaceable": True}]]


def test_usb_devices_are_listed(cloud: StandIn, nwctl: Nwctl) -> None:
    stick = {"name": "host-1-1-4", "status": "inuse", "product": "DataTraveler", "productDescribe": "0951:1666"}
    cloud.on("GET", USB, [{**stick, "serialNumber": "KX1", "withheldReason": ""}])
    shown = nwctl("usb", "list", "--instance", "web", "--node", "host-1").stdout
    assert "DataTraveler" in shown
    assert [request.query for request in cloud.asked("GET", USB)] == [{"ecsId": INSTANCE_ID, "nodeName": "host-1"}]


def test_the_mode_of_gpus_is_set(cloud: StandIn, nwctl: Nwctl) -> None:
    node = {"hostId": "node-" + "a" * 14, "name": "host-1", "cell": "cell0", "hostIp": "192.0.2.1"}
    cloud.on("GET", NODES, {"list": [node], "total": 1})
    cloud.on("PUT", "/api/ecs/v1/devices/release", ACCEPTED)
    assert nwctl("node", "release-device", "host-1", "wwn-1", "--wait").exit_code == 0
    [forced] = cloud.asked("PUT", "/api/ecs/v1/devices/release")
    assert forced.body == {"cell": "cell0", "name": "host-1", "deviceId": "wwn-1"}
    cloud.on("PUT", f"{NODES}/gpu-mode", ACCEPTED)
    assert nwctl("node", "gpu-mode", "host-1", "nvidia-223", "--wait").exit_code == 0
    [request] = cloud.asked("PUT", f"{NODES}/gpu-mode")
    assert request.body == {"cell": "cell0", "name": "host-1", "gpuMode": "nvidia-223"}
