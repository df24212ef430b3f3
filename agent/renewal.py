"""Keeps the node's certificate valid: a new one at two thirds of its life, in use without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

import structlog

from agent.coordinator_client import CoordinatorClient, CoordinatorRefused, CoordinatorUnavailable
from agent.identity import Credentials, Identity, now_utc

_CHECK_SECONDS: Final = 3600.0
_RETRY_SECONDS: Final = 60.0

log = structlog.get_logger(__name__)


class CertificateRenewal:
    """Watches the certificate until it is cancelled."""

    def __init__(
        self,
        identity: Identity,
        client: CoordinatorClient,
        *,
        on_renewed: Callable[[Credentials], None],
        now: Callable[[], datetime] = now_utc,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._identity = identity
        self._client = client
        self._on_renewed = on_renewed
        self._now = now
        self._sleep = sleep

    async def run(self) -> None:
        """Never ends by itself."""
        while True:
            due_seconds = self.seconds_until_due()
            if due_seconds > 0:
                await self._sleep(min(due_seconds, _CHECK_SECONDS))
            elif not await self.renew():
                await self._sleep(_RETRY_SECONDS)

    def seconds_until_due(self) -> float:
        """Time until the certificate should be renewed, negative when that is past."""
        return (self._identity.credentials().validity.renew_at - self._now()).total_seconds()

    async def renew(self) -> bool:
        """Gets a certificate for a new key; False when the coordinator gave none, and everything is as before."""
        try:
            answer = await self._client.renew_certificate(self._identity.request_renewal())
            self._identity.accept(answer.certificate_pem, answer.authority_pem)
        except (CoordinatorUnavailable, CoordinatorRefused, ValueError, OSError) as error:
            log.warning("certificate.not_renewed", reason=str(error))
            return False
        credentials = self._identity.credentials()
        self._on_renewed(credentials)
        log.info("certificate.renewed", expires_at=credentials.validity.not_after.isoformat())
        return True
