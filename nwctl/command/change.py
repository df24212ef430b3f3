"""`nwctl instance resize` and others that make something else of an instance."""

from typing import Annotated, Any

import typer

from nwctl.binding import command
from nwctl.command.flavor import FLAVOR
from nwctl.command.instance import INSTANCE, Reference, app, change_power
from nwctl.command.pool import POOL
from nwctl.option import Waiting
from nwctl.session import Session


@command(app, "resize")
def resize_instance(
    session: Session,
    instance: Reference,
    flavor: Annotated[str, typer.Argument(help="Id or name.", autocompletion=FLAVOR.complete)],
    waiting: Waiting,
    cpus: Annotated[int | None, typer.Option(min=1, help="vCPUs, of a custom flavor.")] = None,
    memory: Annotated[str, typer.Option(help="Memory, of a custom flavor: 8Gi.")] = "",
    pool: Annotated[str, typer.Option(help="Resource pool that it shall be in.")] = "",
) -> None:
    """Give an instance another size: while it runs if its guest takes it, else by a restart."""
    client = session.client
    flavor_id = FLAVOR.find_id(client, flavor)
    found: dict[str, Any] = client.get(FLAVOR.at(flavor_id)).data
    body = {
        "flavorId": flavor_id,
        "cpus": cpus or found["cpu"],
        "memory": {"amount": memory or f"{found['ram']}Gi"},
        "rpId": POOL.find_id(client, pool) if pool else "",
    }
    instance_id = INSTANCE.find_id(client, instance)
    session.conclude(client.change("PATCH", INSTANCE.at(instance_id), body), waiting, f"{instance_id} is resized")


@command(app, "hibernate")
def hibernate_instance(session: Session, instance: Reference, waiting: Waiting) -> None:
    """Put an instance on its node's disk, with its memory; start lets it go on."""
    change_power(session, [instance], "hibernate", waiting)
