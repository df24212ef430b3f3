"""The host is together with the members of the deployment set, or apart from them, as its hard policies say."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import numpy as np

from coordinator.domain.deployment import Policy, Scope
from coordinator.domain.placement import Consumer, PlacementRequest, Rejection, RejectionReason
from coordinator.scheduler.column import BoolColumn, IntColumn
from coordinator.scheduler.snapshot import Snapshot

_UNLABELLED: Final[Mapping[Scope, RejectionReason]] = {
    Scope.RACK: RejectionReason.NO_RACK_LABEL,
    Scope.SWITCH: RejectionReason.NO_SWITCH_LABEL,
    Scope.NET_SWITCH: RejectionReason.NO_NET_SWITCH_LABEL,
}
_OUTSIDE: Final[Mapping[Scope, RejectionReason]] = {
    Scope.HOST: RejectionReason.NOT_HOST_OF_SET,
    Scope.RACK: RejectionReason.NOT_RACK_OF_SET,
    Scope.SWITCH: RejectionReason.NOT_SWITCH_OF_SET,
    Scope.NET_SWITCH: RejectionReason.NOT_NET_SWITCH_OF_SET,
}
_TAKEN: Final[Mapping[Scope, RejectionReason]] = {
    Scope.HOST: RejectionReason.HOST_TAKEN_BY_SET,
    Scope.RACK: RejectionReason.RACK_TAKEN_BY_SET,
    Scope.SWITCH: RejectionReason.SWITCH_TAKEN_BY_SET,
    Scope.NET_SWITCH: RejectionReason.NET_SWITCH_TAKEN_BY_SET,
}
_NAMES: Final[Mapping[Scope, str]] = {
    Scope.HOST: "host",
    Scope.RACK: "rack",
    Scope.SWITCH: "switch",
    Scope.NET_SWITCH: "network switch",
}


class DeploymentSetFilter:
    """Rejects hosts outside of the members' domains under affinity, and inside of them under anti-affinity.

    A host without the label is rejected by both: nobody knows where it is. Under affinity the first member may be
    anywhere; members that were parted later, by other labels, admit the domain of each.
    """

    name = "deployment_set"

    def admit(self, hosts: Snapshot, consumer: Consumer, request: PlacementRequest) -> BoolColumn | None:
        """See Filter."""
        if request.deployment is None:
            return None
        columns = list(self._columns(hosts, request))
        return np.logical_and.reduce(columns) if columns else None

    def explain(self, hosts: Snapshot, row: int, consumer: Consumer, request: PlacementRequest) -> Rejection:
        """See Filter."""
        assert request.deployment is not None  # noqa: S101 - else all hosts are admitted
        place, rule = hosts.host(row).place, request.deployment
        for scope, policy in rule.hard_policies():
            name, domain, domains = _NAMES[scope], place.domain(scope), sorted(rule.count_members(scope))
            wanted = f"{name} {', '.join(domains)}" if domains else f"a {name}"
            if policy is Policy.ANTI_AFFINITY and domains:
                wanted = f"another {wanted}"
            if not domain:
                return Rejection(self.name, _UNLABELLED[scope], wanted, "no label")
            if policy is Policy.AFFINITY and domains and domain not in domains:
                return Rejection(self.name, _OUTSIDE[scope], wanted, f"{name} {domain}")
            if policy is Policy.ANTI_AFFINITY and domain in domains:
                return Rejection(self.name, _TAKEN[scope], wanted, f"{name} {domain}")
        raise AssertionError("asked about a host that is admitted")

    def part(
        self, hosts: Snapshot, rows: IntColumn, consumer: Consumer, request: PlacementRequest
    ) -> Iterable[IntColumn]:
        """See Filter."""
        parts: dict[RejectionReason, list[int]] = defaultdict(list)
        for row in map(int, rows):
            parts[self.explain(hosts, row, consumer, request).reason].append(row)
        return [np.array(part, np.int64) for part in parts.values()]

    def _columns(self, hosts: Snapshot, request: PlacementRequest) -> Iterator[BoolColumn]:
        """Which hosts each hard policy admits."""
        assert request.deployment is not None  # noqa: S101 - looked at before
        for scope, policy in request.deployment.hard_policies():
            counts = request.deployment.count_members(scope)
            if scope is not Scope.HOST:
                yield ~hosts.matches(scope, "")
            if policy is Policy.ANTI_AFFINITY:
                yield hosts.count(scope, counts) == 0
            elif counts:
                yield hosts.count(scope, counts) > 0
