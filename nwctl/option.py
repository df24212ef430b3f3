"""Options that many commands share: a group is a dataclass, `binding` makes its fields options."""

import re
from dataclasses import dataclass
from typing import Annotated

import typer

SECONDS_BY_UNIT = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
EVERYWHERE = "Every command"


def duration(text: str | int) -> int:
    """Seconds of `90s`, `15m`, `1h`, `7d` or a bare number of seconds."""
    match = re.fullmatch(r"(\d+)([smhd]?)", str(text))
    if not match:
        raise typer.BadParameter(f"{text!r} is not a duration such as 90s, 15m, 1h or 7d")
    return int(match[1]) * SECONDS_BY_UNIT[match[2]]


@dataclass(frozen=True)
class Invocation:
    """How this call reaches a coordinator and prints."""

    json: Annotated[
        bool, typer.Option("--json", help="Print the answer's data unchanged.", rich_help_panel=EVERYWHERE)
    ] = False
    context: Annotated[str, typer.Option(help="Context of the configuration file.", rich_help_panel=EVERYWHERE)] = ""
    endpoint: Annotated[
        str, typer.Option(help="The coordinator's URL, or NWCTL_ENDPOINT.", rich_help_panel=EVERYWHERE)
    ] = ""
    ca_file: Annotated[
        str, typer.Option(help="The only CA to trust (PEM), or NWCTL_CA_FILE.", rich_help_panel=EVERYWHERE)
    ] = ""
    region: Annotated[str, typer.Option(help="The region to address, or NWCTL_REGION.", rich_help_panel=EVERYWHERE)] = (
        ""
    )
    lang: Annotated[str, typer.Option(help="zh or en for messages, or NWCTL_LANG.", rich_help_panel=EVERYWHERE)] = ""


@dataclass(frozen=True)
class Page:
    """Which part of a list."""

    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="FIELD:OP:VALUE", help="OP is eq, ne, lk, in, gt or lt; all must hold."),
    ] = None
    order_by: Annotated[str | None, typer.Option(metavar="FIELD:asc|desc", help="The order.")] = None
    page: Annotated[int, typer.Option(min=1, help="The page to show.")] = 1
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Entries a page.")] = 50


@dataclass(frozen=True)
class Waiting:
    """Whether to follow what a command starts to its end, and for how long."""

    wait: Annotated[bool, typer.Option("--wait", "-w", help="Follow the operation to its end.")] = False
    timeout_seconds: Annotated[
        int,
        typer.Option(
            "--timeout", parser=duration, metavar="DURATION", show_default="10m", help="How long --wait waits."
        ),
    ] = 600
