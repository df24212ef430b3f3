"""`nwctl token`: who may call the API."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from nwctl.binding import command, noun
from nwctl.command.tenant import TENANT
from nwctl.option import Page, duration
from nwctl.output import Column, moment
from nwctl.resource import Resource
from nwctl.session import Session

TOKEN = Resource(
    noun="token",
    path="/api/iam/v1/tokens",
    id_field="tokenId",
    id_pattern="tok-[a-z0-9]{14}",
    columns=(
        Column("ID", "tokenId"),
        Column("Name", "name"),
        Column("Role", "role"),
        Column("Tenant", "tenantId"),
        Column("Expires", "expiresAt", moment),
        Column("Last used", "lastUsedAt", moment),
        Column("Created", "createdAt", moment),
    ),
)


class Role(StrEnum):
    """What a token's bearer may do."""

    OPERATOR = "operator"
    TENANT = "tenant"
    AUDITOR = "auditor"


app = noun("token", "Tokens: who may call the API.")


@command(app, "list")
def list_tokens(session: Session, page: Page) -> None:
    """List the tokens; what they are made of is not kept."""
    session.show_list(TOKEN, page)


@command(app, "create")
def create_token(
    session: Session,
    name: Annotated[str, typer.Option(help="What it is for.")],
    role: Annotated[Role, typer.Option(help="What its bearer may do.")] = Role.TENANT,
    tenant: Annotated[
        str, typer.Option(help="The tenant it acts for, id or name.", autocompletion=TENANT.complete)
    ] = "",
    valid_for: Annotated[
        int, typer.Option(parser=duration, metavar="DURATION", show_default="for ever", help="How long it works.")
    ] = 0,
) -> None:
    """Create a token; it is shown this once."""
    body = {"name": name, "role": role}
    if tenant:
        body["tenantId"] = TENANT.find_id(session.client, tenant)
    if valid_for:
        body["expiresAt"] = (datetime.now(UTC) + timedelta(seconds=valid_for)).isoformat(timespec="milliseconds")
    data = session.client.change("POST", TOKEN.path, body).data
    if session.output.as_json:
        session.output.data(data)
        return
    session.output.note(f"{data['tokenId']} ({name}, {role}); keep it now, it cannot be shown again:")
    session.output.text(data["token"])


@command(app, "delete")
def delete_token(
    session: Session,
    token: Annotated[str, typer.Argument(help="Id or name.", autocompletion=TOKEN.complete)],
) -> None:
    """Delete a token: whoever bears it is refused from now on."""
    token_id = TOKEN.find_id(session.client, token)
    session.report(session.client.change("DELETE", TOKEN.at(token_id)).data, f"Deleted {token_id}")
