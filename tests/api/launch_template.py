"""Launch templates as tests make and use them."""

import base64
from typing import Any

from coordinator.store.tables import Instance
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud, a_network, an_os_disk

TEMPLATES = "/api/ecs/v1/templates"
NO_DATA = "ECS.DBGet.NoData"
INVALID = "ECS.InvalidParameter"
PASSWORD = "Secret-of-one-1"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBhUbqBMBCTHnDw0P8iGAmxNTVfMVXGzj0JeMhfCsGpd someone"


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def order_instance(customer: Api, cloud: Cloud) -> str:
    """An instance with everything that can be ordered."""
    order = cloud.order(
        hostName="own-name",
        description="serves",
        volumes=[an_os_disk(), {"volumeSize": 7, "volumeType": "hdd", "diskBus": "scsi"}],
        networks=[a_network(fixedIp="10.80.0.77", ipType="fixedIp", macAddress="52:54:00:00:00:77")],
        password=PASSWORD,
        vncPassword="vnc-own",
        sshPublicKeys=[KEY],
        userData=encode("#cloud-config\n"),
        vmLabels=[{"key": "team", "value": "web"}],
        haEnabled=True,
        haPriority=7,
        evictionStrategy="None",
        bCreateOrder=True,
    )
    return str(customer.ok("POST", INSTANCES, order)["ecsId"])


def create(api: Api, ecs_id: str, name: str = "web", **fields: Any) -> str:
    body = {"templateName": name, **fields}
    return str(api.ok("POST", f"{INSTANCES}/{ecs_id}/create-template", body)["templateId"])


def launch(api: Api, template_id: str, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = api.ok("POST", INSTANCES, {"launchTemplateId": template_id, **fields})
    return made


def row_of(cloud: Cloud, ecs_id: str) -> Instance:
    found: Instance = next(row for row in cloud.rows(Instance) if row.ecs_id == ecs_id)
    return found
