"""`nwctl overcommit`: how many vCPUs a CPU of a host stands for."""

from typing import Annotated, Final

import typer

from nwctl.binding import command, noun
from nwctl.error import UsageError
from nwctl.output import Column
from nwctl.session import Session

OVERCOMMIT: Final = "/api/ecs/v1/global-config/cpu"
COLUMNS = (Column("Zone", "az"), Column("vCPUs per CPU", "azCpuOR"))
# Stands beside the zones that have a ratio of their own.
OTHER_ZONES = "(all others)"

app = noun("overcommit", "Overcommitment: how many vCPUs a CPU of a host stands for.")


@command(app, "show")
def show_overcommit(session: Session) -> None:
    """Show the ratios of the region and of zones that have one of their own."""
    data = session.client.get(OVERCOMMIT).data
    session.show_rows(COLUMNS, [*data["azCpuConfigs"], {"az": OTHER_ZONES, "azCpuOR": data["globalCpuOR"]}], data)


@command(app, "set")
def set_overcommit(
    session: Session,
    ratio: Annotated[int, typer.Argument(min=1, max=6, help="Ratio of the region.")],
    zones: Annotated[
        list[str] | None, typer.Option("--zone", metavar="ZONE=RATIO", help="A zone with a ratio of its own.")
    ] = None,
) -> None:
    """Set all ratios; zones that are not named follow the region."""
    configs = [ratio_of(zone) for zone in zones or []]
    answer = session.client.change("POST", OVERCOMMIT, {"globalCpuOR": ratio, "azCpuConfigs": configs})
    session.report(answer.data, f"Set {ratio} vCPUs for each CPU")


def ratio_of(text: str) -> dict[str, str | int]:
    """A zone and its ratio, as the API spells them."""
    zone, _, number = text.rpartition("=")
    if not zone or not number.isdecimal():
        raise UsageError(f"{text!r} is not ZONE=RATIO")
    return {"az": zone, "azCpuOR": int(number)}
