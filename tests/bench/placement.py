"""A decision with its durable claim (SQLite on disk), alone and in a joint batch, over clusters of several sizes.

With --baseline the same hosts and requests also go to OpenStack Placement, in the same run: in process, through its
WSGI application, on SQLite on the same disk, in a virtual environment of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from coordinator.placement.cache import HostCache
from coordinator.placement.claim import claim
from coordinator.store.database import Database
from coordinator.store.migration import migrate
from tests.builders import a_consumer, a_node, a_request, an_inventory

BASELINE = "openstack-placement==16.*"
BATCH = 50
ENVIRONMENT = Path.home() / ".cache/nodewright/openstack-placement"


def main() -> None:
    """Measures and prints a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="+", default=[1000, 10_000], help="sizes (default: 1000 10000)")
    parser.add_argument("--claims", type=int, default=200, help="claims a size (default: 200)")
    parser.add_argument("--baseline", action="store_true", help="also measure OpenStack Placement (slow)")
    parser.add_argument("--baseline-claims", type=int, default=10, help="its claims a size (default: 10)")
    parser.add_argument("--directory", type=Path, help="where the databases are (default: a temporary directory)")
    options = parser.parse_args()
    results = {}
    for hosts in options.hosts:
        with tempfile.TemporaryDirectory(dir=options.directory) as directory:
            results[hosts] = measure(Path(directory), hosts, options.claims)
            if options.baseline:
                results[hosts] |= measure_baseline(Path(directory), hosts, options.baseline_claims)
    show(results)


def measure(directory: Path, hosts: int, claims: int) -> dict[str, float]:
    """Milliseconds of ours."""
    database = Database(f"sqlite:///{directory / 'coordinator.db'}")
    migrate(database)
    fill(database, hosts)
    cache = HostCache(database)
    for _ in range(20):
        time_claim(database, cache, 1)
    singles = [time_claim(database, cache, 1) for _ in range(claims)]
    batches = [time_claim(database, cache, BATCH) for _ in range(5)]
    database.close()
    return {
        "p50_ms": statistics.median(singles),
        "p99_ms": statistics.quantiles(singles, n=100)[98],
        "batch_ms": statistics.median(batches),
    }


def fill(database: Database, hosts: int) -> None:
    """Equal hosts, with four vCPUs to a CPU."""
    with database.write() as session:
        nodes = [a_node(f"host-{number:05}", generation=number + 1) for number in range(hosts)]
        session.add_all(nodes)
        session.flush()
        for node in nodes:
            session.add_all(an_inventory(node, vcpus=256, memory_gib=256, storage_gib=2000))


def time_claim(database: Database, cache: HostCache, count: int) -> float:
    """Milliseconds from the request to the committed allocations."""
    request = a_request(*[a_consumer(vcpus=2, memory_gib=4, storage_gib=10) for _ in range(count)])
    begin = time.perf_counter()
    with database.write() as session:
        decision = claim(session, cache, request)
    elapsed_ms = (time.perf_counter() - begin) * 1000
    assert decision.placed
    return elapsed_ms


def measure_baseline(directory: Path, hosts: int, claims: int) -> dict[str, float]:
    """Milliseconds of OpenStack Placement."""
    python = ENVIRONMENT / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", BASELINE], check=True)
    script = Path(__file__).with_name("openstack_placement.py")
    done = subprocess.run(
        [python, "-I", script, directory, str(hosts), str(claims)], check=True, stdout=subprocess.PIPE, text=True
    )
    return {"baseline_p50_ms": statistics.median(json.loads(done.stdout.splitlines()[-1]))}


def show(results: dict[int, dict[str, float]]) -> None:
    """A table for people, JSON for programs."""
    table = Table(title="decision and durable claim, ms")
    for column in ("hosts", "p50", "p99", f"batch of {BATCH}", "OpenStack Placement p50", "ratio"):
        table.add_column(column, justify="right")
    for hosts, result in results.items():
        baseline = result.get("baseline_p50_ms")
        table.add_row(
            f"{hosts}",
            f"{result['p50_ms']:.2f}",
            f"{result['p99_ms']:.2f}",
            f"{result['batch_ms']:.1f}",
            f"{baseline:.0f}" if baseline else "-",
            f"{baseline / result['p50_ms']:.0f} x" if baseline else "-",
        )
    Console().print(table)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
