"""`nwctl usb`, `nwctl instance attach-disk` and `detach-disk`: devices that instances get and lose."""

from typing import Annotated

import typer

from nwctl.binding import command, noun
from nwctl.command.instance import INSTANCE, Reference
from nwctl.command.instance import app as instance_app
from nwctl.option import Waiting
from nwctl.output import Column
from nwctl.session import Session

USB = "/api/ecs/v1/usb"
USB_COLUMNS = (
    Column("Name", "name"),
    Column("Status", "status"),
    Column("Product", "product"),
    Column("Ids", "productDescribe"),
    Column("Serial number", "serialNumber"),
    Column("Why not offered", "withheldReason"),
)

app = noun("usb", "USB devices of nodes in instances.")
Sticks = Annotated[list[str], typer.Argument(metavar="DEVICE...", help="Names as `nwctl usb list` shows them.")]
Disks = Annotated[list[str], typer.Argument(metavar="DISK...", help="Ids as `nwctl devices --kind disk` shows them.")]


@command(app, "list")
def list_usb_devices(
    session: Session,
    instance: Annotated[str, typer.Option(help="Only what this instance has, by id or name.")] = "",
    node: Annotated[str, typer.Option(help="Only those of this node, by name.")] = "",
) -> None:
    """List USB devices: names, and who could have them."""
    query = {"ecsId": instance and INSTANCE.find_id(session.client, instance), "nodeName": node}
    devices = session.client.get(USB, {name: value for name, value in query.items() if value}).data
    session.show_rows(USB_COLUMNS, devices, devices)


@command(app, "bind")
def bind_usb_devices(
    session: Session,
    instance: Reference,
    devices: Sticks,
    waiting: Waiting,
    replaceable: Annotated[
        bool, typer.Option("--replaceable", help="Others of their model are as good: the instance moves while it runs.")
    ] = False,
) -> None:
    """Give USB devices of its node to an instance: all of them, or none."""
    instance_id = INSTANCE.find_id(session.client, instance)
    choice = {"replaceable": True} if replaceable else {}
    body = [{"name": device, **choice} for device in devices]
    answer = session.client.change("POST", f"{USB}/{instance_id}/bind", body)
    session.conclude(answer, waiting, f"{instance_id} has {', '.join(devices)}")


@command(app, "unbind")
def unbind_usb_devices(session: Session, instance: Reference, devices: Sticks, waiting: Waiting) -> None:
    """Take USB devices away from an instance."""
    instance_id = INSTANCE.find_id(session.client, instance)
    body = [{"name": device} for device in devices]
    answer = session.client.change("DELETE", f"{USB}/{instance_id}/unbind", body)
    session.conclude(answer, waiting, f"{instance_id} does not have {', '.join(devices)}")


@command(instance_app, "attach-disk")
def attach_disks(session: Session, instance: Reference, disks: Disks, waiting: Waiting) -> None:
    """Give local disks of its node to an instance: all of them, or none."""
    change_disks(session, instance, "attach-localdisks", disks, waiting, "has")


@command(instance_app, "detach-disk")
def detach_disks(session: Session, instance: Reference, disks: Disks, waiting: Waiting) -> None:
    """Take local disks away from an instance; what is on them is wiped, unless the cloud is configured otherwise."""
    change_disks(session, instance, "detach-localdisks", disks, waiting, "does not have")


def change_disks(session: Session, instance: str, leaf: str, disks: list[str], waiting: Waiting, outcome: str) -> None:
    """Attaches or detaches them."""
    instance_id = INSTANCE.find_id(session.client, instance)
    body = [{"diskName": disk} for disk in disks]
    answer = session.client.change("PUT", f"{INSTANCE.at(instance_id)}/{leaf}", body)
    session.conclude(answer, waiting, f"{instance_id} {outcome} {', '.join(disks)}")
