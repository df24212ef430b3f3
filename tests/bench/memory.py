"""Resident memory of an idle agent and an idle coordinator: newly joined, and again after the lives of some guests.

The second figure shows what they keep. Needs root, like the lab.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass

import psutil
from rich.console import Console
from rich.table import Table

from tests.bench.lab_cloud import running_cloud
from tests.lab.cloud import Cloud

MIB = 1024**2
AGENT_LIMIT_MIB = 80
COORDINATOR_LIMIT_MIB = 150
# Long enough for reports, sweeps and the first idle threads' end.
SETTLE_SECONDS = 20


@dataclass(frozen=True)
class Sample:
    """Both processes at one moment."""

    agent_mib: float
    coordinator_mib: float
    agent_files: int
    coordinator_files: int
    agent_threads: int
    coordinator_threads: int


def main() -> None:
    """Measures and prints a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=20, help="guests to create and delete (default: 20)")
    guests = parser.parse_args().guests
    with running_cloud() as cloud:
        samples = {"joined": _measure(cloud)}
        for _ in range(guests):
            _live(cloud)
        samples[f"after {guests} guests"] = _measure(cloud)
    _print(samples)


def _live(cloud: Cloud) -> None:
    instance = cloud.create_instance(displayName="bench")
    instance.wait_for_status("Running")
    instance.succeed(instance.delete())


def _measure(cloud: Cloud) -> Sample:
    time.sleep(SETTLE_SECONDS)
    agent, coordinator = psutil.Process(cloud.host.agent.pid), psutil.Process(cloud.lab.coordinator.pid)
    return Sample(
        agent_mib=agent.memory_info().rss / MIB,
        coordinator_mib=coordinator.memory_info().rss / MIB,
        agent_files=agent.num_fds(),
        coordinator_files=coordinator.num_fds(),
        agent_threads=agent.num_threads(),
        coordinator_threads=coordinator.num_threads(),
    )


def _print(samples: dict[str, Sample]) -> None:
    table = Table(title="idle")
    for column in ("when", f"agent MiB (limit {AGENT_LIMIT_MIB})", f"coordinator MiB (limit {COORDINATOR_LIMIT_MIB})"):
        table.add_column(column, justify="left" if column == "when" else "right")
    table.add_column("files, threads of the agent", justify="right")
    table.add_column("of the coordinator", justify="right")
    for when, sample in samples.items():
        table.add_row(
            when,
            f"{sample.agent_mib:.1f}",
            f"{sample.coordinator_mib:.1f}",
            f"{sample.agent_files}, {sample.agent_threads}",
            f"{sample.coordinator_files}, {sample.coordinator_threads}",
        )
    Console().print(table)
    print(json.dumps({when: asdict(sample) for when, sample in samples.items()}))


if __name__ == "__main__":
    main()
