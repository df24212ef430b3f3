"""The lab without a test: `python -m tests.lab.by_hand up|down|on|fault`; tests/lab has a script for each."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.lab import control
from tests.lab.standing import Description, Standing

STATE = Path("/var/tmp/nodewright-lab")
_NETWORKS = ("manage", "storage", "business")


class Refusal(Exception):
    """What was asked for cannot be done; the message is for people."""


def main(argv: Sequence[str]) -> int:
    """The exit status."""
    arguments = build_parser().parse_args(argv)
    try:
        if os.geteuid():
            raise Refusal("run it as root: the lab is made of namespaces, with libvirt's system instance")
        status: int = arguments.act(arguments)
    except (Refusal, control.FaultFailed) as refusal:
        print(f"{arguments.verb}: {refusal}", file=sys.stderr)
        return 1
    return status


def up(arguments: argparse.Namespace) -> int:
    """Starts the lab, waits until it is ready, and tells how to look around."""
    standing = Standing(arguments.state_dir)
    try:
        claimed = standing.claim()
    except ValueError as error:
        raise Refusal(str(error)) from error
    if not claimed:
        raise Refusal(f"the lab in {standing.directory} is up already, or on its way: tests/lab/down ends it")
    print(f"up: {arguments.hosts} hosts, in {standing.directory}; this takes some seconds", file=sys.stderr)
    try:
        standing.start(arguments.image, arguments.hosts, shares_storage=arguments.shared_storage)
        description = standing.wait()
    except BaseException as failure:
        log = standing.tail_log()
        standing.end()
        if isinstance(failure, Exception):
            raise Refusal(f"the lab did not come up, and is gone again: {failure}\n{log}") from failure
        raise
    print(tell(standing, description))
    return 0


def down(arguments: argparse.Namespace) -> int:
    """Ends everything of the lab."""
    ended = Standing(arguments.state_dir).end()
    print("down: nothing of the lab is left" if ended else f"down: there is no lab in {arguments.state_dir}")
    return 0


def on(arguments: argparse.Namespace) -> int:
    """Becomes a command on a machine of the lab."""
    standing = _find(arguments)
    prefix = standing.enter(arguments.machine)
    if not prefix:
        raise Refusal(f"there is no machine {arguments.machine}, or it was killed")
    command = arguments.command or ["bash"]
    os.execvp("nsenter", [*prefix, *command])


def fault(arguments: argparse.Namespace) -> int:
    """Has a fault made or undone."""
    parameters = {name: value for name, value in vars(arguments).items() if name in control.PARAMETERS and value}
    control.ask(_find(arguments).control, arguments.machine, arguments.fault, parameters)
    return 0


def tell(standing: Standing, description: Description) -> str:
    """What a person needs to look around."""
    programs = Path(sys.executable).parent
    return f"""
The lab is up: {", ".join(description.machines)}. It stays until tests/lab/down.

  REST      {description.url}, documentation at {description.url}/docs
  Token     {standing.token}, role operator
  CA        {description.ca}
  Database, images, disks and logs of all programs are in {standing.directory}:
            coordinator-8443.log, hostN/agent.log, hostN/libvirtd.log, hostN/libvirt/var/log/libvirt/qemu/

  export NWCTL_ENDPOINT={description.url} NWCTL_CA_FILE={description.ca}
  export NWCTL_TOKEN=$(cat {standing.token}) NWCTL_REGION=region0
  {programs}/nwctl instance create --name guest --flavor demo --image demo --volume-size 1 --wait
  {programs}/nwctl instance list

  tests/lab/on host1 virsh list --all
  tests/lab/on host1                      # a shell; the coordinator is on "centre"
  tests/lab/fault host1 cut storage       # see tests/lab/fault --help; heal storage undoes it"""


def build_parser() -> argparse.ArgumentParser:
    """All verbs."""
    parser = argparse.ArgumentParser(prog="tests/lab/")
    verbs = parser.add_subparsers(dest="verb", required=True)
    starting = _add_verb(
        verbs, "up", up, "Starts a cloud on this machine: hosts in namespaces, joined by three networks."
    )
    starting.add_argument("--hosts", type=_count, default=2, metavar="N", help="how many (default 2, at most 20)")
    starting.add_argument("--shared-storage", action="store_true", help="all volumes are in one directory")
    starting.add_argument("--image", type=Path, required=True, help=argparse.SUPPRESS)
    _add_verb(verbs, "down", down, "Ends the lab, also one whose start was interrupted. Nothing is left of it.")
    entering = _add_verb(verbs, "on", on, "Runs a command on a machine of the lab; without one, a shell.")
    entering.add_argument("machine", metavar="MACHINE", help="host1, host2, ... or centre, where the coordinator is")
    entering.add_argument("command", nargs=argparse.REMAINDER)
    breaking = _add_verb(verbs, "fault", fault, "Makes something fail on a machine of the lab, or undoes that.")
    breaking.add_argument(
        "machine", metavar="MACHINE", help="host1, host2, ... or coordinator, whose process can be killed, paused, ..."
    )
    _add_faults(breaking.add_subparsers(dest="fault", required=True, metavar="FAULT"))
    return parser


def _add_verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    act: Callable[[argparse.Namespace], int],
    description: str,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, prog=f"tests/lab/{name}", description=description)
    parser.add_argument("--state-dir", type=Path, default=STATE, help=f"where the lab is kept (default {STATE})")
    parser.set_defaults(act=act)
    return parser


def _add_faults(faults: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    for name, text in control.CABLE_FAULTS.items():
        parser = faults.add_parser(name, help=text)
        parser.add_argument("network", choices=_NETWORKS, nargs="?" if name == "heal" else None)
        if name == "slow":
            parser.add_argument("--delay-ms", type=float, help="how much later everything arrives, each way")
            parser.add_argument("--rate-mbit", type=float, help="how much passes, each way")
        if name == "lose":
            parser.add_argument("--percent", type=float, required=True, help="of all frames, each way")
    for name, text in control.PROCESS_FAULTS.items():
        faults.add_parser(name, help=text).add_argument("process", nargs="?")
    for name, text in control.HOST_FAULTS.items():
        faults.add_parser(name, help=text)


def _count(text: str) -> int:
    if not 1 <= int(text) <= 20:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to 20")
    return int(text)


def _find(arguments: argparse.Namespace) -> Standing:
    standing = Standing(arguments.state_dir)
    if standing.description is None:
        raise Refusal(f"no lab is up in {standing.directory}: tests/lab/up starts one")
    return standing


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
