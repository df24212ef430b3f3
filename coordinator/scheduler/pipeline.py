"""Chooses hosts: filters reject with reasons, weighers order what is left, all consumers of a request together or none.

Pure: the same snapshot, seed and request give the same decision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from coordinator.domain.placement import (
    Consumer,
    Decision,
    HostView,
    PlacementRequest,
    RejectionReason,
    Verdict,
)
from coordinator.scheduler.filters.attribute import AttributeFilter
from coordinator.scheduler.filters.base import Filter
from coordinator.scheduler.filters.capacity import CapacityFilter
from coordinator.scheduler.filters.host_group import HostGroupFilter
from coordinator.scheduler.filters.named_host import NamedHostFilter
from coordinator.scheduler.filters.pool import PoolFilter
from coordinator.scheduler.filters.state import ReadyFilter, SchedulableFilter
from coordinator.scheduler.filters.trait import TraitFilter
from coordinator.scheduler.snapshot import BoolColumn, FloatColumn, IntColumn, Snapshot
from coordinator.scheduler.weighers.base import Weigher
from coordinator.scheduler.weighers.room import BalanceWeigher, RoomWeigher

# In this order, cheap and lasting reasons first: a host is told the first one that applies.
FILTERS: Final[tuple[Filter, ...]] = (
    NamedHostFilter(),
    AttributeFilter("zone", RejectionReason.OTHER_ZONE),
    PoolFilter(),
    HostGroupFilter(),
    AttributeFilter("architecture", RejectionReason.OTHER_ARCHITECTURE),
    AttributeFilter("cpu_model", RejectionReason.OTHER_CPU_MODEL),
    TraitFilter(),
    ReadyFilter(),
    SchedulableFilter(),
    CapacityFilter(),
)

WEIGHERS: Final[tuple[Weigher, ...]] = (RoomWeigher(), BalanceWeigher())
DEFAULT_WEIGHTS: Final[Mapping[str, float]] = {"room": 1.0, "balance": 0.25}


def decide(hosts: Snapshot, request: PlacementRequest, weights: Mapping[str, float] = DEFAULT_WEIGHTS) -> Decision:
    """A host for each consumer of `request`, or none.

    The snapshot is the same afterwards. When a consumer has no host, the decision has the verdicts on all hosts as the
    consumers before it left them.
    """
    assignments: list[HostView] = []
    rejected: dict[str, int] = {}
    scores: dict[str, Mapping[str, float]] = {}
    with hosts.trial() as trial:
        for consumer in request.consumers:
            admitted, tally = _admit(hosts, consumer, request)
            rejected = rejected or tally
            rows = np.flatnonzero(admitted)
            if len(rows) == 0:
                return Decision((), _judge(hosts, consumer, request, weights), len(hosts), tally)
            columns = _weigh(hosts, consumer, request, weights)
            row = _best(hosts, rows, columns)
            scores[consumer.uuid] = _scores_of(columns, row)
            trial.take(row, consumer.resources)
            assignments.append(hosts.host(row))
    return Decision(tuple(assignments), (), len(hosts), rejected, scores)


def explain(hosts: Snapshot, request: PlacementRequest, weights: Mapping[str, float] = DEFAULT_WEIGHTS) -> Decision:
    """Like `decide`, with the verdicts on the first consumer when all are placed: the best host first."""
    decision = decide(hosts, request, weights)
    if not decision.placed:
        return decision
    return replace(decision, verdicts=_judge(hosts, request.consumers[0], request, weights))


def admits(hosts: Snapshot, request: PlacementRequest, assignments: Sequence[HostView]) -> bool:
    """Whether each consumer may have the host that was chosen for it, all of them together."""
    with hosts.trial() as trial:
        for consumer, host in zip(request.consumers, assignments, strict=True):
            row = hosts.find(host.node_id)
            if row is None or not _admit(hosts, consumer, request)[0][row]:
                return False
            trial.take(row, consumer.resources)
    return True


def _admit(hosts: Snapshot, consumer: Consumer, request: PlacementRequest) -> tuple[BoolColumn, dict[str, int]]:
    """Which hosts pass all filters, and how many each filter was the first to reject."""
    admitted = np.ones(len(hosts), np.bool_)
    left, rejected = len(hosts), {}
    for rule in FILTERS:
        column = rule.admit(hosts, consumer, request)
        if column is None:
            continue
        admitted &= column
        before, left = left, int(np.count_nonzero(admitted))
        if left < before:
            rejected[rule.name] = before - left
    return admitted, rejected


def _weigh(
    hosts: Snapshot, consumer: Consumer, request: PlacementRequest, weights: Mapping[str, float]
) -> dict[str, FloatColumn]:
    """What each weigher that counts gives each host."""
    return {
        weigher.name: weights[weigher.name] * weigher.weigh(hosts, consumer, request)
        for weigher in WEIGHERS
        if weights.get(weigher.name)
    }


def _best(hosts: Snapshot, rows: IntColumn, columns: Mapping[str, FloatColumn]) -> int:
    merits = np.zeros(len(rows))
    for column in columns.values():
        merits += column[rows]
    best = rows[merits == merits.max()]
    return int(best[hosts.rank[best].argmin()])


def _scores_of(columns: Mapping[str, FloatColumn], row: int) -> dict[str, float]:
    return {name: round(float(column[row]), 4) for name, column in columns.items()}


def _judge(
    hosts: Snapshot, consumer: Consumer, request: PlacementRequest, weights: Mapping[str, float]
) -> tuple[Verdict, ...]:
    """A verdict on every host: those that fit first, the best before the others; then by name."""
    verdicts: dict[int, Verdict] = {}
    for rule in FILTERS:
        column = rule.admit(hosts, consumer, request)
        if column is None:
            continue
        for row in map(int, np.flatnonzero(~column)):
            if row not in verdicts:
                host = hosts.host(row)
                verdicts[row] = Verdict(host.node_id, host.name, rule.explain(hosts, row, consumer, request))
    columns = _weigh(hosts, consumer, request, weights)
    for row in set(range(len(hosts))) - verdicts.keys():
        host = hosts.host(row)
        verdicts[row] = Verdict(host.node_id, host.name, None, _scores_of(columns, row))
    return tuple(sorted(verdicts.values(), key=_order))


def _order(verdict: Verdict) -> tuple[bool, float, str, str]:
    return verdict.rejection is not None, -sum(verdict.scores.values()), verdict.node_name, verdict.node_id
