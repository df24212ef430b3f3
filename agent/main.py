"""nodewright-agent: join a cloud, serve it, and look at a host with a doctor's eyes.

A command imports what it needs: the agent stays small, and `--help` is quick.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from agent.config import AgentConfig, ConfigInvalid, load_config

app = typer.Typer(
    name="nodewright-agent",
    help="Makes this machine a compute node of a Nodewright cloud.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Configuration file; /etc/nodewright/agent.toml when there is one."),
]


@app.command()
def join(
    coordinator: Annotated[str, typer.Option(help="Address of the coordinator, like https://host:8443.")],
    token: Annotated[
        str,
        typer.Option(envvar="NODEWRIGHT_AGENT_TOKEN", help='Enrolment token; "-" reads it from the standard input.'),
    ],
    config: ConfigOption = None,
) -> None:
    """Get a certificate from a coordinator. May be repeated: a lost answer costs nothing."""
    from agent.coordinator_client import CoordinatorRefused, CoordinatorUnavailable
    from agent.enrolment import enrol
    from agent.identity import Identity, IdentityMissing, TokenInvalid, read_machine_uuid

    settings = _load(config)
    identity = Identity(settings.state_dir, settings.pki_dir)
    try:
        membership = asyncio.run(
            enrol(
                identity,
                coordinator_url=coordinator,
                token=(sys.stdin.readline() if token == "-" else token).strip(),  # noqa: S105 - a dash is no secret
                machine_uuid=read_machine_uuid(settings.machine_uuid),
            )
        )
    except (
        TokenInvalid,
        IdentityMissing,
        CoordinatorRefused,
        CoordinatorUnavailable,
        ValueError,
        OSError,
    ) as error:
        _fail(f"not joined: {error}")
    typer.echo(f"This machine is {membership.node_id} in {membership.region}. Start it with: nodewright-agent serve")


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Serve the cloud that this machine has joined, until SIGTERM. Guests run on."""
    arguments = [str(config)] if config else []
    # The same process, with the same environment, as a smaller program.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "agent.process", *arguments])  # noqa: S606 - no shell wanted


@app.command()
def doctor(
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Check whether this machine can be a compute node, and say what to fix. Changes nothing."""
    from agent.doctor import examine, show
    from agent.log import configure_log

    configure_log("ERROR")
    findings = asyncio.run(examine(_load(config)))
    show(findings, as_json=as_json)
    raise typer.Exit(any(finding.verdict == "fail" for finding in findings))


def _load(path: Path | None) -> AgentConfig:
    try:
        return load_config(path)
    except ConfigInvalid as error:
        _fail(str(error))


def _fail(reason: str) -> NoReturn:
    typer.echo(reason, err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
