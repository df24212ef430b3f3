"""Command line of the coordinator."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from sqlalchemy.exc import OperationalError

from coordinator.config import DEFAULT_CONFIG_PATH, Settings
from coordinator.domain.caller import Caller, Role
from coordinator.durable_file import write_private
from coordinator.errors import CoordinatorError
from coordinator.log import configure_log
from coordinator.offline import make_offline_runtime
from coordinator.pki import Authority, AuthorityInvalid
from coordinator.rpc.server import ListenFailed
from coordinator.secret import SecretKeyInvalid
from coordinator.services import credential
from coordinator.services.audit import note_command
from coordinator.services.tenancy import find_tenant_id
from coordinator.store import schema
from coordinator.store.database import Database, DatabaseInUse

app = typer.Typer(
    help="The coordinator of a Nodewright cloud: REST interface, scheduler, database and authority.",
    no_args_is_help=True,
    add_completion=False,
    # Its tracebacks show local variables, and with them secrets.
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help=f"Configuration file. [default: {DEFAULT_CONFIG_PATH}, if there]"),
]
_SYSTEM = Caller("system", Role.OPERATOR)


class IssuableRole(StrEnum):
    """Roles of certificates that are made on the command line; agents get theirs by joining."""

    SCHEDULER = "scheduler"


class _Refusal(Exception):
    """The command cannot be carried out; the message says why."""


@app.command()
def serve(
    config: ConfigOption = None,
    migrate: Annotated[
        bool, typer.Option("--migrate", help="Bring a PostgreSQL database up to date first. SQLite always is.")
    ] = False,
) -> None:
    """Run the coordinator until SIGTERM."""
    arguments = [*(["--config", str(config)] if config else []), *(["--migrate"] if migrate else [])]
    # The same process, with the same environment, as a smaller program.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "coordinator.service", *arguments])  # noqa: S606 - no shell wanted


@app.command()
def migrate(config: ConfigOption = None) -> None:
    """Bring the database to the schema of this version."""
    with _refusals(), _open_database(load_settings(config)) as database:
        database.claim_sole_use()
        _ensure_schema(database, migrate_postgresql=True)
        typer.echo("The database is up to date.")


@app.command()
def openapi(config: ConfigOption = None) -> None:
    """Print the OpenAPI document of the REST interface."""
    from coordinator.api.app import create_app

    with _refusals():
        settings = load_settings(config)
        # Never connected to.
        runtime = make_offline_runtime(settings, Database(settings.effective_database_url))
        typer.echo(json.dumps(create_app(runtime).openapi(), ensure_ascii=False, indent=2))


@app.command("create-token")
def create_token(
    role: Annotated[Role, typer.Option(help="What its bearer may do.")] = Role.OPERATOR,
    name: Annotated[str, typer.Option(help="What it is for.")] = "command line",
    tenant: Annotated[str, typer.Option(help="Id or name of the tenant that it acts for.")] = "",
    config: ConfigOption = None,
) -> None:
    """Print a new token for the REST interface. Works while the coordinator runs."""
    # Nothing but the token shall be printed.
    configure_log("WARNING")
    with _refusals():
        settings = load_settings(config)
        with _open_database(settings) as database:
            _ensure_schema(database, migrate_postgresql=False)
            runtime = make_offline_runtime(settings, database)
            tenant_id = find_tenant_id(runtime, _SYSTEM, tenant) if tenant else None
            made = credential.create_token(runtime, _SYSTEM, name=name, role=role, tenant_id=tenant_id)
            note_command(runtime, _SYSTEM, "createToken", made.row.id)
            typer.echo(made.secret)


@app.command("create-certificate")
def create_certificate(
    name: Annotated[str, typer.Option(help="Who will bear it.")],
    out: Annotated[Path, typer.Option(metavar="DIRECTORY", help="Gets tls.crt, tls.key and ca.crt.")],
    role: Annotated[IssuableRole, typer.Option(help="What its bearer may do.")] = IssuableRole.SCHEDULER,
    config: ConfigOption = None,
) -> None:
    """Make a certificate with which another scheduler may call the coordinator and the agents. It lives 90 days."""
    with _refusals():
        authority = Authority.open(load_settings(config).pki_dir)
        certificate = authority.issue_scheduler(name)
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(out / "tls.key", certificate.key_pem)
        write_private(out / "tls.crt", certificate.certificate_pem)
        write_private(out / "ca.crt", authority.pem)
        typer.echo(f"{out}: certificate of {role} {name}, until {certificate.expires_at:%Y-%m-%d}")


def run_service(config: Path | None, *, migrate_postgresql: bool) -> None:
    """What `serve` does, in the process that serves."""
    with _refusals():
        run(load_settings(config), migrate_postgresql=migrate_postgresql)


def run(
    settings: Settings, *, migrate_postgresql: bool = False, on_commit: Callable[[str], None] = lambda _: None
) -> None:
    """Runs the coordinator in the foreground; `on_commit` is told of every commit of the task engine."""
    from coordinator.process import serve as serve_forever

    configure_log(settings.log_level)
    with _open_database(settings) as database:
        database.claim_sole_use()
        _ensure_schema(database, migrate_postgresql=migrate_postgresql)
        asyncio.run(serve_forever(settings, database, on_commit=on_commit))


def load_settings(config: Path | None = None) -> Settings:
    """The configuration from the file and the environment."""
    try:
        return Settings.load(config)
    except ValidationError as error:
        raise _Refusal("; ".join(_explain(problem) for problem in error.errors())) from None
    except (OSError, ValueError) as error:
        raise _Refusal(f"configuration: {error}") from None


@contextmanager
def _open_database(settings: Settings) -> Iterator[Database]:
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _Refusal(f"state_dir {settings.state_dir}: {error.strerror}") from None
    database = Database(settings.effective_database_url)
    try:
        yield database
    finally:
        database.close()


def _ensure_schema(database: Database, *, migrate_postgresql: bool) -> None:
    if schema.is_current(database):
        return
    if not database.is_sqlite and not migrate_postgresql:
        raise _Refusal("the database has another version's schema: run `nodewright-coordinator migrate`")
    if not schema.migrate_apart(database):
        raise _Refusal("the database could not be brought up to date; the reason is above")


@contextmanager
def _refusals() -> Iterator[None]:
    """Foreseeable failures become one line on standard error and exit status 1."""
    try:
        yield
    except (_Refusal, AuthorityInvalid, CoordinatorError, DatabaseInUse, ListenFailed, SecretKeyInvalid) as error:
        reason = str(error)
    except OperationalError as error:
        reason = f"database: {error.orig}"
    except OSError as error:
        reason = str(error)
    else:
        return
    typer.echo(f"nodewright-coordinator: {' '.join(reason.split())}", err=True)
    raise SystemExit(1)


def _explain(problem: ErrorDetails) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    return f"{name or 'configuration'}: {problem['msg']}"


if __name__ == "__main__":
    app()
