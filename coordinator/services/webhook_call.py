"""One call of a webhook: signed, to the address that was checked, and answered with success or not."""

import asyncio
import hashlib
import hmac
import json
import ssl
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from coordinator.domain.caller import Caller
from coordinator.outgoing_http import AddressPrivate, UrlUnsupported, send_pinned
from coordinator.runtime import Runtime
from coordinator.services.webhook import get_webhook
from coordinator.store.tables import Webhook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

SIGNATURE_HEADER: Final = "x-nodewright-signature"
EVENT_ID_HEADER: Final = "x-nodewright-event-id"
EVENT_KIND_HEADER: Final = "x-nodewright-event-kind"
TEST_KIND: Final = "webhook.test"
# From the name's resolution to the first line of the answer; what comes after that is not read.
CALL_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """How a receiver answered; 0 when it did not."""

    status: int = 0
    error: str = ""

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver took the event over."""
        return not self.error


@asynccontextmanager
async def open_client() -> "AsyncIterator[httpx.AsyncClient]":
    """For calls that follow each other: connections are kept."""
    import httpx

    trust = await asyncio.to_thread(_trust_of_system)
    # Proxies of the environment would resolve names themselves.
    async with httpx.AsyncClient(verify=trust, trust_env=False, timeout=CALL_SECONDS) as client:
        yield client


async def send_test(runtime: Runtime, caller: Caller, webhook_id: str) -> CallOutcome:
    """Sends an event that tells of nothing, now and once, whatever else waits to be sent."""
    row = await asyncio.to_thread(get_webhook, runtime, caller, webhook_id)
    event = {
        "id": 0,
        "at": runtime.now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "kind": TEST_KIND,
        "severity": "info",
        "resourceType": "webhook",
        "resourceId": webhook_id,
        "tenantId": row.tenant_id,
        "nodeId": None,
        "operationId": None,
        "data": {},
    }
    async with open_client() as client:
        return await call_webhook(runtime, client, row, event)


async def call_webhook(
    runtime: Runtime, client: "httpx.AsyncClient", webhook: Webhook, event: dict[str, Any]
) -> CallOutcome:
    """Sends one event as `describe` renders it. Whatever goes wrong is an outcome."""
    import httpx

    body = json.dumps(event, ensure_ascii=False).encode()
    headers = {
        "content-type": "application/json",
        "user-agent": "nodewright",
        SIGNATURE_HEADER: sign(runtime.secrets.decrypt(webhook.secret_encrypted), int(time.time()), body),
        EVENT_ID_HEADER: str(event["id"]),
        EVENT_KIND_HEADER: event["kind"],
    }
    private_allowed = runtime.settings.allow_private_webhook_urls
    try:
        async with asyncio.timeout(CALL_SECONDS):
            response = await send_pinned(
                client,
                "POST",
                httpx.URL(webhook.url),
                private_allowed=private_allowed,
                headers=headers,
                content=body,
            )
            await response.aclose()
    except AddressPrivate as error:
        return CallOutcome(error=f"{error} is inside a private network: allow_private_webhook_urls admits that")
    except TimeoutError:
        return CallOutcome(error=f"no answer within {CALL_SECONDS:.0f} s")
    except (OSError, UrlUnsupported, httpx.HTTPError, httpx.InvalidURL) as error:
        return CallOutcome(error=f"{type(error).__name__}: {error}"[:255])
    if response.is_success:
        return CallOutcome(response.status_code)
    return CallOutcome(response.status_code, f"it answers {response.status_code}")


@cache
def _trust_of_system() -> ssl.SSLContext:
    """This machine's certificate authorities, where operators add their own. Read once: that takes a while."""
    return ssl.create_default_context()


def sign(secret: str, moment_seconds: int, body: bytes) -> str:
    """The header that proves who sent the body, and when: a receiver refuses what is old or signed otherwise."""
    signed = f"{moment_seconds}.".encode() + body
    return f"t={moment_seconds},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"
