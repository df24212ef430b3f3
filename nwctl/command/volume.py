"""`nwctl volume`: disks."""

from typing import Annotated

import typer

from nwctl.binding import command, noun
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
        Column("Deleted with its instance", "deleteOnTermination"),
        Column("Tenant", "tenantId"),
        Column("Created", "createdAt", moment),
    ),
)

app = noun("volume", "Volumes: disks of instances.")
Reference = Annotated[str, typer.Argument(metavar="VOLUME", help="Id or name.", autocompletion=VOLUME.complete)]


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
    tenant: Annotated[str, typer.Option(help="Owner, for operators, id or name.", autocompletion=TENANT.complete)] = "",
) -> None:
    """Create a volume; it takes up space when an instance first uses it."""
    owner = {"tenantId": TENANT.find_id(session.client, tenant)} if tenant else {}
    body = {"name": name, "volumeSize": size, "volumeType": volume_type, **owner}
    session.show(VOLUME, session.client.create(VOLUME.path, body).data)


@command(app, "delete")
def delete_volume(session: Session, volume: Reference, waiting: Waiting) -> None:
    """Delete a volume that no instance uses, with its data."""
    volume_id = VOLUME.find_id(session.client, volume)
    session.conclude(session.client.change("DELETE", VOLUME.at(volume_id)), waiting, f"Deleted {volume_id}")
