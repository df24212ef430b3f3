"""`nwctl pool`: resource pools, hosts set apart for flavor types that are bound to them."""

from typing import Annotated

import typer

from nwctl.binding import command, noun
from nwctl.command.node import NODE, NodeReference, NodeReferences, named
from nwctl.error import UsageError
from nwctl.option import Page
from nwctl.output import Column, moment
from nwctl.resource import Resource
from nwctl.session import Session

POOL = Resource(
    noun="pool",
    path="/api/ecs/v1/resource-pools",
    id_field="rpId",
    id_pattern="rp-[a-z0-9]{14}",
    rows_field="resourcePools",
    columns=(
        Column("ID", "rpId"),
        Column("Name", "name"),
        Column("Zone", "az"),
        Column("vCPUs per CPU", "cpuAllocationRatio"),
        Column("Hosts", "hostCnt"),
        Column("Flavor types", "ftCnt"),
    ),
    details=(
        Column("Weights", "weights"),
        Column("Created", "createTime", moment),
        Column("Updated", "updateTime", moment),
    ),
)

app = noun("pool", "Resource pools: hosts set apart for flavor types that are bound to them.")
Reference = Annotated[str, typer.Argument(metavar="POOL", help="Id or name.", autocompletion=POOL.complete)]


@command(app, "list")
def list_pools(session: Session, page: Page) -> None:
    """List the pools."""
    session.show_list(POOL, page)


@command(app, "show")
def show_pool(session: Session, pool: Reference) -> None:
    """Show one pool."""
    session.show(POOL, POOL.find(session.client, pool))


@command(app, "create")
def create_pool(
    session: Session,
    name: Annotated[str, typer.Option(help="1 to 127 characters.")],
    zone: Annotated[str, typer.Option(help="Zone of its hosts.")],
    cpu_ratio: Annotated[int, typer.Option(min=1, max=6, help="vCPUs for each CPU of its hosts.")] = 1,
) -> None:
    """Create a pool without hosts."""
    body = {"az": zone, "name": name, "cpuAllocationRatio": cpu_ratio}
    session.show(POOL, session.client.create(POOL.path, body).data)


@command(app, "weigh")
def weigh_pool(
    session: Session,
    pool: Reference,
    weights: Annotated[
        list[str] | None, typer.Option("--weight", metavar="WEIGHER=NUMBER", help="For example room=-1, which packs.")
    ] = None,
) -> None:
    """Set how hosts of a pool are chosen; without weights as configured."""
    pool_id = POOL.find_id(session.client, pool)
    body = {"weights": dict(parse_weight(weight) for weight in weights or [])}
    answer = session.client.change("PUT", f"{POOL.at(pool_id)}/weights", body)
    session.report(answer.data, f"Set the weights of {pool_id}")


def parse_weight(text: str) -> tuple[str, float]:
    """A weigher and what it counts."""
    name, separator, number = text.partition("=")
    try:
        return name, float(number)
    except ValueError:
        raise UsageError(f"{text!r} is not WEIGHER=NUMBER" if separator else f"{text!r} has no number") from None


@command(app, "delete")
def delete_pool(session: Session, pool: Reference) -> None:
    """Delete a pool that nothing belongs to."""
    pool_id = POOL.find_id(session.client, pool)
    session.report(session.client.change("DELETE", POOL.at(pool_id)).data, f"Deleted {pool_id}")


@command(app, "add-host")
def add_hosts(session: Session, pool: Reference, nodes: NodeReferences) -> None:
    """Add nodes to a pool: all or none."""
    pool_id = POOL.find_id(session.client, pool)
    body = {"hosts": [named(NODE.find(session.client, node)) for node in nodes]}
    answer = session.client.change("POST", f"{POOL.at(pool_id)}/add-hosts", body)
    session.report(answer.data, f"Added {', '.join(nodes)} to {pool_id}")


@command(app, "remove-host")
def remove_host(session: Session, pool: Reference, node: NodeReference) -> None:
    """Remove a node that runs no instances of the pool."""
    pool_id = POOL.find_id(session.client, pool)
    body = named(NODE.find(session.client, node))
    answer = session.client.change("POST", f"{POOL.at(pool_id)}/remove-host", body)
    session.report(answer.data, f"Removed {node} from {pool_id}")


@command(app, "move-host")
def move_host(
    session: Session,
    pool: Reference,
    node: NodeReference,
    to: Annotated[str, typer.Option(help="Id or name of the other pool.", autocompletion=POOL.complete)],
) -> None:
    """Move a node that runs no instances of the pool to another pool."""
    pool_id, destination = POOL.find_id(session.client, pool), POOL.find_id(session.client, to)
    body = {"destRpId": destination, "host": named(NODE.find(session.client, node))}
    answer = session.client.change("POST", f"{POOL.at(pool_id)}/host-modify-rp", body)
    session.report(answer.data, f"Moved {node} from {pool_id} to {destination}")
