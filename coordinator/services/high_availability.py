"""High availability: what ran on a lost node is started elsewhere, once it is certain that it runs there no more.

Certain means fenced (`fencing`). What is not certain is told as an alarm, and nothing is started. Of several
coordinators one does this; another one begins when it is gone.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
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
# Pauses between recoveries of one instance grow until so many; the count ends some time after the last one.
_LONGEST_AT: Final = 6
_FORGOTTEN_SECONDS: Final = 3600.0
# A node's own watchdog is judged at once, a controller takes its time.
_PATIENCE_SECONDS: Final = 1.0
_SELF: Final = Caller("high-availability", Role.OPERATOR)

log = structlog.get_logger(__name__)


class _Attempts:
    """How often instances were begun to be started elsewhere: what fails at once would else do so all the time."""

    def __init__(self, pause_seconds: float, monotonic: Callable[[], float]) -> None:
        self._pause_seconds = pause_seconds
        self._monotonic = monotonic
        # By instance: how often, and when last.
        self._noted: dict[str, tuple[int, float]] = {}

    def note(self, ecs_id: str) -> None:
        """It was begun once more."""
        now = self._monotonic()
        self._noted = {name: noted for name, noted in self._noted.items() if now - noted[1] < _FORGOTTEN_SECONDS}
        count, _ = self._noted.get(ecs_id, (0, now))
        self._noted[ecs_id] = count + 1, now

    def is_due(self, ecs_id: str) -> bool:
        """Whether it may be begun again: the second time at once, then after longer and longer pauses."""
        count, last = self._noted.get(ecs_id, (0, 0.0))
        pause_seconds = self._pause_seconds * (2.0 ** max(min(count, _LONGEST_AT) - 1, 0) - 1)
        return self._monotonic() - last >= pause_seconds


class RecoverySweep:
    """The repeated look at lost nodes. Tells each alarm once, until its reason changes or is over."""

    def __init__(
        self,
        runtime: Runtime,
        retry_seconds: float = RETRY_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runtime = runtime
        self._retry_seconds = retry_seconds
        self._monotonic = monotonic
        self._attempts = _Attempts(retry_seconds, monotonic)
        # When nodes are tried again that could not be fenced, or had what cannot be started elsewhere.
        self._not_before: dict[str, float] = {}
        # Of nodes that are being fenced: as they were lost, and what comes of it.
        self._fencing: dict[str, tuple[NodePulse, Future[FenceOutcome]]] = {}
        self._pool = ThreadPoolExecutor(_FENCES_AT_ONCE, thread_name_prefix="fence")
        # By node and instance, either of which may be empty.
        self._told: dict[tuple[str, str], str] = {}

    def __call__(self) -> list[str]:
        """Recovers what can be recovered now; answers the ids of the instances."""
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
        return self._monotonic() >= self._not_before.get(pulse.node_id, 0.0)

    def _fence(self, pulses: list[NodePulse]) -> Iterator[tuple[NodePulse, FenceOutcome]]:
        """Those of which it is known what came of it; a later look gets the others, which hold up nobody until then."""
        for pulse in pulses:
            if pulse.node_id not in self._fencing:
                self._fencing[pulse.node_id] = pulse, self._pool.submit(fence_node, self._runtime, pulse.node_id)
        wait([future for _, future in self._fencing.values()], _PATIENCE_SECONDS)
        for node_id, (pulse, future) in list(self._fencing.items()):
            if future.done():
                del self._fencing[node_id]
                yield pulse, future.result()

    def _recover(self, pulse: NodePulse, outcome: FenceOutcome) -> list[str]:
        if not outcome.confirmed:
            if outcome.results:
                self._put_off(pulse)
                self._alarm(pulse.node_id, "alarm.node_not_fenced", outcome.reason.en)
            return []
        self._stop_waiting(pulse)
        with self._runtime.database.read() as session:
            found = [(it.ecs_id, it.tenant_id) for it in queries.list_stranded(session, pulse.node_id)]
            failed = queries.list_failed_recoveries(session, pulse.node_id, pulse.heard_at)
        for ecs_id, tenant_id in found:
            if ecs_id in failed:
                self._alarm(pulse.node_id, "alarm.instance_not_recovered", failed[ecs_id], ecs_id, tenant_id)
        due = [(ecs_id, tenant_id) for ecs_id, tenant_id in found if self._attempts.is_due(ecs_id)]
        recovered = [ecs_id for ecs_id, tenant_id in due if self._begin(pulse, ecs_id, tenant_id, outcome.reason.en)]
        for ecs_id in recovered:
            self._attempts.note(ecs_id)
        self._runtime.wake_tasks()
        if len(recovered) < len(due):
            self._put_off(pulse)
        return recovered

    def _put_off(self, pulse: NodePulse) -> None:
        """Management controllers are not asked every other second."""
        self._not_before[pulse.node_id] = self._monotonic() + self._retry_seconds

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
