"""`nwctl webhook`: addresses that are sent what happens."""

from typing import Annotated, Any

import typer

from nwctl.binding import command, noun
from nwctl.command.tenant import TENANT
from nwctl.error import OperationFailed
from nwctl.option import Page
from nwctl.output import Column, moment, plain
from nwctl.resource import Resource
from nwctl.secret import read_secret
from nwctl.session import Session

WEBHOOK = Resource(
    noun="webhook",
    path="/api/ecs/v1/webhooks",
    id_field="webhookId",
    id_pattern="wh-[a-z0-9]{14}",
    name_field="url",
    columns=(
        Column("ID", "webhookId"),
        Column("URL", "url"),
        Column("Kinds", "kinds", lambda kinds: plain(", ".join(kinds or ()) or "all")),
        Column("Severity", "severity"),
        Column("Enabled", "enabled"),
        Column("Last event", "lastEventId"),
        Column("Delivered", "lastDeliveredAt", moment),
        Column("Failing since", "failingSince", moment),
        Column("Last error", "lastError"),
    ),
    details=(
        Column("Last error at", "lastErrorAt", moment),
        Column("Attempts", "attempts"),
        Column("Next attempt", "nextAttemptAt", moment),
        Column("Tenant", "tenantId"),
        Column("Created", "createdAt", moment),
    ),
)

app = noun("webhook", "Webhooks: addresses that are sent what happens.")
Reference = Annotated[str, typer.Argument(metavar="WEBHOOK", help="Id or URL.", autocompletion=WEBHOOK.complete)]


@command(app, "list")
def list_webhooks(session: Session, page: Page) -> None:
    """List the webhooks, and how each of them is doing."""
    session.show_list(WEBHOOK, page)


@command(app, "show")
def show_webhook(session: Session, webhook: Reference) -> None:
    """Show one webhook, and how it is doing."""
    session.show(WEBHOOK, WEBHOOK.find(session.client, webhook))


@command(app, "create")
def create_webhook(
    session: Session,
    url: Annotated[str, typer.Argument(help="Where events are POSTed to.")],
    kinds: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="Only this kind, or kinds: instance.status_changed, migration.*"),
    ] = None,
    severity: Annotated[str, typer.Option(help="The least severity: info, warning or alarm.")] = "info",
    tenant: Annotated[str, typer.Option(help="Only this tenant's events.", autocompletion=TENANT.complete)] = "",
    own_secret: Annotated[
        bool, typer.Option("--secret", help="Ask for the secret that signs events, instead of making one.")
    ] = False,
) -> None:
    """Send events to an address from now on; a secret that is made for it is shown this once."""
    body: dict[str, Any] = {"url": url, "kinds": kinds or [], "severity": severity}
    if tenant:
        body["tenantId"] = TENANT.find_id(session.client, tenant)
    if own_secret:
        body["secret"] = read_secret("Secret", confirm=True)
    data = session.client.change("POST", WEBHOOK.path, body).data
    if session.output.as_json:
        session.output.data(data)
    elif own_secret:
        session.output.note(f"Created {data['webhookId']}")
    else:
        session.output.note(f"{data['webhookId']}; its secret, which cannot be shown again:")
        session.output.text(data["secret"])


@command(app, "delete")
def delete_webhook(session: Session, webhook: Reference) -> None:
    """Send nothing there any more."""
    webhook_id = WEBHOOK.find_id(session.client, webhook)
    session.report(session.client.change("DELETE", WEBHOOK.at(webhook_id)).data, f"Deleted {webhook_id}")


@command(app, "enable")
def enable_webhook(session: Session, webhook: Reference) -> None:
    """Try a webhook again at once that fails or was given up."""
    webhook_id = WEBHOOK.find_id(session.client, webhook)
    answer = session.client.change("POST", f"{WEBHOOK.at(webhook_id)}/enable")
    session.report(answer.data, f"{webhook_id} is tried again")


@command(app, "test")
def test_webhook(session: Session, webhook: Reference) -> None:
    """Send an event that tells of nothing, and tell how it was answered."""
    webhook_id = WEBHOOK.find_id(session.client, webhook)
    data = session.client.change("POST", f"{WEBHOOK.at(webhook_id)}/test").data
    if session.output.as_json or data["delivered"]:
        session.report(data, f"{webhook_id} answers {data['status']}")
    if not data["delivered"]:
        raise OperationFailed(f"{webhook_id} did not take the event: {data['error']}")
