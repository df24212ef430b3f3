"""`nwctl snapshot`: volumes of instances as they were at one moment."""

from typing import Annotated, Any

import typer

from nwctl.binding import command, noun
from nwctl.command.instance import INSTANCE
from nwctl.command.instance import Reference as Instance
from nwctl.option import Page, Waiting
from nwctl.output import Column, moment, plain, status
from nwctl.resource import Resource
from nwctl.session import Session


def _volumes(parts: Any) -> Any:
    return plain(", ".join(f"{part['volumeUuid']} ({part['volumeSize']} GiB)" for part in parts or ()))


SNAPSHOT = Resource(
    noun="snapshot",
    path="/api/ecs/v1/snapshot",
    id_field="ecsSnapshotId",
    id_pattern=r"ecs\.snapshot-[a-z0-9]{16}|\d+",
    name_field="ecsSnapshotName",
    rows_field="ecsSnapshots",
    columns=(
        Column("ID", "ecsSnapshotId"),
        Column("Name", "ecsSnapshotName"),
        Column("Instance", "ecsId"),
        Column("Status", "status", status),
        Column("Consistency", "consistency"),
        Column("Type", "type"),
        Column("Created", "createdAt", moment),
    ),
    details=(
        Column("Volumes", "volumeSnapshots", _volumes),
        Column("Description", "description"),
        Column("Error", "errorMessage"),
        Column("Expires", "expiredAt", moment),
        Column("Tenant", "tenantName"),
    ),
)

app = noun("snapshot", "Snapshots: all volumes of an instance at one moment.")
Reference = Annotated[str, typer.Argument(metavar="SNAPSHOT", help="Id or name.", autocompletion=SNAPSHOT.complete)]


@command(app, "list")
def list_snapshots(session: Session, page: Page) -> None:
    """List the snapshots, the newest first."""
    session.show_list(SNAPSHOT, page)


@command(app, "show")
def show_snapshot(session: Session, snapshot: Reference) -> None:
    """Show one snapshot, and the volumes that it is of."""
    snapshot_id = SNAPSHOT.find_id(session.client, snapshot)
    session.show(SNAPSHOT, SNAPSHOT.rows(session.client.get(SNAPSHOT.at(snapshot_id)).data)[0])


@command(app, "create")
def create_snapshot(
    session: Session,
    instance: Instance,
    waiting: Waiting,
    name: Annotated[str, typer.Option(help="1 to 127 characters.")],
    description: Annotated[str, typer.Option(help="For people.")] = "",
    quiesce: Annotated[
        bool, typer.Option(help="Freeze the guest's file systems meanwhile, if its guest agent answers.")
    ] = True,
) -> None:
    """Take a snapshot of all volumes of an instance, whether it runs or not."""
    instance_id = INSTANCE.find_id(session.client, instance)
    body = {"ecsId": instance_id, "snapshotName": name, "description": description, "quiesce": quiesce}
    answer = session.client.change("POST", SNAPSHOT.path, body)
    session.conclude(answer, waiting, f"Took snapshot {name} of {instance_id}")


@command(app, "rollback")
def roll_back(
    session: Session,
    snapshot: Reference,
    waiting: Waiting,
    force: Annotated[bool, typer.Option("--force", help="End a guest that runs instead of asking it.")] = False,
) -> None:
    """Put an instance's volumes back; one that runs is stopped before, and started again afterwards."""
    snapshot_id = SNAPSHOT.find_id(session.client, snapshot)
    answer = session.client.change("POST", f"{SNAPSHOT.at(snapshot_id)}/rollback", {"force": force})
    session.conclude(answer, waiting, f"Rolled back to {snapshot_id}")


@command(app, "delete")
def delete_snapshot(session: Session, snapshot: Reference, waiting: Waiting) -> None:
    """Delete a snapshot; the instance may run meanwhile, and keeps what it has now."""
    snapshot_id = SNAPSHOT.find_id(session.client, snapshot)
    session.conclude(session.client.change("DELETE", SNAPSHOT.at(snapshot_id)), waiting, f"Deleted {snapshot_id}")
