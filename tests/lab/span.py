"""Those who talk to a guest while it moves: its subnet over several hosts, a neighbour in it, and what they hear."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.cloud import Instance
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]
_NEIGHBOUR = "10.80.0.200/24"
_FORWARDING = "3"


class Span:
    """A subnet of guests over hosts and a neighbour beside them, joined by the cables of the network for guests.

    The product's networks end at their node, behind NAT: this is what its bridges are when somebody joins them.
    """

    def __init__(self, lab: Lab, bridge: str) -> None:
        self._lab = lab
        self._bridge = bridge
        lab.centre.run("ip", "address", "add", _NEIGHBOUR, "dev", "business")

    def join(self, host: Host) -> None:
        """The host's bridge for the subnet is one of them, as soon as it is there."""
        bridge = f"/sys/class/net/{self._bridge}"
        wait_until(lambda: host.namespace.run("ls", bridge), "the bridge is there", 60)
        # The spanning tree would keep the port closed for four seconds.
        host.namespace.run("ip", "link", "set", self._bridge, "type", "bridge", "stp_state", "0")
        host.namespace.run("ip", "link", "set", "business", "master", self._bridge)
        state = f"{bridge}/brif/business/state"
        wait_until(lambda: host.namespace.run("cat", state).strip() == _FORWARDING, "the bridges are joined")

    def end(self) -> None:
        """Each host is for itself again."""
        for host in self._lab.hosts:
            host.namespace.run("ip", "link", "set", "business", "nomaster")
        self._lab.centre.run("ip", "address", "delete", _NEIGHBOUR, "dev", "business")

    @contextmanager
    def talk(self, address: str, port: int) -> Iterator[list[float]]:
        """The neighbour talks to the guest all the while; after the block: how many answers, and the longest wait."""
        outcome: list[float] = []
        talking = ("env", f"PYTHONPATH={CHECKOUT}", sys.executable, "-m", "tests.lab.talking", address, str(port))
        process = subprocess.Popen(
            self._lab.centre.command(*talking),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "talking\n", process.communicate()[1]
                yield outcome
                said, complaint = process.communicate(timeout=60)
                assert process.returncode == 0, complaint
                outcome += map(float, said.split())
            finally:
                process.kill()


def clock_ahead_seconds(instance: Instance) -> float:
    """How far the guest's clock is ahead of this machine's, by the quickest of some answers."""
    looks = []
    for _ in range(5):
        begin = time.time()
        guest_seconds = float(instance.guest_agent("guest-get-time")) / 1e9
        end = time.time()
        looks.append((end - begin, guest_seconds - (begin + end) / 2))
    return min(looks)[1]
