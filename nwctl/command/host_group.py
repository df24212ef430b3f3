"""`nwctl host-group`: hosts for the group's instances alone."""

from typing import Annotated

import typer

from nwctl.binding import command, noun
from nwctl.command.node import NODE, NodeReference, NodeReferences, named
from nwctl.option import Page
from nwctl.output import Column, moment
from nwctl.resource import Resource
from nwctl.session import Session

HOST_GROUP = Resource(
    noun="host group",
    path="/api/ecs/v1/host-groups",
    id_field="hgId",
    id_pattern="hg-[a-z0-9]{8}",
    rows_field="hostGroups",
    columns=(Column("ID", "hgId"), Column("Name", "name"), Column("Hosts", "hostCnt")),
    details=(Column("Created", "createTime", moment), Column("Updated", "updateTime", moment)),
)

app = noun("host-group", "Host groups: hosts for the group's instances alone.")
Reference = Annotated[str, typer.Argument(metavar="GROUP", help="Id or name.", autocompletion=HOST_GROUP.complete)]


@command(app, "list")
def list_host_groups(session: Session, page: Page) -> None:
    """List the host groups."""
    session.show_list(HOST_GROUP, page)


@command(app, "show")
def show_host_group(session: Session, group: Reference) -> None:
    """Show one host group."""
    session.show(HOST_GROUP, HOST_GROUP.find(session.client, group))


@command(app, "create")
def create_host_group(session: Session, name: Annotated[str, typer.Option(help="1 to 127 characters.")]) -> None:
    """Create a host group without hosts."""
    session.show(HOST_GROUP, session.client.create(HOST_GROUP.path, {"name": name}).data)


@command(app, "delete")
def delete_host_group(session: Session, group: Reference) -> None:
    """Delete a host group that nothing belongs to."""
    group_id = HOST_GROUP.find_id(session.client, group)
    session.report(session.client.change("DELETE", HOST_GROUP.at(group_id)).data, f"Deleted {group_id}")


@command(app, "add-host")
def add_hosts(session: Session, group: Reference, nodes: NodeReferences) -> None:
    """Add nodes to a host group: all or none."""
    group_id = HOST_GROUP.find_id(session.client, group)
    body = {"hosts": [named(NODE.find(session.client, node)) for node in nodes]}
    answer = session.client.change("POST", f"{HOST_GROUP.at(group_id)}/add-hosts", body)
    session.report(answer.data, f"Added {', '.join(nodes)} to {group_id}")


@command(app, "remove-host")
def remove_host(session: Session, group: Reference, node: NodeReference) -> None:
    """Remove a node that runs no instances of the group."""
    group_id = HOST_GROUP.find_id(session.client, group)
    body = named(NODE.find(session.client, node))
    answer = session.client.change("POST", f"{HOST_GROUP.at(group_id)}/remove-host", body)
    session.report(answer.data, f"Removed {node} from {group_id}")
