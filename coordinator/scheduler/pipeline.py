"""Chooses hosts: first fit on an immutable snapshot, all consumers of a request together or none.

Pure: the same snapshot and request give the same decision. Hosts are tried from the emptiest to the fullest (by the
share of vCPUs taken), then by name: a batch spreads over equal hosts, and the order is stable.
"""

from collections.abc import Sequence
from typing import Final

from coordinator.domain.placement import (
    Consumer,
    Decision,
    HostView,
    PlacementRequest,
    Rejection,
    ResourceClass,
    Verdict,
)
from coordinator.scheduler.filters.architecture import reject_other_architecture
from coordinator.scheduler.filters.base import Filter
from coordinator.scheduler.filters.capacity import reject_full
from coordinator.scheduler.filters.cpu_model import reject_other_cpu_model
from coordinator.scheduler.filters.named_host import reject_other_host
from coordinator.scheduler.filters.ready import reject_away
from coordinator.scheduler.filters.schedulable import reject_cordoned
from coordinator.scheduler.filters.trait import reject_without_traits
from coordinator.scheduler.filters.zone import reject_other_zone
from coordinator.scheduler.fit import Misfit, fit

# In this order, cheap and lasting reasons first: a host is told the first one that applies.
FILTERS: Final[tuple[Filter, ...]] = (
    reject_other_host,
    reject_other_zone,
    reject_other_architecture,
    reject_other_cpu_model,
    reject_without_traits,
    reject_away,
    reject_cordoned,
    reject_full,
)


def decide(hosts: Sequence[HostView], request: PlacementRequest) -> Decision:
    """A host for each consumer of `request`, or none and the reasons.

    The verdicts are those on the first consumer that has no host, each host as the consumers before it left it; when
    all are placed, those on the first consumer.
    """
    present = {host.node_id: host for host in hosts}
    assignments: list[HostView] = []
    first_verdicts: tuple[Verdict, ...] = ()
    for consumer in request.consumers:
        ordered = sorted(present.values(), key=_order)
        verdicts = tuple(_judge(host, consumer, request) for host in ordered)
        chosen = next((verdict.node_id for verdict in verdicts if verdict.rejection is None), None)
        if chosen is None:
            return Decision(assignments=(), verdicts=verdicts, host_count=len(hosts))
        present[chosen] = _take(present[chosen], consumer)
        assignments.append(present[chosen])
        first_verdicts = first_verdicts or verdicts
    return Decision(tuple(assignments), first_verdicts, len(hosts))


def _judge(host: HostView, consumer: Consumer, request: PlacementRequest) -> Verdict:
    return Verdict(host.node_id, host.name, _find_rejection(host, consumer, request))


def _find_rejection(host: HostView, consumer: Consumer, request: PlacementRequest) -> Rejection | None:
    for reject in FILTERS:
        rejection = reject(host, consumer, request)
        if rejection:
            return rejection
    return None


def _take(host: HostView, consumer: Consumer) -> HostView:
    outcome = fit(host, consumer)
    if isinstance(outcome, Misfit):
        raise AssertionError(f"the capacity filter let {consumer.uuid} pass")  # noqa: TRY004 - a defect, not a type
    return outcome


def _order(host: HostView) -> tuple[float, str, str]:
    vcpus = host.capacities.get(ResourceClass.VCPU)
    share_taken = vcpus.used / vcpus.limit if vcpus and vcpus.limit > 0 else 1.0
    return share_taken, host.name, host.node_id
