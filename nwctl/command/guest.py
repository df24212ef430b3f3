"""`nwctl instance exec`, `agent`, `reset-password`, `set-hostname`: into a guest through its agent."""

import base64
import json
import sys
import time
from typing import Annotated, Any, BinaryIO

import typer

from nwctl.binding import command
from nwctl.command.instance import INSTANCE, Reference, app
from nwctl.error import UsageError, WaitTimedOut
from nwctl.option import Waiting, duration
from nwctl.secret import read_secret
from nwctl.session import Session

FIRST_POLL_SECONDS = 0.05
LAST_POLL_SECONDS = 1.0


@command(app, "exec")
def run_in_guest(
    session: Session,
    instance: Reference,
    program: Annotated[list[str], typer.Argument(metavar="-- PROGRAM [ARGUMENT]...", help="What to run.")],
    env: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Environment variable.")] = None,
    stdin: Annotated[bool, typer.Option("--stdin", "-i", help="Pass standard input on.")] = False,
    timeout_seconds: Annotated[
        int, typer.Option("--timeout", parser=duration, metavar="DURATION", show_default="10m", help="How long.")
    ] = 600,
) -> None:
    """Run a program in the guest; its output and its exit status become this command's."""
    arguments: dict[str, Any] = {"path": program[0], "arg": program[1:], "capture-output": True}
    if env:
        arguments["env"] = env
    if stdin:
        arguments["input-data"] = base64.b64encode(sys.stdin.buffer.read()).decode()
    instance_id = INSTANCE.find_id(session.client, instance)
    pid = ask_agent(session, instance_id, "guest-exec", arguments)["pid"]
    status = await_exit(session, instance_id, pid, timeout_seconds)
    if session.output.as_json:
        session.output.data(status)
    else:
        relay(status, session)
    raise typer.Exit(status.get("exitcode", 128 + status.get("signal", 0)))


@command(app, "agent")
def call_agent(
    session: Session,
    instance: Reference,
    agent_command: Annotated[
        str, typer.Argument(metavar="COMMAND", help="Such as guest-info, or a whole JSON object.")
    ],
    arguments: Annotated[str, typer.Argument(metavar="[ARGUMENTS]", help="The command's arguments, JSON.")] = "",
) -> None:
    """Pass a command to the guest's agent and print what it returns."""
    instance_id = INSTANCE.find_id(session.client, instance)
    if agent_command.startswith("{"):
        session.output.data(send(session, instance_id, parsed(agent_command)))
    else:
        session.output.data(ask_agent(session, instance_id, agent_command, parsed(arguments or "{}")))


@command(app, "reset-password")
def reset_password(
    session: Session,
    instance: Reference,
    waiting: Waiting,
    user: Annotated[str, typer.Option(help="Account in the guest.")] = "root",
    vnc: Annotated[bool, typer.Option("--vnc", help="The password of the screen instead.")] = False,
) -> None:
    """Set a password in a running guest; it is asked for, or read from standard input."""
    instance_id = INSTANCE.find_id(session.client, instance)
    body = {"user": "" if vnc else user, "password": read_secret("Password", confirm=True)}
    answer = session.client.change("POST", f"{INSTANCE.at(instance_id)}/reset-password", body)
    session.conclude(answer, waiting, f"{instance_id} has a new password for {'its screen' if vnc else user}")


@command(app, "set-hostname")
def set_host_name(
    session: Session,
    instance: Reference,
    name: Annotated[str, typer.Argument(help="1 to 63 letters, digits and hyphens.")],
    waiting: Waiting,
) -> None:
    """Change what a guest calls itself: now where it runs, else with its next start."""
    instance_id = INSTANCE.find_id(session.client, instance)
    answer = session.client.change("PUT", f"{INSTANCE.at(instance_id)}/reset-hostname", {"hostname": name})
    session.conclude(answer, waiting, f"{instance_id} calls itself {name}")


def ask_agent(session: Session, instance_id: str, name: str, arguments: dict[str, Any]) -> Any:
    """What the guest's agent returns for a command."""
    return send(session, instance_id, {"execute": name, **({"arguments": arguments} if arguments else {})})


def send(session: Session, instance_id: str, qga_command: dict[str, Any]) -> Any:
    """Passes the command as it is."""
    return session.client.change("PUT", f"{INSTANCE.at(instance_id)}/vmtools", {"qgaCommand": qga_command}).data


def parsed(text: str) -> dict[str, Any]:
    """The JSON object in `text`."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f"a JSON object is wanted, not {text}")
    return value


def await_exit(session: Session, instance_id: str, pid: int, timeout_seconds: int) -> dict[str, Any]:
    """The guest-exec-status of the process once it has ended; the guest's agent has no call that waits."""
    deadline = time.monotonic() + timeout_seconds
    pause_seconds = FIRST_POLL_SECONDS
    while True:
        status: dict[str, Any] = ask_agent(session, instance_id, "guest-exec-status", {"pid": pid})
        if status["exited"]:
            return status
        if time.monotonic() > deadline:
            raise WaitTimedOut(f"process {pid} of the guest still runs after {timeout_seconds} s")
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 2, LAST_POLL_SECONDS)


def relay(status: dict[str, Any], session: Session) -> None:
    """Writes what the process wrote, byte for byte, and says how it ended unless it ended well."""
    write(sys.stdout.buffer, status.get("out-data"))
    write(sys.stderr.buffer, status.get("err-data"))
    if status.get("out-truncated") or status.get("err-truncated"):
        session.output.note("The guest's agent cut the output.")
    if "signal" in status:
        session.output.note(f"killed by signal {status['signal']}")
    elif status.get("exitcode"):
        session.output.note(f"exit code {status['exitcode']}")


def write(stream: BinaryIO, encoded: str | None) -> None:
    """Decodes and writes at once, in order with what follows."""
    stream.write(base64.b64decode(encoded or ""))
    stream.flush()
