"""Chooses hosts: filters reject with reasons, weighers order what is left, all consumers of a request together or none.

Pure: the same history of a snapshot, seed and request give the same decision. Who only asks is part of that history
where hosts have GPUs: what was looked at is remembered.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isnan
from typing import Final

import numpy as np

from coordinator.domain.deployment import DeploymentRule
from coordinator.domain.placement import (
    Assignment,
    Consumer,
    Decision,
    HostView,
    PlacementRequest,
    Rejection,
    RejectionCount,
    RejectionReason,
    Verdict,
)
from coordinator.scheduler.column import BoolColumn, FloatColumn, IntColumn
from coordinator.scheduler.domain import find_domains
from coordinator.scheduler.filters.attribute import AttributeFilter
from coordinator.scheduler.filters.base import Filter
from coordinator.scheduler.filters.capacity import CapacityFilter
from coordinator.scheduler.filters.cell import CellFilter
from coordinator.scheduler.filters.deployment_set import DeploymentSetFilter
from coordinator.scheduler.filters.device import DeviceFilter
from coordinator.scheduler.filters.host_group import HostGroupFilter
from coordinator.scheduler.filters.named_host import NamedHostFilter
from coordinator.scheduler.filters.place import PlaceFilter
from coordinator.scheduler.filters.pool import PoolFilter
from coordinator.scheduler.filters.present_host import PresentHostFilter
from coordinator.scheduler.filters.state import ReadyFilter, SchedulableFilter
from coordinator.scheduler.filters.storage import StorageFilter
from coordinator.scheduler.filters.trait import TraitFilter
from coordinator.scheduler.fit import fit, holds, locality
from coordinator.scheduler.gpu.request import gpu_request_of
from coordinator.scheduler.snapshot import Snapshot
from coordinator.scheduler.weighers.base import Weigher
from coordinator.scheduler.weighers.deployment_set import DeploymentSetWeigher
from coordinator.scheduler.weighers.gpu import GpuWeigher
from coordinator.scheduler.weighers.in_flight import InFlightWeigher
from coordinator.scheduler.weighers.rack import RackWeigher
from coordinator.scheduler.weighers.room import BalanceWeigher, RoomWeigher

# In this order, cheap and lasting reasons first: a host is told the first one that applies.
FILTERS: Final[tuple[Filter, ...]] = (
    NamedHostFilter(),
    PresentHostFilter(),
    AttributeFilter("zone", RejectionReason.OTHER_ZONE),
    AttributeFilter("storage_id", RejectionReason.OTHER_STORAGE),
    PlaceFilter(),
    PoolFilter(),
    HostGroupFilter(),
    AttributeFilter("architecture", RejectionReason.OTHER_ARCHITECTURE),
    AttributeFilter("cpu_model", RejectionReason.OTHER_CPU_MODEL),
    TraitFilter(),
    ReadyFilter(),
    SchedulableFilter(),
    DeploymentSetFilter(),
    CapacityFilter(),
    StorageFilter(),
    CellFilter(),
    DeviceFilter(),
)

WEIGHERS: Final[tuple[Weigher, ...]] = (
    RoomWeigher(),
    BalanceWeigher(),
    RackWeigher(),
    InFlightWeigher(),
    DeploymentSetWeigher(),
    GpuWeigher(),
)
# A wish of a deployment set beats all that is said about room, and a whole GPU beats everything else: hosts of equal
# worth to them are told apart by the others.
DEFAULT_WEIGHTS: Final[Mapping[str, float]] = {
    "room": 1.0,
    "balance": 0.25,
    "rack": 0.25,
    "in_flight": 0.25,
    "deployment": 20.0,
    "gpu": 100.0,
}
# Beyond it sums of scores would be no numbers that JSON knows, and small differences would not count.
_GREATEST_WEIGHT: Final = 1e6
# Hosts, the best first, on which a consumer that wants named things is tried for how near these are to each other.
_NEAR_CANDIDATES: Final = 8


def merge_weights(configured: Mapping[str, float]) -> dict[str, float]:
    """The default weights with these instead where they are given; ValueError for an unknown name or no number."""
    if unknown := configured.keys() - DEFAULT_WEIGHTS.keys():
        raise ValueError(f"no such weigher: {', '.join(sorted(unknown))}; there are {', '.join(DEFAULT_WEIGHTS)}")
    if not all(abs(weight) <= _GREATEST_WEIGHT for weight in configured.values()):
        raise ValueError(f"weights are numbers from -{_GREATEST_WEIGHT:g} to {_GREATEST_WEIGHT:g}")
    return {**DEFAULT_WEIGHTS, **configured}


def decide(
    hosts: Snapshot,
    request: PlacementRequest,
    weights: Mapping[str, float] = DEFAULT_WEIGHTS,
    *,
    explains: bool = False,
) -> Decision:
    """A host for each consumer of `request`, or none.

    The snapshot is the same afterwards. When a consumer has no host, the decision has the reasons against all hosts as
    the consumers before it left them; with `explains` the verdict on each, which takes longer. Where the first consumer
    binds the others to its rack or the like, that of the best host may be too small: then others are tried.
    """
    rule = request.deployment if len(request.consumers) > 1 else None
    decision = _place(hosts, request, weights, explains=explains)
    if decision.placed or rule is None or not rule.open_scopes():
        return decision
    for domain in _find_domains(hosts, rule, request, weights):
        elsewhere = _place(hosts, request, weights, within=domain)
        if elsewhere.placed:
            return elsewhere
    return decision


def _find_domains(
    hosts: Snapshot, rule: DeploymentRule, request: PlacementRequest, weights: Mapping[str, float]
) -> Iterator[BoolColumn]:
    """Hosts of each domain where the first consumer could be, the best first."""
    consumer = request.consumers[0]
    rows = np.flatnonzero(_admit(hosts, consumer, request)[0])
    if len(rows) == 0:
        return iter(())
    merits = _sum_up(_weigh(hosts, rows, consumer, request, weights), rows)
    return find_domains(hosts, rule, rows, merits, request.consumers)


def _place(
    hosts: Snapshot,
    request: PlacementRequest,
    weights: Mapping[str, float],
    *,
    explains: bool = False,
    within: BoolColumn | None = None,
) -> Decision:
    """All consumers one after the other, the first on a host of `within`."""
    assignments: list[Assignment] = []
    rejected: dict[str, int] = {}
    scores: dict[str, Mapping[str, float]] = {}
    with hosts.trial() as trial:
        for consumer in request.consumers:
            admitted, tally = _admit(hosts, consumer, request)
            rejected = rejected or tally
            if within is not None and not assignments:
                admitted &= within
            choice = _choose(hosts, np.flatnonzero(admitted), consumer, request, weights)
            if choice is None:
                verdicts = _judge(hosts, consumer, request, weights) if explains else ()
                return Decision((), verdicts, len(hosts), tally, reasons=_count_reasons(hosts, consumer, request))
            row, assignment, scores[consumer.uuid] = choice
            assignments.append(assignment)
            request = request.with_member(assignment.host)
            if len(assignments) < len(request.consumers):
                trial.take(row, assignment.host.taken(consumer, assignment), consumer)
    return Decision(tuple(assignments), (), len(hosts), rejected, scores)


def explain(
    hosts: Snapshot,
    request: PlacementRequest,
    weights: Mapping[str, float] = DEFAULT_WEIGHTS,
    *,
    judges: bool = True,
) -> Decision:
    """Like `decide`, with the reasons against hosts for the first consumer also when all are placed.

    And with the verdict on each host, which takes longer: that of the consumer first, then the best; unless `judges` is
    False.
    """
    decision = decide(hosts, request, weights, explains=judges)
    if not decision.placed:
        return decision
    first, chosen = request.consumers[0], decision.assignments[0].host.node_id
    decision = replace(decision, reasons=_count_reasons(hosts, first, request))
    if not judges:
        return decision
    # Of many hosts with GPUs another look looks at others, and may find one that is better still.
    verdicts = sorted(_judge(hosts, first, request, weights), key=lambda verdict: verdict.node_id != chosen)
    return replace(decision, verdicts=tuple(verdicts))


def find_hosts(hosts: Snapshot, request: PlacementRequest) -> tuple[HostView, ...]:
    """All hosts that can take the first consumer."""
    consumer = request.consumers[0]
    rows = map(int, np.flatnonzero(_admit(hosts, consumer, request)[0]))
    return tuple(hosts.host(row) for row in rows if _fit(hosts, row, consumer))


def admits(hosts: Snapshot, request: PlacementRequest, assignments: Sequence[Assignment]) -> bool:
    """Whether each consumer may have what was chosen for it, all of them together."""
    with hosts.trial() as trial:
        for consumer, assignment in zip(request.consumers, assignments, strict=True):
            row = hosts.find(assignment.host.node_id)
            if row is None or not _admit(hosts, consumer, request)[0][row]:
                return False
            host = hosts.host(row)
            if not holds(host, assignment):
                return False
            trial.take(row, host.taken(consumer, assignment), consumer)
            request = request.with_member(host)
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


def _choose(
    hosts: Snapshot, rows: IntColumn, consumer: Consumer, request: PlacementRequest, weights: Mapping[str, float]
) -> tuple[int, Assignment, dict[str, float]] | None:
    """The best of the rows, and what the consumer gets there."""
    if len(rows) == 0:
        return None
    columns = _weigh(hosts, rows, consumer, request, weights)
    merits = _sum_up(columns, rows)
    fitting: list[tuple[int, Assignment]] = []
    wanted = _NEAR_CANDIDATES if consumer.devices and consumer.cells else 1
    for index in _best_first(hosts, rows, merits):
        assignment = _fit(hosts, int(rows[index]), consumer)
        if assignment:
            fitting.append((index, assignment))
        if len(fitting) == wanted:
            break
    if not fitting:
        return None
    # The first of equals, which is the best by the other weighers.
    index, assignment = max(fitting, key=lambda pair: locality(pair[1]))
    return int(rows[index]), assignment, _scores_of(columns, index)


def _fit(hosts: Snapshot, row: int, consumer: Consumer) -> Assignment | None:
    host = hosts.host(row)
    if not consumer.devices and consumer.cells is None:
        return Assignment(host)
    gpus = gpu_request_of(consumer)
    return fit(host, consumer, hosts.gpus.choose_share(gpus, row) if gpus.is_share else 0)


def _weigh(
    hosts: Snapshot, rows: IntColumn, consumer: Consumer, request: PlacementRequest, weights: Mapping[str, float]
) -> dict[str, FloatColumn]:
    """What each weigher that counts gives each of the rows."""
    columns = {}
    for weigher in WEIGHERS:
        weight = hosts.weight(weigher.name, weights.get(weigher.name, 0.0), rows)
        if np.any(weight) and (column := weigher.weigh(hosts, rows, consumer, request)) is not None:
            # Where it does not count, nothing is worse for not having been looked at.
            columns[weigher.name] = np.where(weight == 0, 0.0, weight * column)
    return columns


def _sum_up(columns: Mapping[str, FloatColumn], rows: IntColumn) -> FloatColumn:
    """The merit of each row; hosts that a weigher did not look at come last."""
    return np.nan_to_num(sum(columns.values(), np.zeros(len(rows))), nan=-np.inf)


def _best_first(hosts: Snapshot, rows: IntColumn, merits: FloatColumn) -> Iterator[int]:
    """Indices of the rows by merit; the first, which mostly is enough, without sorting."""
    best = np.flatnonzero(merits == merits.max())
    first = int(best[hosts.rank[rows[best]].argmin()])
    yield first
    for index in np.lexsort((hosts.rank[rows], -merits)):
        if index != first:
            yield int(index)


def _scores_of(columns: Mapping[str, FloatColumn], index: int) -> dict[str, float]:
    """Without those of weighers that did not look at the host."""
    scores = {name: float(column[index]) for name, column in columns.items()}
    return {name: round(score, 4) for name, score in scores.items() if not isnan(score)}


def _count_reasons(hosts: Snapshot, consumer: Consumer, request: PlacementRequest) -> tuple[RejectionCount, ...]:
    """The first reason against each host, counted; the most frequent first."""
    left, counts = np.ones(len(hosts), np.bool_), []
    for rule in FILTERS:
        column = rule.admit(hosts, consumer, request)
        if column is None or not (rejected := np.flatnonzero(left & ~column)).size:
            continue
        left &= column
        for rows in rule.part(hosts, rejected, consumer, request):
            counts.append(RejectionCount(rule.explain(hosts, int(rows[0]), consumer, request), len(rows)))
    misfits = [int(row) for row in np.flatnonzero(left) if _fit(hosts, int(row), consumer) is None]
    explained = [_explain_misfit(hosts, row, consumer, request) for row in misfits]
    for reason, count in Counter(rejection.reason for rejection in explained).items():
        counts.append(RejectionCount(next(it for it in explained if it.reason == reason), count))
    return tuple(sorted(counts, key=lambda it: (-it.count, it.rejection.reason)))


def _judge(
    hosts: Snapshot, consumer: Consumer, request: PlacementRequest, weights: Mapping[str, float]
) -> tuple[Verdict, ...]:
    """A verdict on every host: those that fit first, in the order in which they are chosen; then the others by name."""
    rejected: dict[int, Verdict] = {}
    for rule in FILTERS:
        column = rule.admit(hosts, consumer, request)
        if column is None:
            continue
        for row in map(int, np.flatnonzero(~column)):
            if row not in rejected:
                rejected[row] = _reject(hosts, row, rule.explain(hosts, row, consumer, request))
    rows = np.setdiff1d(np.arange(len(hosts)), list(rejected))
    columns = _weigh(hosts, rows, consumer, request, weights)
    accepted = []
    for index in np.lexsort((hosts.rank[rows], -_sum_up(columns, rows))):
        row = int(rows[index])
        host = hosts.host(row)
        if _fit(hosts, row, consumer):
            accepted.append(Verdict(host.node_id, host.name, None, _scores_of(columns, index)))
        else:
            rejected[row] = _reject(hosts, row, _explain_misfit(hosts, row, consumer, request))
    by_name = sorted(rejected.values(), key=lambda verdict: (verdict.node_name, verdict.node_id))
    return (*accepted, *by_name)


def _reject(hosts: Snapshot, row: int, rejection: Rejection) -> Verdict:
    host = hosts.host(row)
    return Verdict(host.node_id, host.name, rejection)


def _explain_misfit(hosts: Snapshot, row: int, consumer: Consumer, request: PlacementRequest) -> Rejection:
    """Why a host that passes all filters is none for the consumer."""
    if consumer.cells and fit(hosts.host(row), replace(consumer, devices=())) is None:
        return CellFilter().explain(hosts, row, consumer, request)
    return DeviceFilter().misfit(consumer)
