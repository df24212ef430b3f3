"""`nwctl bin`: the recycle bin, and what is in it. Instances go by id or name, snapshots by id."""

import sys
from dataclasses import replace
from typing import Annotated, Final

import typer

from nwctl.binding import command, noun
from nwctl.command.instance import INSTANCE
from nwctl.command.snapshot import SNAPSHOT
from nwctl.error import ReferenceUnknown
from nwctl.option import Page, Waiting
from nwctl.output import Column, epoch, moment, status
from nwctl.resource import Entry, Resource
from nwctl.session import Session

CONFIG: Final = f"{INSTANCE.path}/recycle-config"
SNAPSHOTS: Final = "/api/ecs/v1/recycle"
RECYCLED: Final = f"{SNAPSHOTS}/instances"
IN_BIN: Final = "status:eq:SoftDeleted"
COLUMNS: Final = (Column("Enabled", "enable"), Column("Days", "freezeTime"))
BIN = replace(
    INSTANCE,
    noun="instance in the bin",
    columns=(
        Column("ID", "ecsId"),
        Column("Name", "displayName"),
        Column("Status", "status", status),
        Column("Node", "nodeName"),
        Column("Deleted", "softDeletedAt", moment),
        Column("Kept until", "expiredAt", moment),
    ),
)

BIN_OF_SNAPSHOTS = Resource(
    noun="snapshot in the bin",
    path=SNAPSHOTS,
    id_field="instanceId",
    id_pattern=SNAPSHOT.id_pattern,
    name_field="instanceName",
    total_field="total",
    page_parameters=("current", "size"),
    columns=(
        Column("ID", "instanceId"),
        Column("Name", "instanceName"),
        Column("Instance", "associatedEcsId"),
        Column("Deleted", "createdAt", moment),
        Column("Kept until", "cleanAt", lambda seconds: epoch(seconds * 1000 if seconds else None)),
    ),
)

app = noun("bin", "The recycle bin: deleted instances and snapshots, kept for a time.")
Reference = Annotated[str, typer.Argument(metavar="INSTANCE", help="Id or name.")]
Recycled = Annotated[
    str, typer.Argument(metavar="INSTANCE|SNAPSHOT", help="An instance's id or name, a snapshot's id.")
]


@command(app, "list")
def list_bin(session: Session, page: Page) -> None:
    """List the instances in the bin."""
    session.show_list(BIN, replace(page, filters=[IN_BIN, *(page.filters or ())]))


@command(app, "snapshots")
def list_snapshots(session: Session, page: Page) -> None:
    """List the snapshots in the bin."""
    session.show_list(BIN_OF_SNAPSHOTS, page)


@command(app, "show")
def show_recycled(session: Session, instance: Reference) -> None:
    """Show one instance in the bin."""
    session.show(BIN, session.client.get(f"{RECYCLED}/{find_recycled(session, instance)}").data)


@command(app, "restore")
def restore(session: Session, recycled: Recycled) -> None:
    """Take an instance out of the bin with all that it had, shut off; or a snapshot."""
    path, found_id = locate(session, recycled)
    session.report(session.client.change("PUT", path).data, f"{found_id} is restored")


@command(app, "purge")
def purge(
    session: Session,
    recycled: Recycled,
    waiting: Waiting,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete an instance in the bin for good, with its disks; or a snapshot."""
    path, found_id = locate(session, recycled)
    if sys.stdin.isatty() and not yes:
        typer.confirm(f"Delete {recycled} for good, with what it has on disks?", abort=True, err=True)
    session.conclude(session.client.change("DELETE", path), waiting, f"Deleted {found_id} for good")


@command(app, "config")
def show_config(session: Session) -> None:
    """Show whether deleted instances go to the bin, and for how many days."""
    data = session.client.get(CONFIG).data
    session.show_rows(COLUMNS, [data], data)


@command(app, "set")
def set_config(
    session: Session,
    on: Annotated[bool, typer.Option("--on/--off", help="Whether what is deleted goes to the bin.")],
    days: Annotated[int, typer.Option(min=1, help="How long it stays there.")] = 1,
) -> None:
    """Switch the bin on or off for what is deleted from now on."""
    answer = session.client.change("PUT", CONFIG, {"enable": on, "freezeTime": days})
    session.report(answer.data, f"Deleted instances are kept for {days} days" if on else "The recycle bin is off")


def locate(session: Session, reference: str) -> tuple[str, str]:
    """Path and id of what is in the bin."""
    if SNAPSHOT.is_id(reference):
        return f"{SNAPSHOTS}/snapshot/{reference}", reference
    instance_id = find_recycled(session, reference)
    return f"{RECYCLED}/{instance_id}", instance_id


def find_recycled(session: Session, reference: str) -> str:
    """The id of the only one in the bin with this id or name; one that is not there has that name in vain."""
    if INSTANCE.is_id(reference):
        return reference
    found: list[Entry] = [it for it in BIN.entries(session.client, IN_BIN) if it.get(BIN.name_field) == reference]
    if len(found) != 1:
        raise ReferenceUnknown(f"{len(found)} instances in the bin are named {reference!r}: give an id")
    return str(found[0][BIN.id_field])
