"""What its node has interrupted is started again: the most important first, some at a time on each node.

Everything is in the database, for the coordinator may have lost its power, too. Of several coordinators one does this.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Final

import structlog
from sqlmodel import Session

from coordinator.domain.caller import Caller, Role
from coordinator.domain.event import Severity
from coordinator.domain.instance import InstanceStatus, PowerState
from coordinator.domain.task import TaskState
from coordinator.errors import CoordinatorError
from coordinator.runtime import Runtime
from coordinator.services.domain_report import VMTOOLS_RUNNING
from coordinator.services.instance_task import begin_task
from coordinator.store.queries import interruption as queries
from coordinator.store.queries.event import record_event
from coordinator.store.queries.task import ACTIVE_STATES
from coordinator.store.tables import Instance, Interruption, Task
from coordinator.tasks.kinds.start_instance import START_INSTANCE

# What a start needs may come up later than the agent: storage that is mounted over a network, devices.
FIRST_RETRY_SECONDS: Final = 15.0
MOST_ATTEMPTS: Final = 5
_SELF: Final = Caller("start-after-reboot", Role.OPERATOR)

log = structlog.get_logger(__name__)


class Verdict(Enum):
    """What becomes of an interrupted instance now."""

    BOOTING = auto()
    DUE = auto()
    WAITING = auto()
    OVER = auto()


@dataclass(frozen=True, slots=True)
class _Subject:
    """An interrupted instance within a transaction that has locked it."""

    session: Session
    runtime: Runtime
    interruption: Interruption
    instance: Instance

    def tell(self, kind: str, severity: Severity, **data: object) -> None:
        """Records an event of the instance."""
        record_event(
            self.session,
            kind,
            severity=severity,
            resource_type="instance",
            resource_id=self.instance.ecs_id,
            tenant_id=self.instance.tenant_id,
            node_id=self.instance.node_id,
            operation_id=self.interruption.operation_id,
            data=data,
        )


class RestartSweep:
    """The repeated look at interrupted instances."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def __call__(self) -> list[str]:
        """Begins the starts whose turn it is; answers the ids of the instances."""
        database = self._runtime.database
        if not database.lead():
            return []
        with database.read() as session:
            if not queries.has_interruptions(session):
                return []
        with database.write() as session:
            queries.forget_unplaced(session)
            node_ids = queries.find_waiting_nodes(session)
        begun = [ecs_id for node_id in node_ids for ecs_id in self._continue(node_id)]
        if begun:
            self._runtime.wake_tasks()
        return begun

    def _continue(self, node_id: str) -> list[str]:
        with self._runtime.database.write() as session:
            # The node's row is left alone: ends of operations change it after their instance's.
            subjects = [
                _Subject(session, self._runtime, interruption, instance)
                for interruption, instance in queries.lock_interrupted(session, node_id)
            ]
            verdicts = [self._judge(subject) for subject in subjects]
            for subject, verdict in zip(subjects, verdicts, strict=True):
                if verdict is Verdict.OVER:
                    session.delete(subject.interruption)
            due = [subject for subject, verdict in zip(subjects, verdicts, strict=True) if verdict is Verdict.DUE]
            free = self._runtime.settings.boots_per_node - verdicts.count(Verdict.BOOTING)
            return self._begin_all(due[: max(free, 0)])

    def _judge(self, subject: _Subject) -> Verdict:
        interruption, instance = subject.interruption, subject.instance
        if instance.deleted_at is not None or instance.status == InstanceStatus.SOFT_DELETED:
            return Verdict.OVER
        if interruption.booting_since is not None:
            return self._judge_boot(subject)
        if interruption.operation_id is not None:
            return self._judge_start(subject)
        if instance.task_id is not None:
            return Verdict.WAITING
        is_off = instance.power_state in (PowerState.SHUTOFF, PowerState.CRASHED)
        if not is_off or queries.is_settled_by_others(subject.session, interruption, instance.ecs_id):
            return Verdict.OVER
        is_early = interruption.not_before is not None and interruption.not_before > self._runtime.now()
        return Verdict.WAITING if is_early else Verdict.DUE

    def _judge_boot(self, subject: _Subject) -> Verdict:
        since = subject.interruption.booting_since
        is_up = subject.instance.vmtools_status == VMTOOLS_RUNNING
        is_late = since is None or self._runtime.now() >= since + self._runtime.settings.boot_time
        return Verdict.OVER if is_up or is_late else Verdict.BOOTING

    def _judge_start(self, subject: _Subject) -> Verdict:
        interruption = subject.interruption
        task = subject.session.get(Task, interruption.operation_id, populate_existing=True)
        if task is not None and task.state in ACTIVE_STATES:
            return Verdict.BOOTING
        if task is not None and task.state == TaskState.SUCCEEDED:
            interruption.booting_since = self._runtime.now()
            subject.session.add(interruption)
            subject.tell("instance.started_again", Severity.INFO)
            return Verdict.BOOTING
        if task is not None and task.state == TaskState.FAILED:
            return self._note_failure(subject, task.error_message)
        # Somebody has cancelled it.
        return Verdict.OVER

    def _note_failure(self, subject: _Subject, reason: str) -> Verdict:
        interruption = subject.interruption
        interruption.failures += 1
        if interruption.failures >= MOST_ATTEMPTS:
            subject.tell(
                "alarm.instance_not_started_again", Severity.ALARM, reason=reason, attempts=interruption.failures
            )
            log.error("instance.not_started_again", ecsId=subject.instance.ecs_id, reason=reason)
            return Verdict.OVER
        delay_seconds = FIRST_RETRY_SECONDS * 2 ** (interruption.failures - 1)
        interruption.at = self._runtime.now()
        interruption.not_before = interruption.at + timedelta(seconds=delay_seconds)
        interruption.operation_id = None
        subject.session.add(interruption)
        return Verdict.WAITING

    def _begin_all(self, due: Sequence[_Subject]) -> list[str]:
        return [subject.instance.ecs_id for subject in due if self._begin(subject)]

    def _begin(self, subject: _Subject) -> bool:
        interruption, instance = subject.interruption, subject.instance
        interruption.at = self._runtime.now()
        try:
            operation_id = begin_task(subject.session, self._runtime, _SELF, START_INSTANCE, instance)
        except CoordinatorError as error:
            if self._note_failure(subject, error.message.en) is Verdict.OVER:
                subject.session.delete(interruption)
            return False
        interruption.operation_id = operation_id
        subject.session.add(interruption)
        log.info("instance.starting_again", ecsId=instance.ecs_id, operationId=operation_id)
        return True
