"""`nwctl instance create`: what the options leave open is looked up, for the API wants everything spelt out."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from nwctl.binding import command
from nwctl.client import Client
from nwctl.command.deployment_set import DEPLOYMENT_SET
from nwctl.command.flavor import FLAVOR
from nwctl.command.host_group import HOST_GROUP
from nwctl.command.image import IMAGE
from nwctl.command.instance import INSTANCE, app, labels_of
from nwctl.command.network import SECURITY_GROUP, SUBNET
from nwctl.command.node import NODE
from nwctl.command.pool import POOL
from nwctl.command.ssh_key import SSH_KEY
from nwctl.command.tenant import TENANT, find_owner
from nwctl.error import OperationFailed, UsageError
from nwctl.option import Waiting
from nwctl.output import Column
from nwctl.resource import Entry, Resource, only
from nwctl.secret import read_secret
from nwctl.session import Session

DIFFERENCES = "/api/ecs/v1/placement/differences"
REGIONS = "/api/ecs/v1/service-region-info"

HOST_COLUMNS = (
    Column("NODE", "nodeName"),
    Column("FITS", "accepted"),
    Column("SCORE", "score"),
    Column("FILTER", "filter"),
    Column("REASON", "reason"),
    Column("WANTED", "wanted"),
    Column("AVAILABLE", "available"),
)
DIFFERENCE_COLUMNS = (
    Column("KIND", "kind"),
    Column("NODE", "nodeName"),
    Column("NAME", "name"),
    Column("UUID", "consumerUuid"),
    Column("MEANING", "meaning"),
)
REJECTION_COLUMNS = (
    Column("HOSTS", "count"),
    Column("FILTER", "filter"),
    Column("REASON", "reason"),
    Column("WANTED", "wanted"),
    Column("AT MOST", "available"),
)


@dataclass(frozen=True)
class Shape:
    """What is asked for."""

    name: Annotated[str, typer.Option(help="1 to 127 characters; several get -1, -2 and so on.")]
    flavor: Annotated[str, typer.Option(help="Id or name.", autocompletion=FLAVOR.complete)]
    image: Annotated[str, typer.Option(help="Id or name.", autocompletion=IMAGE.complete)]
    count: Annotated[int, typer.Option(min=1, max=50, help="How many: all of them or none.")] = 1
    volume_size: Annotated[int, typer.Option(metavar="GIB", help="System disk.")] = 20
    volume_type: Annotated[str, typer.Option(help="Its volume type.")] = "hdd"
    description: Annotated[str, typer.Option(help="Any text.")] = ""
    labels: Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Label.")] = None

    def body(self, client: Client) -> dict[str, Any]:
        """Its part of the request."""
        flavor, image = FLAVOR.find(client, self.flavor), IMAGE.find(client, self.image)
        family = flavor["flavorType"]
        device = {"gpu": "gpus", "vgpu": "vgpu"}.get(family["deviceType"])
        return {
            "displayName": self.name,
            "description": self.description,
            "ecsCount": self.count,
            "flavorId": flavor["flavorId"],
            "cpus": flavor["cpu"],
            "memory": {"amount": f"{flavor['ram']}Gi"},
            "archType": family["archType"],
            "image": {"imageUid": image["imageId"]},
            "imageSource": image.get("visibility"),
            "volumes": [system_disk(self.volume_size, self.volume_type)],
            "vmLabels": labels_of(self.labels or []),
            "billingMode": "OnDemand",
            **({device: flavor["gpu"]} if device else {}),
        }


@dataclass(frozen=True)
class Access:
    """How people get in."""

    password: Annotated[bool, typer.Option("--password", help="Ask for a password, or read standard input.")] = False
    ssh_keys: Annotated[
        list[Path] | None,
        typer.Option("--ssh-key-file", exists=True, dir_okay=False, help="Public keys, one a line."),
    ] = None
    ssh_key: Annotated[str, typer.Option(help="Id or name of a stored SSH key.", autocompletion=SSH_KEY.complete)] = ""
    user_data: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Script or #cloud-config for the first boot.")
    ] = None
    host_name: Annotated[str, typer.Option(help="By default made from the name.")] = ""

    def body(self) -> dict[str, Any]:
        """Its part of the request."""
        given: dict[str, Any] = {"hostName": self.host_name}
        if self.password:
            given["password"] = read_secret("Password", confirm=True)
        if self.ssh_keys:
            given["sshPublicKeys"] = [key for file in self.ssh_keys for key in public_keys(file)]
        if self.ssh_key:
            given["keyPairId" if SSH_KEY.is_id(self.ssh_key) else "keyPairName"] = self.ssh_key
        if self.user_data:
            given["userData"] = base64.b64encode(self.user_data.read_bytes()).decode()
        return {name: value for name, value in given.items() if value}


@dataclass(frozen=True)
class Place:
    """Whose it is and where it goes."""

    tenant: Annotated[str, typer.Option(help="Owner, for operators, id or name.", autocompletion=TENANT.complete)] = ""
    department: Annotated[str, typer.Option(help="By default the tenant's first.")] = ""
    resource_group: Annotated[str, typer.Option(help="Id of a resource group.")] = ""
    zone: Annotated[str, typer.Option(help="By default the region's first.")] = ""
    node: Annotated[str, typer.Option(help="Id or name of the node it must run on.", autocompletion=NODE.complete)] = ""
    pool: Annotated[str, typer.Option(help="Id or name of a resource pool.", autocompletion=POOL.complete)] = ""
    host_group: Annotated[
        str, typer.Option(help="Id or name of the host group to run in.", autocompletion=HOST_GROUP.complete)
    ] = ""
    deployment_set: Annotated[
        str, typer.Option(help="Id or name of the deployment set to join.", autocompletion=DEPLOYMENT_SET.complete)
    ] = ""

    def body(self, client: Client, region: str) -> dict[str, Any]:
        """Its part of the request."""
        tenant_id, department_id = find_owner(client, self.tenant, self.department)
        regions = client.ask(REGIONS, {"tenantId": tenant_id, "departmentId": department_id}).data
        found = next((item for item in regions if region in ("", item["regionId"])), None)
        if not found or not (self.zone or found["azList"]):
            raise UsageError(f"region {region!r} has no zone yet; give --zone, or join a node")
        return {
            "tenantId": tenant_id,
            "departmentId": department_id,
            "resourceGroupId": self.resource_group,
            "region": found["regionId"],
            "az": self.zone or found["azList"][0]["azId"],
            **({"hostId": NODE.find_id(client, self.node)} if self.node else {}),
            **({"rpId": POOL.find_id(client, self.pool)} if self.pool else {}),
            **({"hgId": HOST_GROUP.find_id(client, self.host_group)} if self.host_group else {}),
            **({"deploymentSet": DEPLOYMENT_SET.find_id(client, self.deployment_set)} if self.deployment_set else {}),
        }


@dataclass(frozen=True)
class Network:
    """How it is connected."""

    subnet: Annotated[
        str, typer.Option(help="Id or name; by default the default subnet.", autocompletion=SUBNET.complete)
    ] = ""
    fixed_ip: Annotated[str, typer.Option(help="Address to have; by default the next free one.")] = ""
    security_group: Annotated[str, typer.Option(help="Id or name; by default the default group.")] = ""

    def body(self, client: Client) -> dict[str, Any]:
        """Its part of the request."""
        subnet = chosen(SUBNET, client, self.subnet, "--subnet")
        group = chosen(SECURITY_GROUP, client, self.security_group, "--security-group")
        address = {"ipType": "fixedIp", "fixedIp": self.fixed_ip} if self.fixed_ip else {"ipType": "dhcp"}
        port = {"vpcId": subnet["vpcId"], "subnetId": subnet["subnetId"], "portType": "Primary"}
        return {"networks": [{**port, **address}], "secGroupList": [group["securityGroupId"]]}


@command(app, "create")
def create_instances(
    session: Session, shape: Shape, access: Access, place: Place, network: Network, waiting: Waiting
) -> None:
    """Create instances; what is not given is looked up."""
    body = {**order_of(session, shape, place, network), **access.body()}
    create_all(session, body, waiting)


def create_all(session: Session, body: dict[str, Any], waiting: Waiting) -> None:
    """Creates what the request says and shows it; OperationFailed for what finds no host."""
    answer = session.client.create(f"{INSTANCE.path}/batch-create", body)
    created: list[Entry] = answer.data
    if session.settle(answer, waiting):
        created = [session.client.get(INSTANCE.at(item["ecsId"])).data for item in created]
    session.show_rows(INSTANCE.columns, created, created)
    refusals = [item for item in created if str(item["status"]).startswith("Err")]
    if refusals:
        raise OperationFailed("\n".join(f"{item['ecsId']}: {item['errMessage']}" for item in refusals))


def explain_order(session: Session, shape: Shape, place: Place, network: Network) -> None:
    """Tell where instances would go now, and why; creates nothing. Takes the options of `instance create`."""
    told = session.client.ask(f"{INSTANCE.path}/explain-placement", order_of(session, shape, place, network)).data
    if told["hosts"] is None:
        session.show_rows(REJECTION_COLUMNS, told["rejections"], told)
    else:
        session.show_rows(HOST_COLUMNS, told["hosts"], told)
    if not told["placeable"]:
        raise OperationFailed(told["summary"])


def list_differences(session: Session) -> None:
    """List where allocations, instances and what nodes report do not agree; exit status 6 when there is anything."""
    found = session.client.get(DIFFERENCES).data
    session.show_rows(DIFFERENCE_COLUMNS, found, found)
    if found:
        raise OperationFailed(f"{len(found)} differences")


def order_of(session: Session, shape: Shape, place: Place, network: Network) -> dict[str, Any]:
    """The request that the options stand for, without what lets people in."""
    return {
        **shape.body(session.client),
        **place.body(session.client, session.settings.region),
        **network.body(session.client),
    }


def system_disk(size_gib: int, volume_type: str) -> dict[str, Any]:
    """The disk that the image is written to; it goes with its instance."""
    return {
        "isOsDisk": True,
        "bootIndex": 1,
        "volumeSize": size_gib,
        "volumeType": volume_type,
        "diskBus": "virtio",
        "volumeMode": "Block",
        "deleteOnTermination": True,
    }


def public_keys(file: Path) -> list[str]:
    """The keys in an authorized_keys or .pub file."""
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def chosen(resource: Resource, client: Client, reference: str, option: str) -> Entry:
    """The entry that is named, else the default one, else the only one."""
    if reference:
        return resource.find(client, reference)
    entries = list(resource.entries(client))
    return only(resource, [entry for entry in entries if entry.get("isDefault")] or entries, option)
