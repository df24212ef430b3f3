"""Scheduled tasks on the wire. Moments are milliseconds since 1970 where the API has always had them so."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field

from coordinator.api.schemas.base import AnswerModel, FieldError, LenientModel, Moment
from coordinator.domain.message import Message
from coordinator.domain.schedule import RunState, RunTrigger, ScheduleAction, ScheduleOrder
from coordinator.services.schedule import NEVER_EXPIRES, RunView
from coordinator.store.queries.schedule import ScheduleRow

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_MISSED: Final = Message(
    "no coordinator ran when it was due; it was too late afterwards, or a later time was run instead",
    "到期时没有协调器在运行；恢复后已超过补执行期限，或已由之后的一次代替",
)


def to_milliseconds(moment: datetime | None) -> int:
    """Milliseconds since 1970; 0 for none."""
    return (moment - _EPOCH) // _MILLISECOND if moment else 0


_NEVER: Final = to_milliseconds(NEVER_EXPIRES)


def _split(value: Any) -> Any:
    """Ids are also sent as one text with commas between."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _check_milliseconds(value: int) -> int:
    if not 0 <= value <= _NEVER:
        raise FieldError(
            f"milliseconds since 1970, at most {_NEVER}, which is never",
            f"须为1970年以来的毫秒数，最大{_NEVER}（永不失效）",
        )
    return value


EcsIds = Annotated[
    list[Annotated[str, Field(max_length=32)]],
    BeforeValidator(_split),
    Field(max_length=1000, description="Ids of instances.", examples=[["ecs-w21pswv1tqx948"]]),
]
Milliseconds = Annotated[
    int,
    AfterValidator(_check_milliseconds),
    Field(description="When the task ends, in milliseconds since 1970; 0: never.", examples=[1893456000000]),
]
Expression = Annotated[
    str,
    Field(max_length=255, description="Minute, hour, day of month, month, day of week.", examples=["30 3 * * 1-5"]),
]
ZoneName = Annotated[
    str, Field(max_length=63, description="IANA name of the zone whose clocks count.", examples=["Asia/Shanghai"])
]


class UpdateScheduleRequest(LenientModel):
    """What a scheduled task shall be; what may be absent stays as it is."""

    tenant_id: str = Field(default="", max_length=19, description="Its tenant, which does not change.")
    enabled: bool | None = Field(default=None, description="Whether it is run at its times.")
    scheduler_name: str = Field(description="1 to 127 characters.", examples=["nightly"])
    scheduler_object: EcsIds
    cron_expression: Expression
    infective_at: Milliseconds | None = None
    time_zone: ZoneName | None = None

    def to_order(self) -> ScheduleOrder:
        """What the service is asked for."""
        return ScheduleOrder(**self._fields())

    def _fields(self) -> dict[str, Any]:
        expires_at = None
        if self.infective_at is not None:
            expires_at = _EPOCH + self.infective_at * _MILLISECOND if self.infective_at else NEVER_EXPIRES
        return {
            "name": self.scheduler_name,
            "ecs_ids": tuple(dict.fromkeys(self.scheduler_object)),
            "cron_expression": self.cron_expression,
            "time_zone": self.time_zone or None,
            "enabled": self.enabled,
            "expires_at": expires_at,
            "tenant_id": self.tenant_id,
        }


class CreateScheduleRequest(UpdateScheduleRequest):
    """A task to be made."""

    department_id: str = Field(min_length=1, max_length=19, description="Department that it belongs to.")
    resource_group_id: str = Field(default="", max_length=19, description="Resource group of the tenant.")
    tenant_id: str = Field(default="", max_length=19, description="Tenant; the department's unless given.")
    enabled: bool | None = Field(default=None, description="Whether it is run at its times; it is unless given.")
    scheduler_type: ScheduleAction = Field(description="What is done.", examples=["restartEcs"])
    start_now: bool = Field(default=False, description="Also run it once at once.")

    def to_order(self) -> ScheduleOrder:
        """What the service is asked for."""
        return ScheduleOrder(
            **self._fields(),
            department_id=self.department_id,
            resource_group_id=self.resource_group_id,
            action=self.scheduler_type,
            starts_now=self.start_now,
        )


class NewScheduleBody(AnswerModel):
    """A task that was just made."""

    scheduler_id: str = Field(alias="records", description="Id of the task.", examples=["schd-qmy0jynmwu35a8"])


class ScheduleBody(AnswerModel):
    """A scheduled task."""

    scheduler_id: str = Field(description="Id of the task.", examples=["schd-qmy0jynmwu35a8"])
    scheduler_name: str
    scheduler_type: ScheduleAction
    scheduler_object: list[str] = Field(description="Ids of instances.")
    enabled: bool
    cron_expression: str
    time_zone: str = Field(description="IANA name of the zone whose clocks count.")
    execute_at: int = Field(description="When it is run next, in milliseconds since 1970; 0: not any more, or not now.")
    infective_at: int = Field(description="When it ends, in milliseconds since 1970; 253402271999000: never.")
    tenant_id: str
    tenant_name: str
    department_id: str
    department_name: str
    resource_group_id: str
    resource_group_name: str
    created_at: Moment
    updated_at: Moment

    @classmethod
    def of(cls, found: ScheduleRow) -> "ScheduleBody":
        row = found.row
        same = ("enabled", "cron_expression", "time_zone", "tenant_id", "department_id", "resource_group_id")
        return cls(
            **{name: getattr(row, name) for name in (*same, "created_at", "updated_at")},
            scheduler_id=row.id,
            scheduler_name=row.name,
            scheduler_type=row.action,
            scheduler_object=row.ecs_ids,
            execute_at=to_milliseconds(row.next_at),
            infective_at=to_milliseconds(row.expires_at or NEVER_EXPIRES),
            tenant_name=found.tenant_name,
            department_name=found.department_name or "",
            resource_group_name=found.resource_group_name or "",
        )


class ScheduleListBody(AnswerModel):
    """One page of scheduled tasks."""

    count: int = Field(description="On all pages together.")
    records: list[ScheduleBody]


class RunResultBody(AnswerModel):
    """What came of a run for one instance."""

    ecs_id: str
    operation_id: str = Field(description="The operation that was begun; empty: it was refused.")
    operation_state: str = Field(description="How far that is, or how it ended; empty when it is not known any more.")
    code: str = Field(description="Why it was refused; empty if it was not.")
    message: str

    @classmethod
    def of(cls, result: Mapping[str, Any], view: RunView, language: str) -> "RunResultBody":
        operation_id = result["operation_id"]
        return cls(
            ecs_id=result["ecs_id"],
            operation_id=operation_id,
            operation_state=str(view.states.get(operation_id, "")),
            code=result["code"],
            message=Message(result["message_en"], result["message_zh"]).text(language),
        )


class ScheduleRunBody(AnswerModel):
    """A run of a scheduled task."""

    run_id: int
    due_at: Moment = Field(description="When it was due.")
    at: Moment = Field(description="When it was run, or found to have been missed.")
    trigger: RunTrigger
    state: RunState
    message: str = Field(description="Why it was missed; empty if it was not.")
    results: list[RunResultBody]

    @classmethod
    def of(cls, view: RunView, language: str) -> "ScheduleRunBody":
        run = view.run
        return cls(
            **{name: getattr(run, name) for name in ("due_at", "at", "trigger", "state")},
            run_id=run.id or 0,
            message=_MISSED.text(language) if run.state == RunState.MISSED else "",
            results=[RunResultBody.of(result, view, language) for result in run.results],
        )


class ScheduleRunListBody(AnswerModel):
    """One page of runs."""

    count: int = Field(description="On all pages together.")
    records: list[ScheduleRunBody]
