"""`nwctl operation`: long work that the coordinator accepted."""

from typing import Annotated

import typer

from nwctl.binding import command, noun
from nwctl.option import Page, Waiting, duration
from nwctl.output import Column, moment, plain, status
from nwctl.progress import OPERATIONS, require_success
from nwctl.resource import Resource
from nwctl.session import Session

OPERATION = Resource(
    noun="operation",
    path=OPERATIONS,
    id_field="operationId",
    id_pattern="op-[a-z0-9]{20}",
    name_field="kind",
    rows_field="operations",
    columns=(
        Column("ID", "operationId"),
        Column("Kind", "kind"),
        Column("State", "state", status),
        Column("Resource", "resourceId"),
        Column("Progress", "progress", lambda percent: plain(f"{percent or 0} %")),
        Column("Created", "createdAt", moment),
        Column("Finished", "finishedAt", moment),
    ),
    details=(
        Column("Message", "message"),
        Column("Error", "error.code"),
        Column("Reason", "error.message"),
        Column("Cancelable", "cancelable"),
    ),
)
STEPS = (
    Column("Step", "name"),
    Column("Phase", "phase"),
    Column("State", "state", status),
    Column("Started", "startedAt", moment),
    Column("Finished", "finishedAt", moment),
    Column("Error", "error"),
)

app = noun("operation", "Operations: long work that the coordinator accepted.")
Reference = Annotated[str, typer.Argument(metavar="OPERATION", help="Id.", autocompletion=OPERATION.complete)]
References = Annotated[
    list[str], typer.Argument(metavar="OPERATION...", help="Ids.", autocompletion=OPERATION.complete)
]


@command(app, "list")
def list_operations(session: Session, page: Page) -> None:
    """List the operations, running and finished."""
    session.show_list(OPERATION, page)


@command(app, "show")
def show_operation(session: Session, operation: Reference) -> None:
    """Show one operation with its steps."""
    found = session.client.get(OPERATION.at(operation)).data
    session.show(OPERATION, found)
    if not session.output.as_json:
        session.output.text("")
        session.output.table(STEPS, found.get("steps") or ())


@command(app, "wait")
def wait_for_operations(
    session: Session,
    operations: References,
    timeout_seconds: Annotated[
        int, typer.Option("--timeout", parser=duration, metavar="DURATION", show_default="10m", help="How long.")
    ] = 600,
) -> None:
    """Follow operations to their end; fails where one of them does."""
    finished = session.follow(operations, Waiting(wait=True, timeout_seconds=timeout_seconds))
    if session.output.as_json:
        session.output.data(finished)
    require_success(finished)


@command(app, "cancel")
def cancel_operations(session: Session, operations: References) -> None:
    """Ask for operations to stop and be undone."""
    for operation in operations:
        answer = session.client.change("DELETE", OPERATION.at(operation))
        session.report(answer.data, f"Asked {operation} to stop; see `nwctl operation show {operation}`")
