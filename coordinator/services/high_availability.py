"""High availability: what ran on a lost node is started elsewhere, once it is certain that it runs there no more.

Certain means fenced (`fencing`). What is not certain is told as an alarm, and nothing is started. Of several
coordinators one does this; another one begins when it is gone.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import timedelta
from typing import Final

import structlog
from sqlmodel import Session

from coordinator.domain.caller import Caller, Role
from coordinator.domain.event import Severity
from coordinator.domain.migration import MigrationOptions, MigrationType, MigrationWish
from coordinator.errors import CoordinatorError
from coordinator.fencing.chain import FenceOutcome
from coordinator.fencing.node import fence_node
from coordinator.runtime import Runtime
from coordinator.services.migration import begin_migration
from coordinator.store.queries import high_availability as queries
from coordinator.store.queries.event import record_event
from coordinator.store.queries.ha_setting import read_tolerance
from coordinator.store.queries.high_availability import NodePulse
from coordinator.store.queries.placement import advance_generations
from coordinator.store.tables import Node
from coordinator.tasks.submission import request_cancel

RETRY_SECONDS: Final = 15.0
# Controllers that do not answer hold up those of other nodes when so many are asked already.
_FENCES_AT_ONCE: Final = 8
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
            lost = queries.find_nodes_to_fence(session)
            pulses = queries.list_pulses(session) if lost else []
            tolerance = timedelta(seconds=read_tolerance(session))
        self._told = {key: told for key, told in self._told.items() if key[0] in lost or not key[0]}
        if not lost or self._is_isolated(pulses, tolerance):
            return []
        due = [pulse for pulse in pulses if pulse.node_id in lost and self._is_due(pulse)]
        return [ecs_id for pulse, outcome in self._fence(due) for ecs_id in self._recover(pulse, outcome)]

    def _is_isolated(self, pulses: list[NodePulse], tolerance: timedelta) -> bool:
        """Whether so many nodes went silent together that it is rather this process which hears nobody."""
        away = [pulse.heard_at for pulse in pulses if not pulse.ready]
        together = [at for at in away if at >= max(away) - tolerance]
        # Those that went before were not there to be heard.
        present = len(together) + len(pulses) - len(away)
        if 2 * len(together) <= present:
            self._told.pop(("", ""), None)
            return False
        reason = f"{len(together)} of {present} nodes went silent together: nothing is started elsewhere"
        self._alarm("", "alarm.coordinator_isolated", reason)
        return True

    def _is_due(self, pulse: NodePulse) -> bool:
        return time.monotonic() >= self._not_before.get(pulse.node_id, 0.0)

    def _fence(self, pulses: list[NodePulse]) -> Iterator[tuple[NodePulse, FenceOutcome]]:
        """All at once; each as soon as it is known what came of it."""
        with ThreadPoolExecutor(_FENCES_AT_ONCE, thread_name_prefix="fence") as pool:
            fenced = {pool.submit(fence_node, self._runtime, pulse.node_id): pulse for pulse in pulses}
            for future in as_completed(fenced):
                yield fenced[future], future.result()

    def _recover(self, pulse: NodePulse, outcome: FenceOutcome) -> list[str]:
        if not outcome.confirmed:
            if outcome.results:
                self._put_off(pulse)
                self._alarm(pulse.node_id, "alarm.node_not_fenced", outcome.reason.en)
            return []
        self._stop_waiting(pulse)
        with self._runtime.database.read() as session:
            stranded = [(it.ecs_id, it.tenant_id) for it in queries.list_stranded(session, pulse.node_id)]
            failed = queries.list_failed_recoveries(session, pulse.node_id, pulse.heard_at)
        recovered = [
            ecs_id for ecs_id, tenant_id in stranded if self._begin(pulse, ecs_id, tenant_id, outcome.reason.en)
        ]
        self._runtime.wake_tasks()
        for ecs_id, tenant_id in stranded:
            if ecs_id in failed:
                self._alarm(pulse.node_id, "alarm.instance_not_recovered", failed[ecs_id], ecs_id, tenant_id)
        if failed or len(recovered) < len(stranded):
            self._put_off(pulse)
        return recovered

    def _put_off(self, pulse: NodePulse) -> None:
        """Management controllers are not asked, and nodes that refuse an instance are not tried, every other second."""
        self._not_before[pulse.node_id] = time.monotonic() + self._retry_seconds

    def _stop_waiting(self, pulse: NodePulse) -> None:
        """Operations that the lost node keeps waiting end: the next look finds what they worked on."""
        with self._runtime.database.write() as session:
            if _is_still_lost(session, pulse):
                for operation_id in queries.find_waiting(session, pulse.node_id):
                    request_cancel(session, operation_id)

    def _begin(self, pulse: NodePulse, ecs_id: str, tenant_id: str, fenced: str) -> bool:
        """The instance has its place on another node; False when it has none, or the lost node is back."""
        try:
            with self._runtime.database.write() as session:
                if not _is_still_lost(session, pulse):
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


def _is_still_lost(session: Session, pulse: NodePulse) -> bool:
    """Whether nothing was heard of the node since; it stays so until the transaction ends."""
    advance_generations(session, [pulse.node_id])
    node = session.get_one(Node, pulse.node_id, populate_existing=True)
    return not node.ready and node.heard_at == pulse.heard_at
