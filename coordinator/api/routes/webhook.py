"""Webhooks."""

from fastapi import APIRouter

from coordinator.api.deps import Operator, RuntimeDep
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings
from coordinator.api.paging import PageByNumber
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.webhook import (
    CreateWebhookRequest,
    NewWebhookBody,
    WebhookBody,
    WebhookListBody,
    WebhookTestBody,
)
from coordinator.domain.listing import ListQuery
from coordinator.services import webhook as service
from coordinator.services import webhook_call

# Without idempotency keys: an answer with a secret shall not lie in the database.
router = APIRouter(prefix="/api/ecs/v1/webhooks", tags=["events"], route_class=LenientRoute)


@router.post("", operation_id="createWebhook")
def create_webhook(body: CreateWebhookRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[NewWebhookBody]:
    """Sends events to an address from now on, signed. The answer is the only place where the secret is shown."""
    return success(NewWebhookBody.of_new(service.create_webhook(runtime, caller, body.to_order())))


@router.get("", operation_id="listWebhooks")
def list_webhooks(
    page: PageByNumber, conditions: Conditions, orderings: Orderings, caller: Operator, runtime: RuntimeDep
) -> Envelope[WebhookListBody]:
    """Lists webhooks, the oldest first, and how each of them is doing."""
    listing = service.list_webhooks(runtime, caller, ListQuery(page, conditions, orderings))
    items = [WebhookBody.of(row) for row in listing.items]
    return success(WebhookListBody(items=items, total_count=listing.total))


@router.get("/{webhook_id}", operation_id="getWebhook")
def get_webhook(webhook_id: str, caller: Operator, runtime: RuntimeDep) -> Envelope[WebhookBody]:
    """Shows one webhook, and how it is doing."""
    return success(WebhookBody.of(service.get_webhook(runtime, caller, webhook_id)))


@router.delete("/{webhook_id}", operation_id="deleteWebhook")
def delete_webhook(webhook_id: str, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Sends nothing there any more."""
    service.delete_webhook(runtime, caller, webhook_id)
    return success(None)


@router.post("/{webhook_id}/test", operation_id="testWebhook")
async def test_webhook(webhook_id: str, caller: Operator, runtime: RuntimeDep) -> Envelope[WebhookTestBody]:
    """Sends an event of kind `webhook.test` now, and tells how it was answered."""
    return success(WebhookTestBody.of(await webhook_call.send_test(runtime, caller, webhook_id)))


@router.post("/{webhook_id}/enable", operation_id="enableWebhook")
def enable_webhook(webhook_id: str, caller: Operator, runtime: RuntimeDep) -> Envelope[WebhookBody]:
    """Tries a webhook again at once that fails or was given up, from where it had got."""
    return success(WebhookBody.of(service.enable_webhook(runtime, caller, webhook_id)))
