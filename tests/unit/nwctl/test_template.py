"""Launch templates on the command line."""

import base64
from pathlib import Path

import pytest

from tests.unit.nwctl.builders import INSTANCE_ID, an_instance
from tests.unit.nwctl.conftest import Nwctl, data_of
from tests.unit.nwctl.standin import StandIn

TEMPLATES, INSTANCES = "/api/ecs/v1/templates", "/api/ecs/v1/instances"
TEMPLATE_ID = "lt-" + "a" * 14
TEMPLATE = {"templateId": TEMPLATE_ID, "templateName": "web", "defaultVersion": 1, "currentVersion": 2}
PATH = f"{TEMPLATES}/{TEMPLATE_ID}"


@pytest.fixture
def cloud(coordinator: StandIn) -> StandIn:
    """A coordinator with one template."""
    coordinator.on("GET", TEMPLATES, {"templatelist": [TEMPLATE], "totalCount": 1})
    return coordinator


def test_a_template_is_made_of_an_instance(cloud: StandIn, nwctl: Nwctl) -> None:
    cloud.on("POST", f"{INSTANCES}/{INSTANCE_ID}/create-template", {"templateId": TEMPLATE_ID})
    made = nwctl("template", "create", INSTANCE_ID, "--name", "web", "--description", "of web", "--json")
    assert data_of(made) == {"templateId": TEMPLATE_ID}
    [request] = cloud.requests
    assert request.body == {"templateName": "web", "templateDesc": "of web"}
    assert request.headers["idempotency-key"]


def test_instances_are_made_of_a_template_by_its_name(cloud: StandIn, nwctl: Nwctl) -> None:
    cloud.on("POST", f"{INSTANCES}/batch-create", [an_instance()])
    assert INSTANCE_ID in nwctl("template", "launch", "web").stdout
    nwctl("template", "launch", "web", "--version", "2", "--name", "many", "--count", "3")
    plain, full = cloud.asked("POST", f"{INSTANCES}/batch-create")
    assert plain.body == {"launchTemplateId": TEMPLATE_ID, "ecsCount": 1}
    assert full.body == {
        "launchTemplateId": TEMPLATE_ID,
        "launchTemplateVersion": 2,
        "displayName": "many",
        "ecsCount": 3,
    }
    assert nwctl("template", "launch", "web", "--count", "51").exit_code == 2
    cloud.on("POST", f"{INSTANCES}/batch-create", [an_instance(status="ErrorUnschedulable", errMessage="no room")])
    assert nwctl("template", "launch", "web").exit_code == 6


def test_a_template_and_its_versions_are_shown(cloud: StandIn, nwctl: Nwctl) -> None:
    cloud.on("GET", PATH, TEMPLATE | {"version": 1, "ram": 1 << 30})
    versions = {"list": [{"version": 2, "isDefault": False}, {"version": 1, "isDefault": True}], "totalCount": 2}
    cloud.on("GET", f"{PATH}/versions", versions)
    assert "1 GiB" in nwctl("template", "show", TEMPLATE_ID, "--version", "1").stdout
    assert cloud.requests[-1].query == {"version": "1"}
    assert len(nwctl("template", "versions", "web").stdout.splitlines()) == 3


def test_a_template_is_changed(cloud: StandIn, nwctl: Nwctl, tmp_path: Path) -> None:
    for name in ("name", "userdata", "default-version"):
        cloud.on("PUT", f"{PATH}/{name}")
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    assert nwctl("template", "rename", "web", "other").exit_code == 0
    assert nwctl("template", "set-user-data", "web", str(script)).exit_code == 0
    assert nwctl("template", "set-default", "web", "2").exit_code == 0
    bodies = [request.body for request in cloud.requests if request.method == "PUT"]
    user_data = base64.b64encode(b"#!/bin/sh\n").decode()
    assert bodies == [{"templateName": "other"}, {"userData": user_data}, {"version": 2}]


def test_templates_are_deleted_together(cloud: StandIn, nwctl: Nwctl) -> None:
    cloud.on("POST", f"{TEMPLATES}/batch-delete")
    assert nwctl("template", "delete", "web", "lt-" + "b" * 14).exit_code == 0
    assert cloud.requests[-1].body == {"templateIdList": [TEMPLATE_ID, "lt-" + "b" * 14]}
    assert nwctl("template", "delete", "nobody").exit_code == 4
