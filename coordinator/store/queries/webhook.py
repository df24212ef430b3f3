"""Webhooks, how far each has got, and which coordinator sends now."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, update
from sqlmodel import Session, col, select

from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.store.queries.filter import fetch_rows_of, fields
from coordinator.store.queries.task import LONGEST_WAIT, is_over
from coordinator.store.tables import Webhook

# No back-off is longer, also where the clocks of two coordinators differ a little.
_LONGEST_PAUSE: Final = timedelta(hours=2)
_FIELDS: Final = fields(
    webhookId=Webhook.id,
    url=Webhook.url,
    enabled=Webhook.enabled,
    tenantId=Webhook.tenant_id,
    createdAt=Webhook.created_at,
)


def list_webhooks(session: Session, query: ListQuery) -> Listing[Webhook]:
    """Webhooks, the oldest first."""
    oldest_first = (Ordering("createdAt"),)
    return fetch_rows_of(session, select(Webhook), query, _FIELDS, tie_break=col(Webhook.id), default=oldest_first)


def count_webhooks(session: Session) -> int:
    """How many there are."""
    return session.exec(select(func.count()).select_from(Webhook)).one()


def find_due(session: Session, now: datetime, newest: int) -> Mapping[str, int]:
    """Webhooks that may be sent something now, and how far they have got; not those that have got to the newest."""
    statement = select(Webhook.id, Webhook.last_position).where(
        col(Webhook.enabled),
        col(Webhook.last_position) < newest,
        is_over(col(Webhook.not_before), now, _LONGEST_PAUSE),
        is_over(col(Webhook.lease_expires_at), now, LONGEST_WAIT),
    )
    return dict(session.exec(statement).all())


def take_lease(session: Session, webhook_id: str, owner: str, now: datetime, lease: timedelta) -> Webhook | None:
    """The webhook, which only `owner` sends to from now on; None when it is not free or not due any more."""
    statement = select(Webhook).where(
        Webhook.id == webhook_id,
        col(Webhook.enabled),
        is_over(col(Webhook.not_before), now, _LONGEST_PAUSE),
        is_over(col(Webhook.lease_expires_at), now, LONGEST_WAIT),
    )
    row = session.exec(statement.with_for_update(skip_locked=True)).first()
    if row is not None:
        row.lease_owner, row.lease_expires_at = owner, now + lease
        session.add(row)
    return row


def lock_leased(session: Session, webhook_id: str, owner: str) -> Webhook | None:
    """The webhook, if it is still `owner`'s to send to."""
    statement = select(Webhook).where(Webhook.id == webhook_id, Webhook.lease_owner == owner)
    return session.exec(statement.with_for_update()).first()


def free_leases(session: Session, owner: str | None = None, webhook_ids: Sequence[str] | None = None) -> None:
    """Lets go of webhooks: of one owner or of all (for the sole user of a database), all of them or only those."""
    statement = update(Webhook).where(col(Webhook.lease_owner) != "")
    if owner is not None:
        statement = statement.where(col(Webhook.lease_owner) == owner)
    if webhook_ids is not None:
        statement = statement.where(col(Webhook.id).in_(webhook_ids))
    session.execute(statement.values(lease_owner="", lease_expires_at=None))
