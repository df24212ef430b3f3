"""Many cheap hosts on one real coordinator: what their heartbeats, inventories and events cost it, and how soon REST
shows a change of a host.

Hosts are real agents' sessions on libvirt's test driver, hundreds in a process (see `fleet_hosts`): each enrols with a
token of its own and has its certificate, its connection and its guests. Only their instances are inserted past the
coordinator. A change is a guest that is suspended or resumed behind the agent's back, a few a second; REST is asked for
it until it shows.

Processor time is the coordinator's own, and means the same on a busy machine. The hosts need about as much of it on the
same machine, and whatever else runs there delays what is measured in seconds: take that for an upper bound.
"""

import argparse
import json
import multiprocessing
import random
import secrets
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from sqlalchemy import insert

from coordinator.domain.instance import InstanceStatus, PowerState
from coordinator.services.credential import TOKEN_PREFIX, hash_token
from coordinator.store.database import Database
from coordinator.store.tables import ApiToken, Instance
from tests.bench.coordinator_process import Client, Coordinator, free_port, running
from tests.bench.fleet_hosts import Order, guest_uuid, run_hosts
from tests.builders import a_flavor, a_flavor_type, a_tenant, add, an_instance

CPU_LIMIT_PERCENT: Final = 50.0
RSS_LIMIT_MIB: Final = 400.0
SEEN_LIMIT_SECONDS: Final = 2.0

_API: Final = "/api/ecs/v1"
_REGISTER_SECONDS: Final = 600.0
_SETTLE_SECONDS: Final = 10.0
# A change that is not seen by then counts as so long.
_PATIENCE_SECONDS: Final = 30.0
# From one question to the next: ever longer, so that asking does not become what is measured.
_FIRST_PAUSE_SECONDS: Final = 0.02
_LAST_PAUSE_SECONDS: Final = 0.2
_WATCHERS: Final = 32
_IDLE_SECONDS: Final = 2.0
_STATUSES: Final = {"suspend": "Paused", "resume": "Running"}
_MEMORY: Final = Path("/dev/shm")
_ROWS: Final = (
    ("processor, % of a core", "cpu_percent", f"{CPU_LIMIT_PERCENT:.0f}"),
    ("resident memory, most, MiB", "rss_mib", f"{RSS_LIMIT_MIB:.0f}"),
    ("change seen in REST, p50, s", "seen_p50_seconds", ""),
    ("change seen in REST, p99, s", "seen_p99_seconds", f"{SEEN_LIMIT_SECONDS:.0f}"),
    ("changes", "changes", ""),
    ("requests for them", "requests", ""),
    ("heartbeats each second", "heartbeats_each_second", ""),
    ("inventories each second", "inventories_each_second", ""),
    ("events each second", "events_each_second", ""),
    ("sessions that broke", "broken_sessions", "0"),
    ("seconds", "seconds", ""),
)
_DIGITS: Final = {"seen_p50_seconds": 3, "seen_p99_seconds": 3, "changes": 0, "requests": 0, "broken_sessions": 0}


@dataclass(frozen=True)
class Beginning:
    """How all hosts came, each with the processor time that it took of the coordinator, seconds."""

    what: str
    hosts: int
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Steady:
    """The coordinator with all hosts connected."""

    what: str
    seconds: float
    # Of one core.
    cpu_percent: float
    # The most so far.
    rss_mib: float
    heartbeats_each_second: float
    inventories_each_second: float
    events_each_second: float
    # Sessions that ended and began anew: there should be none.
    broken_sessions: int
    # From a change until REST shows it.
    seen_p50_seconds: float | None = None
    seen_p99_seconds: float | None = None
    changes: int = 0
    # Of REST; what they cost is part of the processor time.
    requests: int = 0


class HostProcess:
    """A process with many hosts."""

    def __init__(self, order: Order) -> None:
        context = multiprocessing.get_context("spawn")
        self.numbers = order.numbers
        self._pipe, far = context.Pipe()
        self._sending = threading.Lock()
        self._process = context.Process(target=run_hosts, args=(far, order))
        self._process.start()

    def tell(self, what: str, detail: Any = None) -> None:
        """Has it do something."""
        with self._sending:
            self._pipe.send((what, detail))

    def ask(self, what: str, detail: Any = None) -> Any:
        """Has it do something that it answers. For one thread."""
        self.tell(what, detail)
        return self._pipe.recv()

    def stop(self) -> None:
        """Ends it."""
        self.tell("stop")
        self._process.join(30)
        self._process.kill()


class Fleet:
    """All hosts of the bench."""

    def __init__(self, processes: Sequence[HostProcess]) -> None:
        self._processes = processes
        self._process_of = {number: process for process in processes for number in process.numbers}
        self.node_ids: dict[int, str] = {}

    def join(self, client: Client) -> None:
        """Every host gets a token, and a certificate for it."""
        tokens = {number: _make_token(client) for number in self._process_of}

        def join(process: HostProcess) -> None:
            self.node_ids |= process.ask("join", {number: tokens[number] for number in process.numbers})

        with ThreadPoolExecutor(len(self._processes)) as pool:
            list(pool.map(join, self._processes))

    def serve(self) -> None:
        """Every host opens a session, and keeps it."""
        for process in self._processes:
            process.tell("serve")
        deadline = time.monotonic() + _REGISTER_SECONDS
        while (sessions := self.count()["sessions"]) < len(self._process_of):
            assert time.monotonic() < deadline, f"only {sessions} hosts are registered"
            time.sleep(0.2)

    def count(self) -> Counter[str]:
        """What all of them have done so far."""
        counts: Counter[str] = Counter()
        for process in self._processes:
            # Not a sum: it would drop what is not positive.
            counts.update(process.ask("count"))
        return counts

    def change(self, host: int, guest: int, action: str) -> None:
        """Somebody changes a guest there."""
        self._process_of[host].tell("change", (host, guest, action))


class Watch:
    """Changes guests at a steady rate, and asks REST for each until the change is seen."""

    def __init__(
        self, coordinator: Coordinator, token: str, fleet: Fleet, ecs_ids: Mapping[tuple[int, int], str]
    ) -> None:
        self._coordinator = coordinator
        self._token = token
        self._fleet = fleet
        self._ecs_ids = ecs_ids
        self._own = threading.local()
        self._requests = 0
        self._counting = threading.Lock()

    def run(self, seconds: float, each_second: float) -> tuple[list[float], int]:
        """How long each change took to be seen, in seconds, and how often REST was asked."""
        changes = islice(self._plan(), int(seconds * each_second))
        began = time.monotonic()
        seen: list[Future[float]] = []
        requests = self._requests
        with ThreadPoolExecutor(_WATCHERS) as pool:
            for number, change in enumerate(changes):
                # Each at its own moment, however long the others take.
                time.sleep(max(0.0, began + number / each_second - time.monotonic()))
                seen.append(pool.submit(self._time, *change, time.monotonic()))
            time.sleep(max(0.0, began + seconds - time.monotonic()))
        return [future.result() for future in seen], self._requests - requests

    def _plan(self) -> Iterator[tuple[tuple[int, int], str]]:
        guests = random.Random(1).sample(list(self._ecs_ids), len(self._ecs_ids))
        for action in cycle(_STATUSES):
            yield from ((guest, action) for guest in guests)

    def _time(self, guest: tuple[int, int], action: str, began: float) -> float:
        path = f"{_API}/instances/{self._ecs_ids[guest]}"
        self._fleet.change(*guest, action)
        pause_seconds = _FIRST_PAUSE_SECONDS
        while (passed := time.monotonic() - began) < _PATIENCE_SECONDS:
            if json.loads(self._get(path))["data"]["status"] == _STATUSES[action]:
                return time.monotonic() - began
            time.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 1.5, _LAST_PAUSE_SECONDS)
        return passed

    def _get(self, path: str) -> bytes:
        with self._counting:
            self._requests += 1
        # The coordinator closes what is idle for seconds.
        if time.monotonic() - getattr(self._own, "used_at", 0.0) > _IDLE_SECONDS:
            self._own.client = Client(self._coordinator, self._token)
        client: Client = self._own.client
        content = client.get(path)
        self._own.used_at = time.monotonic()
        return content


def main() -> None:
    """Measures and prints tables and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=1000, help="cheap hosts (default: 1000)")
    parser.add_argument("--guests", type=int, default=10, help="guests on each (default: 10)")
    parser.add_argument("--seconds", type=float, default=60, help="how long to look at each state (default: 60)")
    parser.add_argument("--changes", type=float, default=5, help="changes of guests each second (default: 5)")
    parser.add_argument("--news", type=float, default=0.3, help="share of inventories with news (default: 0.3)")
    parser.add_argument("--processes", type=int, default=4, help="processes that the hosts share (default: 4)")
    parser.add_argument("--directory", type=Path, help="where the state is (default: a temporary directory)")
    options = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.directory)))
        memory = _MEMORY if _MEMORY.is_dir() else None
        run_directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory)))
        settings = {"GRPC_LISTEN": f"127.0.0.1:{free_port()}", "JOIN_LISTEN": f"127.0.0.1:{free_port()}"}
        coordinator = stack.enter_context(running(directory, settings))
        token = _add_token(directory)
        fleet = stack.enter_context(_hosts(options, coordinator, directory / "hosts", run_directory))
        measure(coordinator, fleet, token, directory, options)


def measure(coordinator: Coordinator, fleet: Fleet, token: str, directory: Path, options: argparse.Namespace) -> None:
    """Has all hosts join, looks at them, and shows it."""
    beginnings = [_time(coordinator, "enrolled", options.hosts, lambda: fleet.join(Client(coordinator, token)))]
    ecs_ids = _add_instances(directory, fleet.node_ids, options.guests)
    beginnings.append(_time(coordinator, "registered", options.hosts, fleet.serve))
    time.sleep(_SETTLE_SECONDS)
    watch = Watch(coordinator, token, fleet, ecs_ids)
    states = [
        observe(coordinator, fleet, "as it is", lambda: watch.run(options.seconds, 0)),
        observe(coordinator, fleet, "guests change", lambda: watch.run(options.seconds, options.changes)),
    ]
    show(beginnings, states)


def observe(
    coordinator: Coordinator, fleet: Fleet, what: str, pass_time: Callable[[], tuple[list[float], int]]
) -> Steady:
    """What the coordinator does meanwhile."""
    before, cpu_seconds, began = fleet.count(), coordinator.cpu_seconds(), time.monotonic()
    seen_seconds, requests = pass_time()
    seconds = time.monotonic() - began
    cpu_seconds = coordinator.cpu_seconds() - cpu_seconds
    counts = fleet.count()
    counts.subtract(before)
    p50, p99 = _quantiles(seen_seconds) if seen_seconds else (None, None)
    steady = Steady(
        what=what,
        seconds=seconds,
        cpu_percent=cpu_seconds / seconds * 100,
        rss_mib=coordinator.peak_rss_mib(),
        heartbeats_each_second=counts["heartbeats"] / seconds,
        inventories_each_second=counts["inventories"] / seconds,
        events_each_second=counts["events"] / seconds,
        broken_sessions=counts["registrations"],
        seen_p50_seconds=p50,
        seen_p99_seconds=p99,
        changes=len(seen_seconds),
        requests=requests,
    )
    print(steady, file=sys.stderr)
    return steady


@contextmanager
def _hosts(
    options: argparse.Namespace, coordinator: Coordinator, directory: Path, run_directory: Path
) -> Iterator[Fleet]:
    processes = []
    try:
        for first in range(options.processes):
            home = directory / f"{first}"
            home.mkdir(parents=True)
            order = Order(
                numbers=range(first, options.hosts, options.processes),
                guests=options.guests,
                news=options.news,
                coordinator_url=f"https://127.0.0.1:{coordinator.port}",
                directory=home,
                run_directory=run_directory,
            )
            processes.append(HostProcess(order))
        yield Fleet(processes)
    finally:
        for process in processes:
            process.stop()


def _add_token(directory: Path) -> str:
    secret = f"{TOKEN_PREFIX}{secrets.token_hex(32)}"
    with _database(directory) as database, database.write() as session:
        add(session, ApiToken(id="token-bench", name="bench", token_hash=hash_token(secret), role="operator"))
    return secret


def _make_token(client: Client) -> str:
    token: str = json.loads(client.post(f"{_API}/nodes/enrolment-tokens", {}))["data"]["token"]
    return token


def _add_instances(directory: Path, node_ids: Mapping[int, str], guests: int) -> dict[tuple[int, int], str]:
    """The instances that the guests are; their ids by host and guest."""
    tenant, kind = a_tenant(), a_flavor_type()
    flavor = a_flavor(kind)
    state: dict[str, Any] = {"status": InstanceStatus.RUNNING, "power_state": PowerState.RUNNING}
    rows = {
        (host, guest): an_instance(tenant, flavor, uuid=guest_uuid(host, guest), node_id=node_id, **state)
        for host, node_id in node_ids.items()
        for guest in range(guests)
    }
    with _database(directory) as database, database.write() as session:
        add(session, tenant, kind, flavor)
        # Past the session, which would tell of each.
        session.connection().execute(insert(Instance), [row.model_dump(exclude={"id"}) for row in rows.values()])
    return {guest: row.ecs_id for guest, row in rows.items()}


@contextmanager
def _database(directory: Path) -> Iterator[Database]:
    """The running coordinator's."""
    database = Database(f"sqlite:///{directory / 'coordinator.db'}")
    try:
        yield database
    finally:
        database.close()


def _time(coordinator: Coordinator, what: str, hosts: int, action: Callable[[], object]) -> Beginning:
    cpu_seconds, began = coordinator.cpu_seconds(), time.monotonic()
    action()
    beginning = Beginning(what, hosts, time.monotonic() - began, coordinator.cpu_seconds() - cpu_seconds)
    print(beginning, file=sys.stderr)
    return beginning


def _quantiles(values: Sequence[float]) -> tuple[float, float]:
    return statistics.median(values), statistics.quantiles(values, n=100, method="inclusive")[98]


def show(beginnings: Sequence[Beginning], states: Sequence[Steady]) -> None:
    """Tables for people, JSON for programs."""
    console = Console()
    table = Table("what", "hosts", "seconds", "processor, s", "processor, ms each", title="how the hosts came")
    for it in beginnings:
        each_ms = it.cpu_seconds / it.hosts * 1000
        table.add_row(it.what, f"{it.hosts}", f"{it.seconds:.1f}", f"{it.cpu_seconds:.1f}", f"{each_ms:.1f}")
    console.print(table)
    table = Table("", *(it.what for it in states), "limit", title="the coordinator with all of them connected")
    for what, attribute, limit in _ROWS:
        figures = [getattr(it, attribute) for it in states]
        table.add_row(what, *("-" if it is None else f"{it:.{_DIGITS.get(attribute, 1)}f}" for it in figures), limit)
    console.print(table)
    print(json.dumps({"beginnings": [asdict(it) for it in beginnings], "states": [asdict(it) for it in states]}))


if __name__ == "__main__":
    main()
