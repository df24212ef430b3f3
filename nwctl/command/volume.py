"""`nwctl volume`: disks."""

from typing import Annotated

import typer

from nwctl.binding import command, noun
from nwctl.command.instance import INSTANCE
from nwctl.command.instance import Reference as Instance
from nwctl.command.tenant import TENANT
from nwctl.option import Page, Waiting
from nwctl.output import Column, gibibytes, moment, status
from nwctl.resource import Resource
from nwctl.session import Session

VOLUME = Resource(
    noun="volume",
    path="/api/ebs/v1/volumes",
    id_field="volumeUuid",
    id_pattern=r"volume-[0-9a-f-]{36}|\d+",
    columns=(
        Column("ID", "volumeUuid"),
        Column("Number", "volumeId"),
        Column("Name", "name"),
        Column("Size", "volumeSize", gibibytes),
        Column("Type", "volumeType"),
        Column("Status", "status", status),
        Column("Instance", "ecsId"),
        Column("System", "isOSDisk"),
    ),
    details=(
        Column("Bus", "diskBus"),
        Column("Encrypted", "isEncrypted"),
        Column("Deleted with its instance", "deleteOnTermination"),
        Column("Tenant", "tenantId"),
        Column("Created", "createdAt", moment),
    ),
)

app = noun("volume", "Volumes: disks of instances.")
Reference = Annotated[str, typer.Argument(metavar="VOLUME", help="Id or name.", autocompletion=VOLUME.complete)]
References = Annotated[
    list[str], typer.Argument(metavar="VOLUME...", help="Ids or names.", autocompletion=VOLUME.complete)
]


@command(app, "list")
def list_volumes(session: Session, page: Page) -> None:
    """List the volumes."""
    session.show_list(VOLUME, page)


@command(app, "show")
def show_volume(session: Session, volume: Reference) -> None:
    """Show one volume."""
    session.show(VOLUME, session.client.get(VOLUME.at(VOLUME.find_id(session.client, volume))).data)


@command(app, "create")
def create_volume(
    session: Session,
    name: Annotated[str, typer.Option(help="1 to 127 characters.")],
    size: Annotated[int, typer.Option(metavar="GIB", help="Size in GiB.")],
    volume_type: Annotated[str, typer.Option("--type", help="Volume type.")] = "hdd",
    bus: Annotated[str, typer.Option(help="virtio, scsi or sata; sata only for instances that are off.")] = "virtio",
    shared: Annotated[bool, typer.Option("--shared", help="Several instances may have it at once.")] = False,
    tenant: Annotated[str, typer.Option(help="Owner, for operators, id or name.", autocompletion=TENANT.complete)] = "",
) -> None:
    """Create a volume; it takes up space when an instance first uses it."""
    owner = {"tenantId": TENANT.find_id(session.client, tenant)} if tenant else {}
    body = {"name": name, "volumeSize": size, "volumeType": volume_type, "diskBus": bus, **owner}
    body |= {"multiAttach": True} if shared else {}
    session.show(VOLUME, session.client.create(VOLUME.path, body).data)


@command(app, "attach")
def attach_volumes(
    session: Session,
    instance: Instance,
    volumes: References,
    waiting: Waiting,
    delete_with_instance: Annotated[
        bool, typer.Option("--delete-with-instance", help="Delete them together with the instance.")
    ] = False,
    bootable: Annotated[bool, typer.Option("--bootable", help="The guest may be started from them.")] = False,
) -> None:
    """Give volumes to an instance, also while it runs: all of them, or none."""
    instance_id, ids = _find(session, instance, volumes)
    wish = {"deleteOnTermination": delete_with_instance, "bootable": bootable}
    body = [{"volumeId": volume_id, **wish} for volume_id in ids]
    answer = session.client.change("PUT", f"{INSTANCE.at(instance_id)}/attach-volumes", body)
    session.conclude(answer, waiting, f"Attached {' '.join(ids)} to {instance_id}")


@command(app, "detach")
def detach_volumes(session: Session, instance: Instance, volumes: References, waiting: Waiting) -> None:
    """Take volumes from an instance: fails, and changes nothing, when its guest does not let go of them."""
    instance_id, ids = _find(session, instance, volumes)
    answer = session.client.change("PUT", f"{INSTANCE.at(instance_id)}/detach-volumes", {"volumeUuids": ids})
    session.conclude(answer, waiting, f"Detached {' '.join(ids)} from {instance_id}")


@command(app, "resize")
def grow_volume(
    session: Session,
    volume: Reference,
    waiting: Waiting,
    size: Annotated[int, typer.Option(metavar="GIB", help="Size in GiB; volumes do not shrink.")],
) -> None:
    """Make a volume larger, also while an instance uses it."""
    volume_id = VOLUME.find_id(session.client, volume)
    answer = session.client.change("PUT", f"{VOLUME.at(volume_id)}/resize", {"volumeSize": size})
    session.conclude(answer, waiting, f"{volume_id} has {size} GiB")


@command(app, "rename")
def rename_volume(
    session: Session,
    volume: Reference,
    name: Annotated[str, typer.Argument(help="1 to 127 characters.")],
) -> None:
    """Give a volume another name."""
    volume_id = VOLUME.find_id(session.client, volume)
    session.report(session.client.change("PUT", VOLUME.at(volume_id), {"name": name}).data, f"Renamed {volume_id}")


@command(app, "delete")
def delete_volume(session: Session, volume: Reference, waiting: Waiting) -> None:
    """Delete a volume that no instance uses, with its data."""
    volume_id = VOLUME.find_id(session.client, volume)
    session.conclude(session.client.change("DELETE", VOLUME.at(volume_id)), waiting, f"Deleted {volume_id}")


def _find(session: Session, instance: str, volumes: list[str]) -> tuple[str, list[str]]:
    return INSTANCE.find_id(session.client, instance), [VOLUME.find_id(session.client, one) for one in volumes]
