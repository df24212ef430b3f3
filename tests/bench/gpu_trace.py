"""How much of a cluster's GPUs is allocated when requests of a trace arrive, beside the published policies.

The protocol of the published simulator: for each seed the requests are shuffled, then cloned or pruned at random until
they want as much as the highest level of --arrive; they are placed one by one, none leaves, and what fits nowhere is
rejected. The allocation at a level is the mean over the moments at which the demand that arrived rounds to it.
Every placement is checked by bookkeeping of its own.

Columns of the nodes: cpu_milli, memory_mib, gpu (how many), model. Columns of the requests: cpu_milli, memory_mib,
num_gpu, gpu_milli, gpu_spec (models, separated by |; empty: any). Decision times are processor time.

The policy nodewright is the scheduler's own pipeline, all its filters and weighers, with claims in memory; the others
are published ones.
"""

import argparse
import csv
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypedDict

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.bench.gpu_baselines import BestFit, Fgd, Packing, Policy, Random, TypicalMix
from tests.bench.gpu_pipeline import Pipeline
from tests.bench.gpu_request import GPU_MILLI, GpuNode, GpuPlacement, GpuRequest

POLICIES: Final[Mapping[str, Callable[[Sequence[GpuNode], Sequence[GpuRequest], int], Policy]]] = {
    "nodewright": lambda nodes, _requests, _seed: Pipeline(nodes),
    "fgd": lambda nodes, requests, _seed: Fgd(nodes, requests),
    "bestfit": lambda nodes, _requests, _seed: BestFit(nodes),
    "packing": lambda nodes, _requests, _seed: Packing(nodes),
    "random": lambda nodes, _requests, seed: Random(nodes, seed),
}
# Node order decides between equals; it is shuffled by a seed apart from that of the requests.
NODE_SEED: Final = 1000


class Summary(TypedDict):
    """The figures of one policy."""

    arrived_percent: dict[int, dict[str, float]]
    decision_p50_ms: float
    decision_p99_ms: float


@dataclass
class Run:
    """One policy with one seed, after each arrival; and fragmentation when a level was reached."""

    arrived_percent: list[float] = field(default_factory=list)
    allocated_percent: list[float] = field(default_factory=list)
    fragmentation_milli: dict[int, float] = field(default_factory=dict)
    decision_ms: list[float] = field(default_factory=list)

    def allocation_at(self, level: int) -> float:
        """The mean over the arrivals at this level; in a small cluster that jumps over it, what was reached before."""
        pairs = list(zip(self.arrived_percent, self.allocated_percent, strict=True))
        near = [allocated for arrived, allocated in pairs if round(arrived) == level]
        before = [allocated for arrived, allocated in pairs if arrived <= level]
        return float(np.mean(near or before[-1:] or [0.0]))


class Ledger:
    """What is free, kept apart from any policy: a placement that there is no room for ends the run."""

    def __init__(self, nodes: Sequence[GpuNode]) -> None:
        self._nodes = nodes
        self._cpu_milli = [node.cpu_milli for node in nodes]
        self._memory_mib = [node.memory_mib for node in nodes]
        self._gpu_milli = [[GPU_MILLI] * node.gpu_count for node in nodes]
        self.allocated_milli = 0

    def take(self, placement: GpuPlacement) -> None:
        """Books the placement."""
        request, row = placement.request, placement.row
        self._cpu_milli[row] -= request.cpu_milli
        self._memory_mib[row] -= request.memory_mib
        for gpu in placement.gpus:
            self._gpu_milli[row][gpu] -= request.gpu_milli
        self.allocated_milli += request.demand_milli
        assert min(self._cpu_milli[row], self._memory_mib[row], *self._gpu_milli[row]) >= 0, placement
        assert len(set(placement.gpus)) == len(placement.gpus) == request.gpu_count, placement
        assert not (request.gpu_count and request.models) or self._nodes[row].model in request.models, placement


def main() -> None:
    """Measures and prints a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=Path, required=True, metavar="CSV", help="the nodes")
    parser.add_argument("--pods", type=Path, required=True, metavar="CSV", help="the requests")
    parser.add_argument("--seeds", type=parse_seeds, default="42-51", help="first-last (default: 42-51)")
    parser.add_argument("--arrive", type=parse_levels, default="100,130", help="demand levels, %% (default: 100,130)")
    parser.add_argument(
        "--policies", type=parse_policies, default=",".join(POLICIES), help=f"(default: {','.join(POLICIES)})"
    )
    options = parser.parse_args()
    nodes, requests = read_nodes(options.nodes), read_requests(options.pods)
    results = {}
    for policy in options.policies:
        runs = [run(policy, nodes, requests, seed, options.arrive) for seed in options.seeds]
        results[policy] = summarize(runs, options.arrive)
    show(results, options.seeds)


def parse_seeds(text: str) -> range:
    """`42-51`, or one number."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def parse_levels(text: str) -> list[int]:
    """`100,130`."""
    return sorted({int(level) for level in text.split(",")})


def parse_policies(text: str) -> list[str]:
    """Names of POLICIES."""
    names = text.split(",")
    if unknown := set(names) - POLICIES.keys():
        raise argparse.ArgumentTypeError(f"no such policy: {', '.join(sorted(unknown))}")
    return names


def read_nodes(path: Path) -> list[GpuNode]:
    """The rows of the file."""
    with path.open(newline="") as file:
        return [
            GpuNode(int(row["cpu_milli"]), int(row["memory_mib"]), int(row["gpu"]), row["model"])
            for row in csv.DictReader(file)
        ]


def read_requests(path: Path) -> list[GpuRequest]:
    """The rows of the file."""
    with path.open(newline="") as file:
        return [read_request(row) for row in csv.DictReader(file)]


def read_request(row: Mapping[str, str]) -> GpuRequest:
    """One row."""
    count = int(row["num_gpu"])
    share_milli = int(row["gpu_milli"]) if count else 0
    models = frozenset(filter(None, row["gpu_spec"].split("|")))
    return GpuRequest(int(row["cpu_milli"]), int(row["memory_mib"]), count, share_milli, models)


def arrivals(requests: Sequence[GpuRequest], seed: int, target_milli: float) -> list[GpuRequest]:
    """The requests in random order, pruned to `target_milli` of GPUs or filled up with copies.

    The last copy may go beyond, a gang by all its GPUs but one.
    """
    source = random.Random(seed)
    arriving = list(requests)
    source.shuffle(arriving)
    demand_milli = sum(request.demand_milli for request in arriving)
    while demand_milli > target_milli:
        demand_milli -= arriving.pop(source.randrange(len(arriving))).demand_milli
    while demand_milli + (copy := source.choice(requests)).gpu_milli <= target_milli:
        demand_milli += copy.demand_milli
        arriving.append(copy)
    return arriving


def run(name: str, nodes: Sequence[GpuNode], requests: Sequence[GpuRequest], seed: int, levels: Sequence[int]) -> Run:
    """Places everything that arrives, in one order."""
    shuffled = list(nodes)
    random.Random(seed + NODE_SEED).shuffle(shuffled)
    policy = POLICIES[name](shuffled, requests, seed)
    ledger, result = Ledger(shuffled), Run()
    mix = TypicalMix(requests, policy.inventory.models, part=1.0)
    capacity_milli, arrived_milli = policy.inventory.free_gpu_milli, 0
    pending = list(levels)
    for request in arrivals(requests, seed, capacity_milli * levels[-1] / 100):
        begin = time.thread_time()
        placement = policy.place(request)
        result.decision_ms.append((time.thread_time() - begin) * 1000)
        if placement:
            ledger.take(placement)
        arrived_milli += request.demand_milli
        result.arrived_percent.append(100 * arrived_milli / capacity_milli)
        result.allocated_percent.append(100 * ledger.allocated_milli / capacity_milli)
        while pending and result.arrived_percent[-1] >= pending[0]:
            result.fragmentation_milli[pending.pop(0)] = fragmentation_of(policy, mix)
    # The last level is missed by less than a request.
    result.fragmentation_milli |= {level: fragmentation_of(policy, mix) for level in pending}
    return result


def fragmentation_of(policy: Policy, mix: TypicalMix) -> float:
    """Expected GPU milli of the cluster that the next request of the mix cannot use."""
    inventory = policy.inventory
    return float(mix.fragmentation(inventory.cpu_milli, inventory.gpu_milli, inventory.model).sum())


def summarize(runs: Sequence[Run], levels: Sequence[int]) -> Summary:
    """Means over the seeds."""
    p50, p99 = np.percentile([it for run in runs for it in run.decision_ms], (50, 99)).tolist()
    arrived = {}
    for level in levels:
        allocated = [run.allocation_at(level) for run in runs]
        arrived[level] = {
            "allocation_percent": float(np.mean(allocated)),
            "allocation_percent_sd": float(np.std(allocated, ddof=1)) if len(runs) > 1 else 0.0,
            "fragmentation_milli": float(np.mean([run.fragmentation_milli[level] for run in runs])),
        }
    return {"arrived_percent": arrived, "decision_p50_ms": p50, "decision_p99_ms": p99}


def show(results: Mapping[str, Summary], seeds: range) -> None:
    """A table for people, JSON for programs."""
    table = Table(title=f"GPU trace, seeds {seeds[0]} to {seeds[-1]}")
    columns = ("policy", "arrived %", "allocated %", "sd", "fragmented milli", "p50 ms", "p99 ms")
    for column in columns:
        table.add_column(column, justify="left" if column == "policy" else "right")
    for name, summary in results.items():
        for level, figures in summary["arrived_percent"].items():
            table.add_row(
                name,
                f"{level}",
                f"{figures['allocation_percent']:.2f}",
                f"{figures['allocation_percent_sd']:.2f}",
                f"{figures['fragmentation_milli']:,.0f}",
                f"{summary['decision_p50_ms']:.2f}",
                f"{summary['decision_p99_ms']:.2f}",
            )
    Console().print(table)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
