"""What the recycle bin does not keep any longer is deleted for good: some at a time, on nodes that are there.

Everything is in the database, so nothing is forgotten while no coordinator runs, and of several ones one does this.
"""

from typing import Final

import structlog

from coordinator.domain.caller import Caller, Role
from coordinator.domain.event import Severity
from coordinator.domain.instance import InstanceStatus
from coordinator.errors import CoordinatorError
from coordinator.runtime import Runtime
from coordinator.services.instance import find_own_batch
from coordinator.services.instance_deletion import purge
from coordinator.services.setback import Setbacks
from coordinator.services.slots import choose
from coordinator.store.queries import recycle as queries
from coordinator.store.queries.event import record_event
from coordinator.store.queries.instance import lock_tasks_of

# However many are due: nodes and task engine are there for others, too.
MOST_PURGES: Final = 16
MOST_PURGES_OF_NODE: Final = 2
_BATCH: Final = 100
_SELF: Final = Caller("recycle-bin", Role.OPERATOR)

log = structlog.get_logger(__name__)


class PurgeSweep:
    """The repeated look at what is in the bin."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._setbacks = Setbacks(runtime)

    def __call__(self) -> list[str]:
        """Begins the deletions whose turn it is; answers the ids of the instances."""
        database = self._runtime.database
        if not database.lead():
            return []
        with database.read() as session:
            if not queries.has_recycled(session):
                return []
        self._announce()
        begun = [ecs_id for ecs_id in self._find_next() if self._begin_safely(ecs_id)]
        if begun:
            self._runtime.wake_tasks()
        return begun

    def _announce(self) -> None:
        """Tells whose time is nearly over, once."""
        with self._runtime.database.write() as session:
            before = self._runtime.now() + self._runtime.settings.recycle_notice
            for recycled, instance in queries.find_unannounced(session, before, _BATCH):
                recycled.announced = True
                session.add(recycled)
                record_event(
                    session,
                    "instance.purge_due",
                    severity=Severity.WARNING,
                    resource_type="instance",
                    resource_id=instance.ecs_id,
                    tenant_id=instance.tenant_id,
                    node_id=instance.node_id,
                    data={"purgeAt": recycled.purge_at.isoformat()},
                )

    def _find_next(self) -> list[str]:
        with self._runtime.database.read() as session:
            running = queries.count_purges(session)
            expired = queries.find_expired(session, self._runtime.now())
        return choose(self._setbacks.pass_over(expired), running, most=MOST_PURGES, most_of_node=MOST_PURGES_OF_NODE)

    def _begin_safely(self, ecs_id: str) -> bool:
        with self._setbacks.noting(ecs_id, "instance.purge_failed"):
            return self._begin(ecs_id)
        return False

    def _begin(self, ecs_id: str) -> bool:
        try:
            with self._runtime.database.write() as session:
                lock_tasks_of(session, [ecs_id])
                [instance] = find_own_batch(session, _SELF, [ecs_id], recycled=True)
                # Somebody may have restored it meanwhile.
                recycled = queries.find_recycled(session, instance.id, for_update=True)
                if recycled is None or instance.task_id or instance.status != InstanceStatus.SOFT_DELETED:
                    return False
                operation = purge(session, self._runtime, _SELF, instance)
        except CoordinatorError:
            log.exception("instance.not_purged", ecsId=ecs_id)
            return False
        log.info("instance.purging", ecsId=ecs_id, operationId=operation)
        return True
