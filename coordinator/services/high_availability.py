"""High availability: what ran on a lost node is started elsewhere, once it is certain that it runs there no more.

Certain means fenced (`services.fencing`). What is not certain is told as an alarm, and nothing is started. Of several
coordinators one does this; another one begins when it is gone.
"""

import time
from datetime import timedelta
from typing import Final

import structlog

from coordinator.domain.caller import Caller, Role
from coordinator.domain.event import Severity
from coordinator.domain.migration import MigrationOptions, MigrationType, MigrationWish
from coordinator.errors import CoordinatorError
from coordinator.runtime import Runtime
from coordinator.services.fencing import fence_node
from coordinator.services.ha_config import read_tolerance
from coordinator.services.migration import begin_migration
from coordinator.store.queries import high_availability as queries
from coordinator.store.queries.event import record_event
from coordinator.store.queries.high_availability import NodePulse
from coordinator.store.queries.placement import advance_generations
from coordinator.store.tables import Node

RETRY_SECONDS: Final = 15.0
_SELF: Final = Caller("high-availability", Role.OPERATOR)

log = structlog.get_logger(__name__)


class RecoverySweep:
    """The repeated look at lost nodes. Tells each alarm once, until its reason changes or is over."""

    def __init__(self, runtime: Runtime, retry_seconds: float = RETRY_SECONDS) -> None:
        self._runtime = runtime
        self._retry_seconds = retry_seconds
        # When nodes are tried again that could not be fenced, or had what cannot be started elsewhere.
        self._not_before: dict[str, float] = {}
        # By node and instance, either of which may be empty.
        self._told: dict[tuple[str, str], str] = {}

    def __call__(self) -> list[str]:
        """Recovers what can be recovered now; answers the ids of the instances. Blocks while nodes are fenced."""
        runtime = self._runtime
        if not runtime.database.lead():
            return []
        with runtime.database.read() as session:
            lost = queries.find_nodes_with_stranded(session)
            pulses = queries.list_pulses(session) if lost else []
            tolerance = timedelta(seconds=read_tolerance(session))
        self._told = {key: told for key, told in self._told.items() if key[0] in lost or not key[0]}
        if not lost or self._is_isolated(pulses, tolerance):
            return []
        return [ecs_id for pulse in pulses if pulse.node_id in lost for ecs_id in self._recover(pulse)]

    def _is_isolated(self, pulses: list[NodePulse], tolerance: timedelta) -> bool:
        """Whether so many nodes went silent together that it is rather this process which hears nobody."""
        away = [pulse.heard_at for pulse in pulses if not pulse.ready]
        together = [at for at in away if at >= max(away) - tolerance]
        if 2 * len(together) <= len(pulses):
            self._told.pop(("", ""), None)
            return False
        reason = f"{len(together)} of {len(pulses)} nodes went silent together: nothing is started elsewhere"
        self._alarm("", "alarm.coordinator_isolated", reason)
        return True

    def _recover(self, pulse: NodePulse) -> list[str]:
        if time.monotonic() < self._not_before.get(pulse.node_id, 0.0):
            return []
        outcome = fence_node(self._runtime, pulse.node_id)
        if not outcome.confirmed:
            if outcome.results:
                self._put_off(pulse)
                self._alarm(pulse.node_id, "alarm.node_not_fenced", outcome.reason.en)
            return []
        with self._runtime.database.read() as session:
            stranded = [(it.ecs_id, it.tenant_id) for it in queries.list_stranded(session, pulse.node_id)]
        recovered = [
            ecs_id for ecs_id, tenant_id in stranded if self._begin(pulse, ecs_id, tenant_id, outcome.reason.en)
        ]
        self._runtime.wake_tasks()
        if len(recovered) < len(stranded):
            self._put_off(pulse)
        return recovered

    def _put_off(self, pulse: NodePulse) -> None:
        """Management controllers are not asked every other second."""
        self._not_before[pulse.node_id] = time.monotonic() + self._retry_seconds

    def _begin(self, pulse: NodePulse, ecs_id: str, tenant_id: str, fenced: str) -> bool:
        """The instance has its place on another node; False when it has none, or the lost node is back."""
        try:
            with self._runtime.database.write() as session:
                advance_generations(session, [pulse.node_id])
                node = session.get_one(Node, pulse.node_id, populate_existing=True)
                if node.ready or node.heard_at != pulse.heard_at:
                    return False
                wish, options = MigrationWish(ecs_id), MigrationOptions()
                move = begin_migration(session, self._runtime, _SELF, MigrationType.RECOVERY, wish, options)
                record_event(
                    session,
                    "ha.instance_recovering",
                    severity=Severity.WARNING,
                    resource_type="instance",
                    resource_id=ecs_id,
                    tenant_id=tenant_id,
                    node_id=pulse.node_id,
                    operation_id=move.operation_id,
                    data={"from": pulse.node_id, "to": move.target_node_id, "fenced": fenced},
                )
        except CoordinatorError as error:
            self._alarm(pulse.node_id, "alarm.instance_not_recovered", error.message.en, ecs_id, tenant_id)
            return False
        log.warning("ha.recovering", ecsId=ecs_id, node=pulse.name, operationId=move.operation_id)
        return True

    def _alarm(self, node_id: str, kind: str, reason: str, ecs_id: str = "", tenant_id: str | None = None) -> None:
        told = f"{kind} {reason}"
        if self._told.get((node_id, ecs_id)) == told:
            return
        self._told[node_id, ecs_id] = told
        log.error(kind, nodeId=node_id, ecsId=ecs_id, reason=reason)
        with self._runtime.database.write() as session:
            record_event(
                session,
                kind,
                severity=Severity.ALARM,
                resource_type="instance" if ecs_id else "node",
                resource_id=ecs_id or node_id or "coordinator",
                tenant_id=tenant_id,
                node_id=node_id or None,
                data={"reason": reason},
            )
