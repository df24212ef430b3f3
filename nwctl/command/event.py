"""`nwctl events`: what happened, and what happens."""

import json
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from nwctl.client import BUSY_STATUSES
from nwctl.error import ApiError, CoordinatorUnreachable
from nwctl.output import moment, plain
from nwctl.session import Session

EVENTS = "/api/ecs/v1/events"
PAGE_LIMIT = 1000
FIRST_PAUSE_SECONDS = 0.5
LAST_PAUSE_SECONDS = 15.0

Event = dict[str, Any]


def show_events(
    session: Session,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")] = False,
    kinds: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="Only this kind, or kinds: instance.status_changed, migration.*"),
    ] = None,
    resource: Annotated[str | None, typer.Option(help="Only what happens to what has this id.")] = None,
    severity: Annotated[str | None, typer.Option(help="The least severity: info, warning or alarm.")] = None,
    after: Annotated[int | None, typer.Option(min=0, metavar="ID", help="Begin after this event.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=PAGE_LIMIT, help="How many, unless they are followed.")] = 50,
) -> None:
    """Show the latest events, or all that follow an event; with --json one object a line while they are followed."""
    query = {"kind": ",".join(kinds) if kinds else None, "resource": resource, "severity": severity}
    if follow:
        try:
            for event in follow_events(session, query, after):
                print_event(session, event)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
    else:
        data = session.client.get(f"{EVENTS}/list", {**query, "after": after, "pageSize": limit}).data
        if session.output.as_json:
            session.output.data(data)
            return
        shown = data["list"] if after is not None else reversed(data["list"])
        for event in shown:
            session.output.text(render(event))


def follow_events(session: Session, query: dict[str, Any], after: int | None) -> Iterator[Event]:
    """Events as they happen; goes on where it was when the connection breaks."""
    # A place to begin from is asked for first: else what happens while a connection is made anew would be lost.
    last = newest_id(session) if after is None else after
    pause_seconds = FIRST_PAUSE_SECONDS
    while True:
        try:
            for event in parse(session.client.stream(EVENTS, {**query, "after": last})):
                yield event
                last, pause_seconds = event["id"], FIRST_PAUSE_SECONDS
            reason = "the coordinator ended the stream"
        except CoordinatorUnreachable as error:
            reason = str(error)
        except ApiError as error:
            if error.http_status not in BUSY_STATUSES:
                raise
            reason = str(error)
        session.output.note(f"{reason}; trying again")
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 2, LAST_PAUSE_SECONDS)


def newest_id(session: Session) -> int:
    """The id of the newest event that can be seen; 0 before the first one."""
    rows = session.client.get(f"{EVENTS}/list", {"pageSize": 1}).data["list"]
    return int(rows[0]["id"]) if rows else 0


def parse(lines: Iterator[str]) -> Iterator[Event]:
    """The events in a stream; each has its data on one line."""
    for line in lines:
        name, _, value = line.partition(":")
        if name == "data":
            yield json.loads(value)


def print_event(session: Session, event: Event) -> None:
    """One line, at once also where a program reads."""
    line = json.dumps(event, ensure_ascii=False) if session.output.as_json else render(event)
    print(line, flush=True)


def render(event: Event) -> str:
    """One line about an event for people."""
    where = f" on {event['nodeId']}" if event.get("nodeId") and event["nodeId"] != event["resourceId"] else ""
    head = f"{moment(event['at'])}  {event['id']}  {event['severity']:7}  {event['kind']}  {event['resourceId']}{where}"
    return str(plain(f"{head}  {summarize(event.get('data') or {})}".rstrip())).replace("\n", " ")


def summarize(data: dict[str, Any]) -> str:
    """What changed and why, or whatever else there is to tell."""
    if "to" not in data:
        return " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in data.items())
    reason = f": {data['reason']}" if data.get("reason") else ""
    return f"{data.get('from') or '-'} -> {data['to']}{reason}"
