"""A host's cable to one of the lab's networks, and what can be wrong with it."""

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from tests.lab.namespace import Namespace, Process
from tests.lab.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]
# A quarter of a second of what is waiting to be sent, as switches have it.
_QUEUE = "250ms"
_BURST = "64kb"


@dataclasses.dataclass(frozen=True)
class Impairment:
    """How a cable is worse than it should be, in each of its two directions; zeros: not at all."""

    delay_ms: float = 0
    loss_percent: float = 0
    rate_mbit: float = 0

    @property
    def needs_relay(self) -> bool:
        """Rates are limited by the kernel; kernels without netem can neither delay nor lose."""
        return bool(self.delay_ms or self.loss_percent)


def mac_address(ip: IPv4Address) -> str:
    """The same for the same address."""
    return ":".join(("52", "54", *(f"{octet:02x}" for octet in ip.packed)))


class Cable:
    """One end is a port of the network's bridge, the other the host's interface. Faults stay until `heal`."""

    def __init__(self, network: str, index: int, centre: Namespace, host: Namespace, log: Path) -> None:
        self.network = network
        self.port = f"{network}-{index}"
        self._centre = centre
        self._host = host
        self._impairment = Impairment()
        self._relay = Process(centre, f"relay of {self.port}", (), log)

    def plug_in(self, address: IPv4Interface) -> None:
        """Joins the two machines."""
        self.unplug()
        self._centre.connect(self.port, self._host, self.network)
        self._centre.run("ip", "link", "set", self.port, "master", self.network, "up")
        self._host.run("ip", "address", "add", str(address), "dev", self.network)
        # As a machine keeps its card when it is switched on again.
        self._host.run("ip", "link", "set", self.network, "address", mac_address(address.ip), "up")

    def unplug(self) -> None:
        """It is gone, with its faults; the kernel would let the network of a dead machine answer for a while."""
        self._relay.kill()
        self._impairment = Impairment()
        self._centre.run("ip", "link", "delete", self.port, check=False)

    def cut(self) -> None:
        """It is pulled: both ends lose their carrier."""
        self._centre.run("ip", "link", "set", self.port, "down")

    def slow(self, delay_ms: float = 0, rate_mbit: float = 0) -> None:
        """Every frame takes that long to arrive, and no more than this rate passes; what it loses stays as it is."""
        self._impair(dataclasses.replace(self._impairment, delay_ms=delay_ms, rate_mbit=rate_mbit))

    def lose(self, percent: float) -> None:
        """So many of the frames vanish, each for itself; delay and rate stay as they are."""
        self._impair(dataclasses.replace(self._impairment, loss_percent=percent))

    def heal(self) -> None:
        """As it was when it was plugged in."""
        self._impair(Impairment())
        self._centre.run("ip", "link", "set", self.port, "up")

    @contextmanager
    def listen(self, text: str) -> Iterator[list[int]]:
        """How many packets contain the text, of those in either direction; known after the block."""
        found: list[int] = []
        argv = (sys.executable, "-m", "tests.lab.listening", self.port, text)
        listening = Process(self._centre, f"listening at {self.port}", argv, self._relay.log.with_suffix(".heard"))
        listening.log.unlink(missing_ok=True)
        listening.start(environment={"PYTHONPATH": str(CHECKOUT)})
        wait_until(listening.log.read_text, "somebody listens")
        try:
            yield found
        finally:
            # It first reads what has queued up meanwhile.
            listening.stop(timeout_seconds=60)
            found.append(int(listening.log.read_text().split()[-1]))

    def _impair(self, wanted: Impairment) -> None:
        former, self._impairment = self._impairment, wanted
        self._limit_rate(wanted.rate_mbit)
        if (former.delay_ms, former.loss_percent) != (wanted.delay_ms, wanted.loss_percent):
            self._end_relay()
            if wanted.needs_relay:
                self._start_relay(wanted)

    def _limit_rate(self, rate_mbit: float) -> None:
        for machine, interface in ((self._centre, self.port), (self._host, self.network)):
            if rate_mbit:
                limit = ("tbf", "rate", f"{rate_mbit}mbit", "burst", _BURST, "latency", _QUEUE)
                machine.run("tc", "qdisc", "replace", "dev", interface, "root", *limit)
            else:
                machine.run("tc", "qdisc", "delete", "dev", interface, "root", check=False)

    def _start_relay(self, wanted: Impairment) -> None:
        self._relay.log.unlink(missing_ok=True)
        argv = (sys.executable, "-m", "tests.lab.relay", self.port, self.network)
        impairment = (str(wanted.delay_ms), str(wanted.loss_percent))
        self._relay.start((*argv, *impairment), {"PYTHONPATH": str(CHECKOUT)})
        wait_until(lambda: "relaying" in self._relay.log.read_text(), f"{self.port} is relayed")

    def _end_relay(self) -> None:
        if self._relay.is_running():
            self._relay.kill()
            self._centre.run("ip", "link", "set", self.port, "master", self.network, "arp", "on")
