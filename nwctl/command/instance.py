"""`nwctl instance`: virtual machines."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nwctl.binding import command, noun
from nwctl.error import UsageError
from nwctl.option import Page, Waiting
from nwctl.output import Column, joined, moment, size, status
from nwctl.resource import Resource
from nwctl.session import Session

INSTANCE = Resource(
    noun="instance",
    path="/api/ecs/v1/instances",
    id_field="ecsId",
    id_pattern="ecs-[a-z0-9]{14}",
    rows_field="virtualMachines",
    name_field="displayName",
    columns=(
        Column("ID", "ecsId"),
        Column("Name", "displayName"),
        Column("Status", "status", status),
        Column("vCPUs", "vCpus"),
        Column("Memory", "ram", size),
        Column("Addresses", "networkMappings", joined("ipv4Address")),
        Column("Image", "image.name"),
        Column("Node", "nodeName"),
        Column("Created", "createdAt", moment),
    ),
    details=(
        Column("Task", "taskStatus", status),
        Column("Error", "errMessage"),
        Column("Description", "description"),
        Column("Host name", "hostName"),
        Column("Flavor", "flavor.name"),
        Column("Flavor ID", "flavorId"),
        Column("Image ID", "imageId"),
        Column("Arch", "cpuArch"),
        Column("Zone", "az"),
        Column("Tenant", "tenantName"),
        Column("Disks", "blockDeviceMappings", joined("name", "volumeUuid", "volumeSize", "volumeType")),
        Column("GPUs", "hostGPUs", joined("number", "product")),
        Column("vGPUs", "vgpus", joined("name", "gpuId")),
        Column("USB", "usbMappings", joined("name")),
        Column("InfiniBand", "ibNics", joined("id", "product")),
        Column("Virtual functions", "sriov"),
        Column("Ports", "networkMappings", joined("portId", "macAddress")),
        Column("Labels", "vmLabels", joined("key", "value")),
        Column("Guest agent", "vmtoolsStatus.status"),
        Column("Locked", "isLock"),
        Column("Updated", "updatedAt", moment),
    ),
)

app = noun("instance", "Instances: virtual machines.")
Reference = Annotated[str, typer.Argument(metavar="INSTANCE", help="Id or name.", autocompletion=INSTANCE.complete)]
References = Annotated[
    list[str], typer.Argument(metavar="INSTANCE...", help="Ids or names.", autocompletion=INSTANCE.complete)
]
_EXPORTED = "displayName,ecsId,tenant,department,status,privateIp,az,vcpu,ram,flavor,osInfo,createTime"
Force = Annotated[bool, typer.Option("--force", help="Cut the power instead of asking the guest.")]


@command(app, "list")
def list_instances(session: Session, page: Page) -> None:
    """List the instances."""
    session.show_list(INSTANCE, page)


@command(app, "show")
def show_instance(session: Session, instance: Reference) -> None:
    """Show one instance."""
    instance_id = INSTANCE.find_id(session.client, instance)
    session.show(INSTANCE, session.client.get(INSTANCE.at(instance_id)).data)


@command(app, "export")
def export_instances(
    session: Session,
    file: Annotated[Path, typer.Argument(help="Where the workbook (xlsx) goes.")],
    columns: Annotated[str, typer.Option(help="Columns in their order, separated by commas.")] = _EXPORTED,
    status: Annotated[list[str] | None, typer.Option(help="Only those in this status; can be repeated.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only those with this label, key or key=value.")] = None,
) -> None:
    """Write a table of the instances for spreadsheets."""
    wanted = {"status": status or [], "vmLabels": label or []}
    content, _ = session.client.make_file(f"{INSTANCE.path}/export", {"exportItem": columns, "filterParams": wanted})
    file.write_bytes(content)
    session.output.note(f"Wrote {file}")


@command(app, "clone")
def clone_instance(
    session: Session,
    instance: Reference,
    name: Annotated[str, typer.Argument(help="Of the clone, 1 to 127 characters.")],
    waiting: Waiting,
) -> None:
    """Make an instance with copies of another one's disks, which may run meanwhile, and an identity of its own."""
    instance_id = INSTANCE.find_id(session.client, instance)
    source = session.client.get(INSTANCE.at(instance_id)).data
    answer = session.client.create(f"{INSTANCE.at(instance_id)}/clone", _clone_of(source, name))
    session.conclude(answer, waiting, f"Cloning {instance_id} as {answer.data['ecsId']}")


def _clone_of(source: dict[str, Any], name: str) -> dict[str, Any]:
    ports = source["networkMappings"]
    same = ("tenantId", "departmentId", "resourceGroupId", "region", "az", "flavorId", "billingMode")
    return {
        **{field: source[field] for field in same},
        "displayName": name,
        "sourceEcsId": source["ecsId"],
        "isClone": True,
        "archType": source["cpuArch"],
        "cpus": source["vCpus"],
        "memory": {"amount": f"{source['ram'] // 2**20}Mi"},
        "networks": [
            {field: port[field] for field in ("vpcId", "subnetId", "portType", "networkType")} for port in ports
        ],
        "secGroupList": [port["secGroupSpec"] for port in ports][:1],
    }


@command(app, "delete")
def delete_instances(
    session: Session,
    instances: References,
    waiting: Waiting,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete instances and the disks that go with them; `nwctl bin` has them for a time if it is on."""
    ids = [INSTANCE.find_id(session.client, instance) for instance in instances]
    if sys.stdin.isatty() and not yes:
        typer.confirm(f"Delete {', '.join(instances)} with their disks?", abort=True, err=True)
    if len(ids) == 1:
        answer = session.client.change("DELETE", INSTANCE.at(ids[0]))
    else:
        answer = session.client.change("DELETE", f"{INSTANCE.path}/batch-delete", {"ecsIds": ids})
    session.conclude(answer, waiting, f"Deleted {' '.join(ids)}")


@command(app, "start")
def start_instances(session: Session, instances: References, waiting: Waiting) -> None:
    """Start stopped instances."""
    change_power(session, instances, "start", waiting)


@command(app, "stop")
def stop_instances(session: Session, instances: References, waiting: Waiting, force: Force = False) -> None:
    """Stop instances: the guest is asked, and the operation fails if it does not comply."""
    change_power(session, instances, "stop", waiting, grace(force))


@command(app, "restart")
def restart_instances(session: Session, instances: References, waiting: Waiting, force: Force = False) -> None:
    """Restart instances: the guest is asked, and the operation fails if it does not comply."""
    change_power(session, instances, "restart", waiting, grace(force))


@command(app, "suspend")
def suspend_instance(session: Session, instance: Reference, waiting: Waiting) -> None:
    """Halt an instance's processors; its memory stays."""
    change_power(session, [instance], "suspend", waiting)


@command(app, "resume")
def resume_instance(session: Session, instance: Reference, waiting: Waiting) -> None:
    """Let a suspended instance run on."""
    change_power(session, [instance], "resume", waiting)


@command(app, "rename")
def rename_instance(
    session: Session, instance: Reference, name: Annotated[str, typer.Argument(help="1 to 127 characters.")]
) -> None:
    """Change the name that lists show; the guest keeps its host name."""
    change_property(session, instance, "reset-name", {"displayname": name}, f"is now named {name}")


@command(app, "describe")
def describe_instance(
    session: Session, instance: Reference, description: Annotated[str, typer.Argument(help="Any text.")]
) -> None:
    """Change the description."""
    change_property(session, instance, "description", {"description": description}, "has a new description")


@command(app, "label")
def label_instance(
    session: Session,
    instance: Reference,
    labels: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="At most five; none removes all.")
    ] = None,
) -> None:
    """Replace the labels by those given."""
    change_property(session, instance, "label", labels_of(labels or []), "has the labels given")


@command(app, "lock")
def lock_instance(session: Session, instance: Reference) -> None:
    """Refuse every change of an instance until it is unlocked."""
    change_property(session, instance, "lock", {"isLock": True}, "is locked")


@command(app, "unlock")
def unlock_instance(session: Session, instance: Reference) -> None:
    """Admit changes again."""
    change_property(session, instance, "lock", {"isLock": False}, "is unlocked")


def grace(force: bool) -> dict[str, int]:
    """The grace period as the API wants it: 0 cuts the power, anything else asks the guest."""
    return {"gracePeriodSeconds": 0 if force else 1}


def change_power(
    session: Session, instances: list[str], verb: str, waiting: Waiting, body: dict[str, Any] | None = None
) -> None:
    """Asks for a change of power, of several instances in one call."""
    ids = [INSTANCE.find_id(session.client, instance) for instance in instances]
    if len(ids) == 1:
        answer = session.client.change("PUT", f"{INSTANCE.at(ids[0])}/{verb}", body)
    else:
        answer = session.client.change("PUT", f"{INSTANCE.path}/batch-{verb}", {"ecsIds": ids, **(body or {})})
    session.conclude(answer, waiting, f"Done: {verb} {' '.join(ids)}")


def change_property(session: Session, instance: str, leaf: str, body: Any, done: str) -> None:
    """Sets a property at once."""
    instance_id = INSTANCE.find_id(session.client, instance)
    answer = session.client.change("PUT", f"{INSTANCE.at(instance_id)}/{leaf}", body)
    session.report(answer.data, f"{instance_id} {done}")


def labels_of(pairs: list[str]) -> list[dict[str, str]]:
    """The API's labels from KEY=VALUE pairs."""
    if unpaired := [pair for pair in pairs if "=" not in pair]:
        raise UsageError(f"a label is KEY=VALUE, not {unpaired[0]!r}")
    return [dict(zip(("key", "value"), pair.split("=", 1), strict=True)) for pair in pairs]
