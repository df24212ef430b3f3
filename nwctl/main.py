"""`nwctl`: the command line of a Nodewright cloud."""

from importlib.metadata import version
from typing import Annotated

import typer

# `attachment`, `change`, `guest`, `launch` and `migration` add their commands to `nwctl instance`.
from nwctl.binding import before_noun, command
from nwctl.command import (  # noqa: F401
    attachment,
    audit,
    backup,
    change,
    context,
    deployment_set,
    device,
    event,
    flavor,
    flavor_type,
    guest,
    ha,
    host_group,
    image,
    instance,
    iso,
    launch,
    migration,
    network,
    node,
    operation,
    overcommit,
    pool,
    recycle,
    schedule,
    snapshot,
    snapshot_policy,
    ssh_key,
    template,
    tenant,
    token,
    volume,
    webhook,
)

app = typer.Typer(name="nwctl", no_args_is_help=True, pretty_exceptions_show_locals=False)


def show_version(asked: bool) -> None:
    """Prints the version and ends."""
    if asked:
        print(f"nwctl {version('nodewright')}")
        raise typer.Exit


@before_noun(app)
def nwctl(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Drive a Nodewright cloud: instances, and the nodes, flavors, images and networks that they need."""


for verb in (context.login, context.logout, context.whoami):
    command(app, verb.__name__)(verb)
command(app, "explain")(launch.explain_order)
command(app, "differences")(launch.list_differences)
command(app, "events")(event.show_events)
command(app, "devices")(device.list_devices)
for noun in (
    instance.app,
    image.app,
    iso.app,
    flavor.app,
    flavor_type.app,
    volume.app,
    network.vpc,
    network.subnet,
    network.security_group,
    operation.app,
    node.app,
    attachment.app,
    pool.app,
    host_group.app,
    deployment_set.app,
    ssh_key.app,
    template.app,
    schedule.app,
    recycle.app,
    snapshot.app,
    backup.app,
    snapshot_policy.app,
    overcommit.app,
    migration.settings,
    ha.app,
    tenant.app,
    token.app,
    webhook.app,
    audit.app,
    context.app,
):
    app.add_typer(noun)
