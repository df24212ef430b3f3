"""Webhooks on the wire."""

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, LenientModel, Moment
from coordinator.api.schemas.event import KindPatterns
from coordinator.api.schemas.url import HttpUrl
from coordinator.domain.event import Severity
from coordinator.services.webhook import NewWebhook, WebhookOrder
from coordinator.services.webhook_call import CallOutcome
from coordinator.store.tables import Webhook


class CreateWebhookRequest(LenientModel):
    """An address that wants to be sent events."""

    url: HttpUrl = Field(
        min_length=1, max_length=1023, description="Where events are POSTed to.", examples=["https://example.com/hook"]
    )
    kinds: KindPatterns = Field(
        default_factory=list, description="Kinds, or beginnings of kinds; none: all.", examples=[["migration.*"]]
    )
    severity: Severity = Field(default=Severity.INFO, description="The least severity.")
    tenant_id: str = Field(default="", max_length=19, description="Only this tenant's events; absent: all.")
    secret: str = Field(
        default="",
        pattern="^([!-~]{16,128})?$",
        description="What events are signed with, 16 to 128 printable characters without spaces; absent: one is made.",
    )

    def to_order(self) -> WebhookOrder:
        """What the service is asked for."""
        return WebhookOrder(self.url, tuple(self.kinds), self.severity.value, self.tenant_id or None, self.secret)


class WebhookBody(AnswerModel):
    """An address that is sent events."""

    webhook_id: str = Field(description="Id of the webhook.", examples=["wh-4f8j2m6q1x9z3c"])
    url: str
    kinds: list[str] = Field(description="Kinds, or beginnings of kinds; none: all.")
    severity: Severity = Field(description="The least severity.")
    tenant_id: str | None = Field(description="Only this tenant's events; null: all.")
    enabled: bool = Field(description="False: it failed for too long and was given up.")
    last_event_id: int = Field(description="The last event that it took over.")
    last_delivered_at: Moment = Field(description="When it did; year 1: never.")
    attempts: int = Field(description="Failures since.")
    failing_since: Moment = Field(description="Of the first of them; year 1: it does not fail.")
    next_attempt_at: Moment = Field(description="When it is tried again; year 1: at the next event.")
    last_error: str = Field(description="What went wrong last, however long ago.")
    last_error_at: Moment
    created_at: Moment

    @classmethod
    def of(cls, row: Webhook) -> "WebhookBody":
        return cls(**_shown(row))


class NewWebhookBody(WebhookBody):
    """A webhook that was just made."""

    secret: str = Field(description="What events are signed with. Shown only now: keep it.", examples=["whsec_..."])

    @classmethod
    def of_new(cls, made: NewWebhook) -> "NewWebhookBody":
        return cls(**_shown(made.row), secret=made.secret)


class WebhookListBody(AnswerModel):
    """One page of webhooks."""

    items: list[WebhookBody] = Field(alias="list")
    total_count: int = Field(description="On all pages together.")


class WebhookTestBody(AnswerModel):
    """How a webhook answered an event that tells of nothing."""

    delivered: bool
    status: int = Field(description="The HTTP status that it answered; 0: it did not answer.", examples=[204])
    error: str = Field(description="Why it counts as failed; empty if it does not.")

    @classmethod
    def of(cls, outcome: CallOutcome) -> "WebhookTestBody":
        return cls(delivered=outcome.is_delivered, status=outcome.status, error=outcome.error)


def _shown(row: Webhook) -> dict[str, object]:
    same = ("url", "kinds", "tenant_id", "enabled", "last_delivered_at", "attempts", "failing_since", "last_error")
    return {
        **row.model_dump(include={*same, "last_error_at", "created_at"}),
        "webhook_id": row.id,
        "severity": row.least_severity,
        "last_event_id": row.last_position,
        "next_attempt_at": row.not_before if row.enabled else None,
    }
