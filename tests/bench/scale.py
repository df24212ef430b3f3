"""REST of a real coordinator over a large cloud: lists, single instances, counts, creations, and the memory it takes.

Hosts and instances are inserted past the coordinator (see `scale_rows`); its clients come over HTTPS. There are no
agents: the hosts' leases last for a day, and the operations of new instances wait for addresses that never answer.
"""

import argparse
import json
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from rich.console import Console
from rich.table import Table

from coordinator.store.database import Database
from coordinator.store.migration import migrate
from tests.bench.coordinator_process import Client, Coordinator, port_of, running
from tests.bench.scale_rows import ZONES, Cloud, fill

LIST_LIMIT_MS: Final = 25.0
GET_LIMIT_MS: Final = 8.0
RSS_LIMIT_MIB: Final = 600.0

_INSTANCES: Final = "/api/ecs/v1/instances"
_NODES: Final = "/api/ecs/v1/nodes"
_PAGE: Final = 50
_WARM_UP_REQUESTS: Final = 5
_SETTLE_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Question:
    """A request that is asked again and again, each time for the next of `paths`; no limit where there is none yet."""

    name: str
    token: str
    paths: Sequence[str]
    limit_ms: float | None = None


@dataclass(frozen=True)
class Answers:
    """How long they took, in milliseconds; of the coordinator's processor time each had `cpu_ms`."""

    name: str
    p50_ms: float
    p99_ms: float
    least_ms: float
    cpu_ms: float
    limit_ms: float | None


@dataclass(frozen=True)
class Creations:
    """Create calls of that many clients at once, milliseconds; the coordinator's processor time is that of each call
    and of what its operation does meanwhile.
    """

    clients: int
    count: int
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    each_second: float


def main() -> None:
    """Measures and prints tables and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=10_000, help="ready hosts (default: 10000)")
    parser.add_argument("--instances", type=int, default=100_000, help="instances (default: 100000)")
    parser.add_argument("--seed", type=int, default=1, help="decides everything that is random (default: 1)")
    parser.add_argument("--directory", type=Path, help="where the state is (default: a temporary directory)")
    parser.add_argument("--database", default="", help="URL of an empty PostgreSQL database (default: SQLite)")
    parser.add_argument("--requests", type=int, default=60, help="requests of each kind (default: 60)")
    parser.add_argument("--seconds", type=float, default=10, help="how long to create instances (default: 10)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as name, _silent_port() as agent_port:
        directory = Path(name)
        database = Database(options.database or f"sqlite:///{directory / 'coordinator.db'}")
        migrate(database)
        cloud = fill(database, options.hosts, options.instances, options.seed, agent_port)
        database.close()
        with running(directory, _settings(options.database)) as coordinator:
            measure(coordinator, cloud, options.requests, options.seconds)


def _settings(database_url: str) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "GRPC_LISTEN": "127.0.0.1:0",
        "JOIN_LISTEN": "127.0.0.1:0",
        "NODE_LEASE": "P1D",
        "ZONES": json.dumps(ZONES),
    }


def measure(coordinator: Coordinator, cloud: Cloud, requests: int, seconds: float) -> None:
    """Asks everything, and shows it."""
    time.sleep(_SETTLE_SECONDS)
    rss_mib = {"started": coordinator.rss_mib()}
    answers = [ask(coordinator, question, requests) for question in questions(cloud)]
    rss_mib["after reading"] = coordinator.rss_mib()
    creations = [create(coordinator, cloud, clients, seconds) for clients in (1, 8)]
    rss_mib["after creating"] = coordinator.rss_mib()
    show(answers, creations, rss_mib)


def questions(cloud: Cloud) -> Iterator[Question]:
    """What is asked."""
    tenant = cloud.tenants[1].id
    last = -(-len(cloud.ecs_ids) // _PAGE)
    lists: dict[str, dict[str, Any]] = {
        "all": {},
        "status": {"filter": "status:eq:running"},
        "tenant": {"filter": f"tenantId:eq:{tenant}"},
        "zone": {"filter": "az:eq:AZ1"},
        "zone and status": {"filter": "az:eq:AZ2|status:eq:Stopped"},
        "tenant and status": {"filter": f"tenantId:eq:{tenant}|status:in:Stopped,Paused"},
        "host": {"filter": f"nodeId:eq:{cloud.node.id}"},
        "host's name": {"filter": f"nodeName:eq:{cloud.node.name}"},
        "flavor's name": {"filter": "flavorName:eq:2c4g"},
        "name contains, many": {"filter": "displayName:lk:WEB"},
        "name contains, few": {"filter": "displayName:lk:prod-0123"},
        "name contains, none": {"filter": "displayName:lk:nothing"},
        "label": {"vmLabels": "team=storage"},
        "by name": {"orderBy": "displayName"},
        "page in the middle": {"pageNumber": last // 2},
        "last page": {"pageNumber": last},
    }
    for name, parameters in lists.items():
        yield _list_question(name, "operator", cloud.operator_token, parameters)
    for name in ("all", "status", "zone and status", "name contains, many", "name contains, few", "by name"):
        yield _list_question(name, "tenant", cloud.tenant_token, lists[name])
    last = -(-len(cloud.tenant_ecs_ids) // _PAGE)
    yield _list_question("last page", "tenant", cloud.tenant_token, {"pageNumber": last})
    yield _list_question("all", "small tenant", cloud.small_tenant_token, {})
    for role, token, ecs_ids in (
        ("operator", cloud.operator_token, cloud.ecs_ids),
        ("tenant", cloud.tenant_token, cloud.tenant_ecs_ids),
    ):
        paths = [f"{_INSTANCES}/{ecs_id}" for ecs_id in ecs_ids[:: len(ecs_ids) // 97 + 1]]
        yield Question(f"{role}: get one", token, paths, GET_LIMIT_MS)
    others = {
        "nodes": f"{_NODES}?size={_PAGE}",
        "nodes of a zone": f"{_NODES}?size={_PAGE}&filter=az:eq:AZ1",
        "instances by status (1.37)": "/api/ecs/v1/monitor/vmcount",
        "capacity (1.38)": "/api/ecs/v1/monitor/capacity",
        "/metrics": "/metrics",
    }
    for name, path in others.items():
        yield Question(name, cloud.operator_token, [path])


def _list_question(name: str, role: str, token: str, parameters: dict[str, Any]) -> Question:
    query = urlencode({"pageSize": _PAGE, "orderBy": "created_at:desc", **parameters})
    return Question(f"{role}: list, {name}", token, [f"{_INSTANCES}?{query}"], LIST_LIMIT_MS)


def ask(coordinator: Coordinator, question: Question, requests: int) -> Answers:
    """Asks one after the other."""
    client = Client(coordinator, question.token)
    paths = cycle(question.paths)
    for _ in range(_WARM_UP_REQUESTS):
        client.get(next(paths))
    cpu_seconds = coordinator.cpu_seconds()
    times_ms = [_time_ms(lambda: client.get(next(paths))) for _ in range(requests)]
    cpu_ms = (coordinator.cpu_seconds() - cpu_seconds) * 1000 / requests
    return Answers(question.name, *_quantiles(times_ms), min(times_ms), cpu_ms, question.limit_ms)


def create(coordinator: Coordinator, cloud: Cloud, clients: int, seconds: float) -> Creations:
    """Creates instances for so long, each client one after the other."""
    # The first one has the scheduler read all hosts.
    Client(coordinator, cloud.operator_token).post(_INSTANCES, _order(cloud))
    deadline = time.monotonic() + seconds
    times_ms: list[float] = []

    def work() -> None:
        client = Client(coordinator, cloud.operator_token)
        while time.monotonic() < deadline:
            times_ms.append(_time_ms(lambda: client.post(_INSTANCES, _order(cloud))))

    cpu_seconds = coordinator.cpu_seconds()
    workers = [threading.Thread(target=work) for _ in range(clients)]
    began = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    cpu_ms = (coordinator.cpu_seconds() - cpu_seconds) * 1000 / len(times_ms)
    each_second = len(times_ms) / (time.monotonic() - began)
    return Creations(clients, len(times_ms), *_quantiles(times_ms), cpu_ms, each_second)


def _order(cloud: Cloud) -> dict[str, Any]:
    flavor = cloud.flavors[1]
    return {
        "tenantId": cloud.tenants[0].id,
        "departmentId": cloud.departments[0].id,
        "region": "region0",
        "az": ZONES[0],
        "displayName": "bench",
        "archType": "x86",
        "flavorId": flavor.flavor_id,
        "cpus": flavor.cpu,
        "memory": {"amount": f"{flavor.ram_gib}Gi"},
        "image": {"imageUid": cloud.image.id},
        "volumes": [{"isOsDisk": True, "volumeSize": 20, "volumeType": "ssd", "deleteOnTermination": True}],
        "networks": [{"vpcId": cloud.subnet.vpc_id, "subnetId": cloud.subnet.id, "portType": "Primary"}],
        "secGroupList": [cloud.group.id],
    }


@contextmanager
def _silent_port() -> Iterator[int]:
    """Where connections to any loopback address are taken, and nothing is ever said."""
    with socket.create_server(("", 0), backlog=4096) as server:
        yield port_of(server)


def _time_ms(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def _quantiles(times_ms: Sequence[float]) -> tuple[float, float]:
    return statistics.median(times_ms), statistics.quantiles(times_ms, n=100, method="inclusive")[98]


def show(answers: Sequence[Answers], creations: Sequence[Creations], rss_mib: dict[str, float]) -> None:
    """Tables for people, JSON for programs."""
    console = Console()
    console.print(
        _table(
            f"answers, ms; pages of {_PAGE}",
            ("what", "p50", "p99", "least", "processor", "limit of p50"),
            [
                (it.name, *_rounded(it.p50_ms, it.p99_ms, it.least_ms, it.cpu_ms), f"{it.limit_ms or '-'}")
                for it in answers
            ],
        )
    )
    console.print(
        _table(
            "accepted create calls, ms",
            ("clients", "calls", "p50", "p99", "processor", "each second"),
            [
                (f"{it.clients}", f"{it.count}", *_rounded(it.p50_ms, it.p99_ms, it.cpu_ms, it.each_second))
                for it in creations
            ],
        )
    )
    console.print(
        _table(
            f"resident memory, MiB (limit {RSS_LIMIT_MIB:.0f})",
            ("when", "MiB"),
            [(when, *_rounded(mib)) for when, mib in rss_mib.items()],
        )
    )
    results = {"answers": [asdict(it) for it in answers], "creations": [asdict(it) for it in creations]}
    print(json.dumps({**results, "rss_mib": rss_mib}))


def _rounded(*figures: float) -> tuple[str, ...]:
    return tuple(f"{figure:.1f}" for figure in figures)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column in ("what", "when") else "right")
    for row in rows:
        table.add_row(*row)
    return table


if __name__ == "__main__":
    main()
