"""`nwctl ha`: high availability of the region."""

from typing import Annotated, Final

import typer

from nwctl.binding import command, noun
from nwctl.output import Column
from nwctl.session import Session

HA: Final = "/api/ecs/v1/instances/global-ha-config"
COLUMNS = (Column("Tolerance, s", "toleranceTime"),)

app = noun("ha", "High availability: how long a node may be silent before its instances are started elsewhere.")


@command(app, "show")
def show_ha(session: Session) -> None:
    """Show the tolerance of the region."""
    data = session.client.get(HA).data
    session.show_rows(COLUMNS, [data], data)


@command(app, "set")
def set_ha(
    session: Session, seconds: Annotated[int, typer.Argument(help="Tolerance: 30, 60, 120, 300 or 600 seconds.")]
) -> None:
    """Set the tolerance of the region."""
    answer = session.client.change("PUT", HA, {"toleranceTime": seconds})
    session.report(answer.data, f"Nodes may be silent for {seconds} s")
