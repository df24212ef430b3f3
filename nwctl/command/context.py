"""`nwctl login`, `logout`, `whoami`, and the contexts that logging in leaves behind."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from nwctl.binding import command, noun
from nwctl.client import Client
from nwctl.config import ConfigFile, Settings, resolve, unstored
from nwctl.error import UsageError
from nwctl.option import Invocation
from nwctl.output import Column
from nwctl.secret import read_secret
from nwctl.session import Session

WHOAMI = "/api/iam/v1/whoami"
LOOPBACK = {"localhost", "127.0.0.1", "::1"}

IDENTITY = (
    Column("Role", "role"),
    Column("Tenant", "tenantName"),
    Column("Tenant ID", "tenantId"),
    Column("Department ID", "departmentId"),
)
CONTEXTS = (
    Column("Current", "current"),
    Column("Name", "name"),
    Column("Endpoint", "endpoint"),
    Column("Region", "region"),
    Column("Logged in", "loggedIn"),
)

app = noun("context", "Contexts: the coordinators that you logged in to.")


def login(
    session: Session,
    token: Annotated[
        str, typer.Option(help="The token; better left to NWCTL_TOKEN, the prompt or standard input.")
    ] = "",
) -> None:
    """Check a token against a coordinator and remember both."""
    settings = requested(session.invocation)
    settings = replace(settings, token=token or settings.token or read_secret("Token"))
    warn_of_plain_text(session, settings)
    identity, region = introduce(settings)
    file = ConfigFile.load()
    file.with_context(session.invocation.context or file.current, replace(settings, region=region)).save()
    session.report(identity, f"Logged in to {settings.endpoint} as {identity['role']}; kept in {file.path}")


def logout(session: Session) -> None:
    """Forget the token of a context; the token itself stays valid until it is deleted."""
    file = ConfigFile.load()
    name = session.invocation.context or file.current
    if name in file.contexts:
        replace(file, contexts={**file.contexts, name: replace(file.contexts[name], token="")}).save()
    session.report(None, f"Forgot the token of context {name!r}")


def whoami(session: Session) -> None:
    """Show who the coordinator takes you for."""
    identity = session.client.get(WHOAMI).data
    if session.output.as_json:
        session.output.data(identity)
        return
    session.output.record((Column("Endpoint", "endpoint"), Column("Region", "region")), asdict(session.settings))
    session.output.record(IDENTITY, identity)


@command(app, "list")
def list_contexts(session: Session) -> None:
    """List the contexts of the configuration file."""
    file = ConfigFile.load()
    rows = [
        {
            "name": name,
            "endpoint": settings.endpoint,
            "region": settings.region,
            "loggedIn": bool(settings.token),
            "current": name == file.current,
        }
        for name, settings in file.contexts.items()
    ]
    session.show_rows(CONTEXTS, rows, rows)


@command(app, "use")
def use_context(session: Session, name: Annotated[str, typer.Argument(help="A context's name.")]) -> None:
    """Make a context the one that commands use by default."""
    file = ConfigFile.load()
    if name not in file.contexts:
        raise UsageError(f"{file.path} has no context {name!r}; it has: {', '.join(file.contexts) or 'none'}")
    replace(file, current=name).save()
    session.report(None, f"Commands now use context {name!r}")


def requested(invocation: Invocation) -> Settings:
    """What to log in with: a new endpoint brings nothing of the old one along."""
    options: dict[str, Any] = asdict(invocation)
    known = replace(resolve(options), token="", lang=invocation.lang)
    settings = unstored(options) if invocation.endpoint else known
    if not settings.endpoint:
        raise UsageError("which coordinator? give --endpoint https://HOST:8443")
    endpoint = settings.endpoint if "://" in settings.endpoint else f"https://{settings.endpoint}"
    ca_file = str(Path(settings.ca_file).expanduser().absolute()) if settings.ca_file else ""
    return replace(settings, endpoint=endpoint.rstrip("/"), ca_file=ca_file)


def introduce(settings: Settings) -> tuple[dict[str, Any], str]:
    """Calls with the token: who it stands for, and the coordinator's region unless another is given."""
    with Client(settings) as client:
        identity: dict[str, Any] = client.get(WHOAMI).data
        return identity, settings.region or identity["region"]


def warn_of_plain_text(session: Session, settings: Settings) -> None:
    """Says so when the token would cross a network unencrypted."""
    url = httpx.URL(settings.endpoint)
    if url.scheme == "http" and url.host not in LOOPBACK:
        session.output.note(f"Warning: {url} is not encrypted: others on the network can read the token.")
