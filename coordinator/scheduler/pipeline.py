"""Chooses hosts: filters reject with reasons, weighers order what is left, all consumers of a request together or none.

Pure: the same snapshot, seed and request give the same decision.
"""

from collections.abc import Mapping, Sequence
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
from coordinator.scheduler.filters.named_host import NamedHostFilter
from coordinator.scheduler.filters.state import ReadyFilter, SchedulableFilter
from coordinator.scheduler.filters.trait import TraitFilter
from coordinator.scheduler.snapshot import BoolColumn, FloatColumn, Snapshot
from coordinator.scheduler.weighers.base import Weigher
from coordinator.scheduler.weighers.room import BalanceWeigher, RoomWeigher

# In this order, cheap and lasting reasons first: a host is told the first one that applies.
FILTERS: Final[tuple[Filter, ...]] = (
    NamedHostFilter(),
    AttributeFilter("zone", RejectionReason.OTHER_ZONE),
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
    with hosts.trial() as trial:
        for consumer in request.consumers:
            row = _choose(hosts, consumer, request, weights)
            if row is None:
                return Decision((), _judge(hosts, consumer, request, weights), len(hosts))
            trial.take(row, consumer.resources)
            assignments.append(hosts.host(row))
    return Decision(tuple(assignments), (), len(hosts))


def explain(hosts: Snapshot, request: PlacementRequest, weights: Mapping[str, float] = DEFAULT_WEIGHTS) -> Decision:
    """Like `decide`, with the verdicts of the first consumer when all are placed: the best host first."""
    decision = decide(hosts, request, weights)
    if not decision.placed:
        return decision
    return Decision(decision.assignments, _judge(hosts, request.consumers[0], request, weights), len(hosts))


def admits(hosts: Snapshot, request: PlacementRequest, assignments: Sequence[HostView]) -> bool:
    """Whether each consumer may have the host that was chosen for it, all of them together."""
    with hosts.trial() as trial:
        for consumer, host in zip(request.consumers, assignments, strict=True):
            row = hosts.find(host.node_id)
            if row is None or not _admit(hosts, consumer, request)[row]:
                return False
            trial.take(row, consumer.resources)
    return True


def _choose(hosts: Snapshot, consumer: Consumer, request: PlacementRequest, weights: Mapping[str, float]) -> int | None:
    admitted = _admit(hosts, consumer, request)
    rows = np.flatnonzero(admitted)
    if len(rows) == 0:
        return None
    merits = _weigh(hosts, consumer, request, weights)[rows]
    best = rows[merits == merits.max()]
    return int(best[hosts.rank[best].argmin()])


def _admit(hosts: Snapshot, consumer: Consumer, request: PlacementRequest) -> BoolColumn:
    admitted = np.ones(len(hosts), np.bool_)
    for rule in FILTERS:
        column = rule.admit(hosts, consumer, request)
        if column is not None:
            admitted &= column
    return admitted


def _weigh(hosts: Snapshot, consumer: Consumer, request: PlacementRequest, weights: Mapping[str, float]) -> FloatColumn:
    merits = np.zeros(len(hosts))
    for weigher in WEIGHERS:
        weight = weights.get(weigher.name, 0.0)
        if weight:
            merits += weight * weigher.weigh(hosts, consumer, request)
    return merits


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
    scores = {
        weigher.name: weights.get(weigher.name, 0.0) * weigher.weigh(hosts, consumer, request) for weigher in WEIGHERS
    }
    for row in set(range(len(hosts))) - verdicts.keys():
        host = hosts.host(row)
        merits = {name: round(float(column[row]), 6) for name, column in scores.items()}
        verdicts[row] = Verdict(host.node_id, host.name, None, merits)
    return tuple(sorted(verdicts.values(), key=_order))


def _order(verdict: Verdict) -> tuple[bool, float, str, str]:
    return verdict.rejection is not None, -sum(verdict.scores.values()), verdict.node_name, verdict.node_id
