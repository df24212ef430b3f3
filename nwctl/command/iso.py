"""`nwctl iso`: what is in the optical drives of instances."""

from typing import Annotated

import typer

from nwctl.binding import command, noun
from nwctl.command.image import IMAGE
from nwctl.command.instance import INSTANCE
from nwctl.command.instance import Reference as Instance
from nwctl.option import Waiting
from nwctl.output import Column, status
from nwctl.session import Session

COLUMNS = (
    Column("Image", "imageId"),
    Column("Name", "imageName"),
    Column("Status", "status", status),
    Column("Booted from", "bootState"),
)

app = noun("iso", "ISO images in the drives of instances.")
Images = Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Ids or names.", autocompletion=IMAGE.complete)]
Some = Annotated[
    list[str] | None,
    typer.Argument(metavar="[IMAGE...]", help="Ids or names; by default all.", autocompletion=IMAGE.complete),
]


@command(app, "list")
def list_isos(session: Session, instance: Instance) -> None:
    """List what is in the drives of an instance."""
    instance_id = INSTANCE.find_id(session.client, instance)
    isos = session.client.get(f"{INSTANCE.at(instance_id)}/attached-iso").data
    session.show_rows(COLUMNS, isos, isos)


@command(app, "attach")
def attach_isos(session: Session, instance: Instance, images: Images, waiting: Waiting) -> None:
    """Put ISO images into drives of an instance, also while it runs."""
    instance_id = INSTANCE.find_id(session.client, instance)
    body = [{"imageId": IMAGE.find_id(session.client, image)} for image in images]
    answer = session.client.change("PUT", f"{INSTANCE.at(instance_id)}/attach-iso", body)
    session.conclude(answer, waiting, f"Attached {' '.join(images)} to {instance_id}")


@command(app, "detach")
def detach_isos(
    session: Session,
    instance: Instance,
    waiting: Waiting,
    images: Some = None,
    force: Annotated[bool, typer.Option("--force", help="Also when the guest uses it.")] = False,
) -> None:
    """Take ISO images out of an instance's drives: fails when its guest uses one, unless it is forced."""
    instance_id = INSTANCE.find_id(session.client, instance)
    body = [{"imageId": IMAGE.find_id(session.client, image)} for image in images or ()]
    query = "?force=true" if force else ""
    answer = session.client.change("PUT", f"{INSTANCE.at(instance_id)}/detach-iso{query}", body)
    session.conclude(answer, waiting, f"Detached {' '.join(images or ['all'])} from {instance_id}")


@command(app, "attach-tools")
def attach_tools(session: Session, instance: Instance, waiting: Waiting) -> None:
    """Put the disc with the guest tools into a drive of an instance."""
    instance_id = INSTANCE.find_id(session.client, instance)
    answer = session.client.change("PUT", f"{INSTANCE.at(instance_id)}/attach-vmtools")
    session.conclude(answer, waiting, f"Attached the guest tools to {instance_id}")
