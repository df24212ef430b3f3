"""`nwctl audit`: who did what."""

from nwctl.binding import command, noun
from nwctl.option import Page
from nwctl.output import Column, moment, plain
from nwctl.resource import Resource
from nwctl.session import Session

AUDIT = Resource(
    noun="audit record",
    path="/api/ecs/v1/audit",
    id_field="auditId",
    id_pattern=r"\d+",
    name_field="requestId",
    columns=(
        Column("At", "at", moment),
        Column("Caller", "callerId"),
        Column("Name", "callerName"),
        Column("Role", "role"),
        Column("Operation", "operation"),
        Column("Resources", "resources", lambda names: plain(", ".join(names or ()))),
        Column("Status", "status"),
        Column("Code", "code"),
        Column("From", "sourceAddress"),
        Column("Request", "requestId"),
    ),
)

app = noun("audit", "The audit log: who did what. For operators and auditors.")


@command(app, "list")
def list_audit(session: Session, page: Page) -> None:
    """List the calls that changed something, or were refused to; the newest first."""
    session.show_list(AUDIT, page)
