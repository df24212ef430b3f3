"""Webhooks: addresses that are sent what happens."""

import secrets
from dataclasses import dataclass
from typing import Final

import structlog
from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.identifier import Prefix
from coordinator.domain.listing import Listing, ListQuery
from coordinator.errors import QuotaExceeded, ResourceNotFound
from coordinator.event_feed import settle_events
from coordinator.runtime import Runtime
from coordinator.services.region import check_tenant
from coordinator.store.queries import webhook as queries
from coordinator.store.queries.event import read_last_position
from coordinator.store.tables import Webhook

_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 (a prefix, not a secret)
# Each of them is looked after whenever something happens.
_MAXIMUM: Final = 100

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WebhookOrder:
    """What is asked for. An empty secret: one is made."""

    url: str
    kinds: tuple[str, ...]
    least_severity: str
    tenant_id: str | None
    secret: str


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A webhook that was just made; `secret` is told now and never again."""

    row: Webhook
    secret: str


def create_webhook(runtime: Runtime, caller: Caller, order: WebhookOrder) -> NewWebhook:
    """A webhook that is sent what happens from now on."""
    if order.tenant_id:
        check_tenant(runtime, caller, order.tenant_id)
    secret = order.secret or _SECRET_PREFIX + secrets.token_urlsafe(32)
    settle_events(runtime.database)
    with runtime.database.write() as session:
        if queries.count_webhooks(session) >= _MAXIMUM:
            raise QuotaExceeded(f"there are {_MAXIMUM} webhooks already", f"事件推送数量已达上限{_MAXIMUM}")
        row = Webhook(
            id=runtime.identifiers.new(Prefix.WEBHOOK),
            url=order.url,
            kinds=list(order.kinds),
            least_severity=order.least_severity,
            tenant_id=order.tenant_id,
            secret_encrypted=runtime.secrets.encrypt(secret),
            last_position=read_last_position(session),
        )
        session.add(row)
    log.info("webhook.created", webhookId=row.id, by=caller.token_id)
    return NewWebhook(row, secret)


def list_webhooks(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[Webhook]:
    """Webhooks, the oldest first."""
    with runtime.database.read() as session:
        return queries.list_webhooks(session, query)


def get_webhook(runtime: Runtime, caller: Caller, webhook_id: str) -> Webhook:
    """One webhook."""
    with runtime.database.read() as session:
        return _find(session, webhook_id)


def enable_webhook(runtime: Runtime, caller: Caller, webhook_id: str) -> Webhook:
    """Sends again at once, from where it had got, to a webhook that fails or was given up. Idempotent."""
    with runtime.database.write() as session:
        row = _find(session, webhook_id, for_update=True)
        row.enabled, row.attempts, row.failing_since, row.not_before = True, 0, None, None
        session.add(row)
    log.info("webhook.enabled", webhookId=row.id, by=caller.token_id)
    return row


def delete_webhook(runtime: Runtime, caller: Caller, webhook_id: str) -> None:
    """Sends nothing there any more."""
    with runtime.database.write() as session:
        session.delete(_find(session, webhook_id, for_update=True))
    log.info("webhook.deleted", webhookId=webhook_id, by=caller.token_id)


def _find(session: Session, webhook_id: str, *, for_update: bool = False) -> Webhook:
    row = session.get(Webhook, webhook_id, with_for_update=for_update or None)
    if row is None:
        raise ResourceNotFound("webhook", webhook_id)
    return row
