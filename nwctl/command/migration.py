"""`nwctl instance migrate` and `nwctl migration`: instances that move to other nodes."""

from typing import Annotated, Any

import typer

from nwctl.binding import command, noun
from nwctl.command.instance import INSTANCE, Reference, app
from nwctl.command.node import NODE
from nwctl.error import UsageError
from nwctl.option import Waiting
from nwctl.output import Column, moment
from nwctl.session import Session

CONFIG = "/api/ecs/v1/global-config"
COLUMNS = (
    Column("Type", "type"),
    Column("State", "state"),
    Column("From", "sourceNode"),
    Column("To", "targetNode"),
    Column("Network", "network"),
    Column("Operation", "operationId"),
    Column("Accepted", "createdAt", moment),
    Column("Finished", "finishedAt", moment),
    Column("Reason", "reason"),
)

settings = noun("migration", "What holds for all migrations of the region.")


@command(app, "migrate")
def migrate_instance(
    session: Session,
    instance: Reference,
    waiting: Waiting,
    *,
    to: Annotated[str, typer.Option("--to", metavar="NODE", help="Target node, by id or name.")],
    network: Annotated[str, typer.Option(help="manage, storage, business or cninet, instead of the region's.")] = "",
    bandwidth: Annotated[int, typer.Option(min=0, metavar="MIB/S", help="Most of the network; 0: all.")] = 0,
    post_copy: Annotated[bool, typer.Option("--post-copy", help="Admit post-copy when nothing else helps.")] = False,
    cold: Annotated[bool, typer.Option("--cold", help="The instance is shut off, or hibernates.")] = False,
) -> None:
    """Move an instance to another node: while it runs without its noticing, or with --cold while it is off."""
    body: dict[str, Any] = {"nodeName": NODE.find(session.client, to)["name"]}
    # What is left out is not said: tenants may not say it.
    body |= {"network": network} if network else {}
    body |= {"bandwidthMibPerSecond": bandwidth} if bandwidth else {}
    body |= {"allowPostCopy": True} if post_copy else {}
    instance_id = INSTANCE.find_id(session.client, instance)
    answer = session.client.change("POST", f"{INSTANCE.at(instance_id)}/{'cold' if cold else 'live'}-migrate", body)
    session.conclude(answer, waiting, f"Moved {instance_id} to {body['nodeName']}")


@command(app, "cancel-migration")
def cancel_migration(session: Session, instance: Reference) -> None:
    """Give a live migration up; the instance runs on where it is."""
    instance_id = INSTANCE.find_id(session.client, instance)
    answer = session.client.change("DELETE", f"{INSTANCE.at(instance_id)}/live-migrate")
    session.report(answer.data, f"Asked {instance_id} to stay; `nwctl instance migrations {instance_id}` tells")


@command(app, "migrations")
def list_migrations(
    session: Session,
    instance: Reference,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many of them.")] = 100,
) -> None:
    """List the moves of an instance, the newest first."""
    path = f"{INSTANCE.at(INSTANCE.find_id(session.client, instance))}/migrations"
    moves = session.client.get(path, {"pageSize": limit}).data["list"]
    session.show_rows(COLUMNS, moves, moves)


@command(settings, "show")
def show_settings(session: Session) -> None:
    """Show the network of migrations, how many run at once, and whether they may change the type of processor."""
    data = session.client.get(f"{CONFIG}/network-config").data | session.client.get(f"{CONFIG}/live-migrate").data
    columns = (
        Column("Network", "globalNetwork"),
        Column("At once", "migrateLimit"),
        Column("Across types of processor", "cpuMultiArch"),
    )
    session.show_rows(columns, [data], data)


@command(settings, "set")
def change_settings(
    session: Session,
    network: Annotated[str, typer.Option(help="manage, storage, business or cninet.")] = "",
    limit: Annotated[int | None, typer.Option(min=2, max=100, help="Live migrations at once.")] = None,
    across_cpus: Annotated[
        bool | None, typer.Option("--across-cpus/--same-cpus", help="Admit other types of processor.")
    ] = None,
) -> None:
    """Change what is given."""
    changes: list[tuple[str, dict[str, Any]]] = []
    if network:
        changes.append(("network-config", {"globalNetwork": network, "nodeInfoMethod": "ccos-api"}))
    if limit is not None:
        changes.append(("live-migrate-limit", {"migrateLimit": limit}))
    if across_cpus is not None:
        changes.append(("live-migrate-arch", {"cpuMultiArch": "ON" if across_cpus else "OFF"}))
    if not changes:
        raise UsageError("give at least one setting")
    for leaf, body in changes:
        session.client.change("PUT", f"{CONFIG}/{leaf}", body)
    session.report(None, "Changed for migrations that are asked for from now on")
