"""Snapshot policies on the wire."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from coordinator.api.schemas.base import AnswerModel, FieldError, LenientModel, Moment
from coordinator.domain.snapshot_policy import HOURS, LONGEST_KEEPING_MINUTES, WEEK_DAYS, PolicyOrder
from coordinator.store.queries.snapshot_policy import BoundInstance, PolicyRow


def _numbers_in(admitted: range) -> BeforeValidator:
    """Numbers with commas between, or a list of them, become a tuple: each once and in order."""

    def read(value: Any) -> tuple[int, ...]:
        given = value.split(",") if isinstance(value, str) else value
        given = given if isinstance(given, list | tuple) else [given]
        try:
            numbers = {int(str(part).strip()) for part in given}
        except ValueError:
            numbers = set()
        if not numbers or not numbers <= set(admitted):
            first, last = admitted[0], admitted[-1]
            raise FieldError(
                f"numbers from {first} to {last} with commas between", f"须为{first}到{last}的数字，以逗号分隔"
            )
        return tuple(sorted(numbers))

    return BeforeValidator(read)


_AS_TEXT = WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,2}(,[0-9]{1,2})*$"})


class UpdatePolicyRequest(LenientModel):
    """What a policy shall be."""

    policy_name: str = Field(description="1 to 127 characters.", examples=["policy_test"])
    hour_of_day: Annotated[tuple[int, ...], _numbers_in(HOURS), _AS_TEXT] = Field(
        description="Hours of the day, 0 to 23, with commas between.", examples=["0,12"]
    )
    week_days: Annotated[tuple[int, ...], _numbers_in(WEEK_DAYS), _AS_TEXT] = Field(
        description="Days of the week, Monday is 1 and Sunday 7.", examples=["1,3,5"]
    )
    expire: int = Field(
        ge=0,
        le=LONGEST_KEEPING_MINUTES,
        description="Minutes for which a snapshot is kept; 0: until somebody deletes it.",
        examples=[10080],
    )
    time_zone: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="IANA name of the zone whose clocks count.", examples=["Asia/Shanghai"]
    )

    def to_order(self) -> PolicyOrder:
        """What the service is asked for."""
        return PolicyOrder(**self._fields())

    def _fields(self) -> dict[str, Any]:
        return {
            "name": self.policy_name,
            "hours": self.hour_of_day,
            "week_days": self.week_days,
            "keep_minutes": self.expire,
            "time_zone": self.time_zone or None,
        }


class CreatePolicyRequest(UpdatePolicyRequest):
    """A policy to be made."""

    tenant_id: str = Field(default="", max_length=19, description="Its tenant, for operators.")
    department_id: str = Field(default="", max_length=19, description="Department of the tenant.")
    resource_group_id: str = Field(default="", max_length=19, description="Resource group of the tenant.")

    def to_order(self) -> PolicyOrder:
        """What the service is asked for."""
        names = ("tenant_id", "department_id", "resource_group_id")
        return PolicyOrder(**self._fields(), **{name: getattr(self, name) for name in names})


class PolicyBindingRequest(LenientModel):
    """The instance that is bound, or unbound."""

    ecs_id: str = Field(default="", max_length=63, description="Id of an instance.", examples=["ecs-ta9s6065jbydgn"])


class BoundInstanceBody(AnswerModel):
    """An instance that a policy is bound to, and what came of its last snapshot."""

    ecs_id: str
    display_name: str
    bound_at: Moment
    due_at: Moment = Field(description="A snapshot that was due then is still to be taken.")
    last_due_at: Moment
    last_snapshot_id: str = Field(description="What was begun then; empty: nothing was.")
    last_error: str = Field(description="Why the last one was not begun, or the present one not yet.")

    @classmethod
    def of(cls, bound: BoundInstance) -> "BoundInstanceBody":
        """The binding as callers see it."""
        names = ("bound_at", "due_at", "last_due_at", "last_snapshot_id", "last_error")
        return cls(
            ecs_id=bound.ecs_id,
            display_name=bound.display_name,
            **{name: getattr(bound.binding, name) for name in names},
        )


class PolicyBody(AnswerModel):
    """A snapshot policy."""

    policy_id: str = Field(examples=["ecs.policy-cmms1zb5bgffs8zc"])
    created_at: Moment
    updated_at: Moment
    deleted_at: None = None
    id: int
    region: str
    tenant_id: str
    tenant_name: str
    department_id: str
    department_name: str
    resource_group_id: str
    resource_group_name: str
    policy_name: str
    execute_at: Moment = Field(description="When it is due next; never while it is paused.")
    hour_of_day: str = Field(description="Hours of the day.", examples=["0,12"])
    week_days: str = Field(description="Days of the week, Monday is 1.", examples=["1,3,5"])
    time_zone: str = Field(description="IANA name of the zone whose clocks count.")
    status: str = Field(description="enabled, or disabled while it is paused.")
    expire: int = Field(description="Minutes for which a snapshot is kept; 0: until somebody deletes it.")
    bind_ecs: list[BoundInstanceBody] | None = Field(description="Instances that it is bound to; null: none.")
    bind_ecs_count: int

    @classmethod
    def of(cls, found: PolicyRow, region: str) -> "PolicyBody":
        """The policy as callers see it."""
        row = found.row
        same = ("policy_id", "created_at", "updated_at", "tenant_id", "department_id", "resource_group_id")
        return cls(
            **{name: getattr(row, name) for name in (*same, "week_days", "time_zone")},
            id=row.id or 0,
            region=region,
            tenant_name=found.tenant_name,
            department_name=found.department_name or "",
            resource_group_name=found.resource_group_name or "",
            policy_name=row.name,
            execute_at=row.next_at,
            hour_of_day=row.hours,
            status="enabled" if row.enabled else "disabled",
            expire=row.keep_minutes,
            bind_ecs=[BoundInstanceBody.of(bound) for bound in found.bound] or None,
            bind_ecs_count=len(found.bound),
        )


class PolicyListBody(AnswerModel):
    """One page of snapshot policies."""

    snapshot_policies: list[PolicyBody]
    total_count: int = Field(description="On all pages together.")
