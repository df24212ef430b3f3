"""`nwctl node`: the hosts."""

from typing import Annotated

import typer

from nwctl.binding import command, noun
from nwctl.option import Page, duration
from nwctl.output import Column, joined, moment
from nwctl.resource import Resource
from nwctl.session import Session

NODE = Resource(
    noun="node",
    path="/api/ecs/v1/nodes",
    id_field="hostId",
    id_pattern="node-[a-z0-9]{14}",
    total_field="total",
    page_parameters=("current", "size"),
    columns=(
        Column("ID", "hostId"),
        Column("Name", "name"),
        Column("Address", "hostIp"),
        Column("Zone", "az"),
        Column("Arch", "arch"),
        Column("CPU", "cpuModel"),
        Column("Ready", "ready"),
        Column("Schedulable", "schedulable"),
        Column("GPU", "gpuInfo.product"),
    ),
    details=(
        Column("Agent", "agentVersion"),
        Column("Cell", "cell"),
        Column("Serial number", "hostSlot"),
        Column("Rack", "hostRack"),
        Column("Disks", "hardDiskList", joined("diskNum", "localDiskType", "localDiskInterface")),
        Column("Created", "createdAt", moment),
        Column("Updated", "updatedAt", moment),
    ),
)

app = noun("node", "Nodes: the hosts that run instances.")
enrolment = noun("enrolment-token", "Enrolment tokens: with one of them a new node joins.")
app.add_typer(enrolment)


@command(app, "list")
def list_nodes(session: Session, page: Page) -> None:
    """List the nodes."""
    session.show_list(NODE, page)


@command(app, "show")
def show_node(
    session: Session,
    node: Annotated[str, typer.Argument(help="Id or name.", autocompletion=NODE.complete)],
) -> None:
    """Show one node."""
    session.show(NODE, NODE.find(session.client, node))


@command(enrolment, "create")
def create_enrolment_token(
    session: Session,
    valid_for: Annotated[
        int, typer.Option(parser=duration, metavar="DURATION", show_default="1h", help="How long it can be used.")
    ] = 3600,
) -> None:
    """Create a token with which one node can join; it is shown this once."""
    data = session.client.change("POST", f"{NODE.path}/enrolment-tokens", {"validForSeconds": valid_for}).data
    if session.output.as_json:
        session.output.data(data)
        return
    session.output.note(f"For one node, until {moment(data['expiresAt'])}. To be run there:\n  {data['joinCommand']}")
    session.output.text(data["token"])
