"""Sends events to webhooks: each in order, each at least once, by one coordinator at a time.

How far a webhook has got is stored after each event that it took over. A coordinator that dies in between leaves its
lease to expire, and the next one sends that event again, under the same id.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError

from coordinator.domain.event import EventFilter, Severity
from coordinator.runtime import Runtime
from coordinator.services.event import describe
from coordinator.services.webhook_call import CallOutcome, call_webhook, open_client
from coordinator.store.queries import webhook as queries
from coordinator.store.queries.event import record_event
from coordinator.store.tables import Event, Webhook

if TYPE_CHECKING:
    import httpx

# Renewed with each event, whose call takes less.
_LEASE: Final = timedelta(seconds=30)
_POLL_SECONDS: Final = 1.0
_FIRST_PAUSE_SECONDS: Final = 1.0
_LAST_PAUSE_SECONDS: Final = 3600.0
_AT_ONCE: Final = 16
# After so many events that a webhook does not want, where it is is stored all the same.
_UNSTORED: Final = 1000

log = structlog.get_logger(__name__)


class WebhookSender:
    """Looks after all webhooks of the cloud, beside other coordinators that do the same."""

    def __init__(self, runtime: Runtime, jitter: Callable[[], float] = lambda: random.uniform(0.5, 1)) -> None:  # noqa: S311
        self._runtime = runtime
        self._jitter = jitter
        self._owner = f"sender-{uuid4()}"
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._sending: dict[str, asyncio.Task[None]] = {}
        # Up to where nothing is left that a webhook wants, though it is not stored.
        self._looked_at: dict[str, int] = {}

    async def run(self) -> None:
        """Sends until it is cancelled; then lets go of all webhooks, so that a successor continues at once."""
        if self._runtime.database.is_sqlite:
            await asyncio.to_thread(self._free, None)
        feed = self._runtime.events
        try:
            while True:
                newest = feed.position
                await self._start_due(newest)
                await feed.wait_beyond(newest, _POLL_SECONDS)
                if feed.closed:
                    return
        finally:
            sending = list(self._sending.values())
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
            await asyncio.to_thread(self._free, self._owner)

    async def _start_due(self, newest: int) -> None:
        try:
            due = await asyncio.to_thread(self._find_due, newest)
        except (SQLAlchemyError, TimeoutError) as error:
            log.warning("webhooks.not_read", reason=str(error))
            return
        for webhook_id, position in due.items():
            if webhook_id not in self._sending and max(position, self._looked_at.get(webhook_id, 0)) < newest:
                task = asyncio.create_task(self._send_all(webhook_id))
                self._sending[webhook_id] = task
                task.add_done_callback(partial(self._forget, webhook_id))

    def _forget(self, webhook_id: str, _done: object) -> None:
        del self._sending[webhook_id]

    async def _send_all(self, webhook_id: str) -> None:
        async with self._places:
            try:
                webhook = await asyncio.to_thread(self._take, webhook_id)
                if webhook is None:
                    return
                async with open_client() as client:
                    await self._send_to(client, webhook)
                await asyncio.to_thread(self._free, self._owner, [webhook_id])
            except Exception:
                # The lease stays until it is over: a pause before the next try, here or elsewhere.
                log.exception("webhook.interrupted", webhookId=webhook_id)

    async def _send_to(self, client: "httpx.AsyncClient", webhook: Webhook) -> None:
        """Until the webhook has got all, fails, or is not ours any more."""
        wanted = EventFilter(tuple(webhook.kinds), tenant_id=webhook.tenant_id, least=Severity(webhook.least_severity))
        after, stored = webhook.last_position, webhook.last_position
        while True:
            events, after = await self._runtime.events.read(after, wanted)
            for event in events:
                outcome = await call_webhook(self._runtime, client, webhook, describe(event))
                is_ours = await asyncio.to_thread(self._record, webhook.id, event, outcome)
                if not is_ours or not outcome.is_delivered:
                    return
                stored = event.position or stored
            if not events:
                break
        self._looked_at[webhook.id] = after
        if after - stored >= _UNSTORED:
            await asyncio.to_thread(self._store_position, webhook.id, after)

    def _find_due(self, newest: int) -> dict[str, int]:
        with self._runtime.database.read() as session:
            return dict(queries.find_due(session, self._runtime.now(), newest))

    def _take(self, webhook_id: str) -> Webhook | None:
        with self._runtime.database.write() as session:
            return queries.take_lease(session, webhook_id, self._owner, self._runtime.now(), _LEASE)

    def _free(self, owner: str | None, webhook_ids: list[str] | None = None) -> None:
        with self._runtime.database.write() as session:
            queries.free_leases(session, owner, webhook_ids)

    def _record(self, webhook_id: str, event: Event, outcome: CallOutcome) -> bool:
        """Whether the webhook is still ours; what came of the call is stored then."""
        with self._runtime.database.write() as session:
            row = queries.lock_leased(session, webhook_id, self._owner)
            if row is None:
                return False
            now = self._runtime.now()
            row.lease_expires_at = now + _LEASE
            session.add(row)
            if outcome.is_delivered:
                row.last_position, row.last_delivered_at = event.position or 0, now
                row.attempts, row.failing_since, row.not_before = 0, None, None
                return True
            self._note_failure(row, outcome, now)
            if row.enabled:
                return True
            record_event(
                session,
                "alarm.webhook_disabled",
                severity=Severity.ALARM,
                resource_type="webhook",
                resource_id=webhook_id,
                data={"url": row.url, "error": outcome.error},
            )
            return True

    def _note_failure(self, row: Webhook, outcome: CallOutcome, now: datetime) -> None:
        row.attempts += 1
        row.failing_since = row.failing_since or now
        row.last_error, row.last_error_at = outcome.error, now
        row.enabled = now - row.failing_since < self._runtime.settings.webhook_patience
        # More than thirty doublings are beyond any pause, and beyond what a float holds some day.
        pause_seconds = min(_FIRST_PAUSE_SECONDS * 2 ** min(row.attempts - 1, 30), _LAST_PAUSE_SECONDS)
        row.not_before = now + timedelta(seconds=self._jitter() * pause_seconds)
        log.warning("webhook.failed", webhookId=row.id, attempts=row.attempts, error=outcome.error, enabled=row.enabled)

    def _store_position(self, webhook_id: str, position: int) -> None:
        with self._runtime.database.write() as session:
            row = queries.lock_leased(session, webhook_id, self._owner)
            if row is not None:
                row.last_position = position
                session.add(row)
