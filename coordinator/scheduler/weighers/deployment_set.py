"""How well a host suits the soft policies of the deployment set."""

from typing import Final

import numpy as np

from coordinator.domain.deployment import Policy, Scope
from coordinator.domain.placement import Consumer, PlacementRequest
from coordinator.scheduler.column import FloatColumn, IntColumn
from coordinator.scheduler.snapshot import Snapshot

# Neither together nor apart: without members, or on a host whose domain nobody knows.
_NEUTRAL: Final = 0.5


class DeploymentSetWeigher:
    """Up to 1 for each soft policy: more than a half where it is fulfilled, less where it is not.

    Of domains with members one with more of them is better under affinity, one with fewer under anti-affinity.
    """

    name = "deployment"

    def weigh(
        self, hosts: Snapshot, rows: IntColumn, consumer: Consumer, request: PlacementRequest
    ) -> FloatColumn | None:
        """See Weigher."""
        if request.deployment is None:
            return None
        columns = []
        for scope, policy in request.deployment.soft_policies():
            members = hosts.count(scope, request.deployment.count_members(scope))[rows]
            weigh = _weigh_together if policy is Policy.SOFT_AFFINITY else _weigh_apart
            is_known = np.ones(len(rows), np.bool_) if scope is Scope.HOST else ~hosts.matches(scope, "")[rows]
            columns.append(np.where(is_known, weigh(members), _NEUTRAL))
        return np.sum(columns, axis=0) if columns else None


def _weigh_together(members: IntColumn) -> FloatColumn:
    most = members.max(initial=0)
    if most == 0:
        return np.full(len(members), _NEUTRAL)
    # With any members clearly better than neutral, without clearly worse.
    return np.where(members > 0, 0.75 + 0.25 * members / most, 0.0)


def _weigh_apart(members: IntColumn) -> FloatColumn:
    crowded = members[members > 0]
    # Beside the least crowded: that one more member is worse shall not depend on how many there are.
    excess = np.maximum(members - crowded.min(initial=members.max(initial=0)), 0)
    column: FloatColumn = np.where(members > 0, 0.25 / (1 + excess), 1.0)
    return column
