"""Events as they happen, in the format of server-sent events (WHATWG HTML, section 9.2)."""

import json
import time
from collections.abc import AsyncIterator
from typing import Final

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from coordinator.domain.caller import Caller
from coordinator.domain.event import EventFilter
from coordinator.errors import CoordinatorError
from coordinator.runtime import Runtime
from coordinator.services.credential import authenticate
from coordinator.services.event import describe
from coordinator.store.tables import Event

# Proxies end connections on which nothing comes for a minute or half of one.
HEARTBEAT_SECONDS: Final = 15.0
_HEARTBEAT: Final = ": nothing new\n\n"
_RETRY: Final = "retry: 2000\n\n"


class EventStream(StreamingResponse):
    """An answer that goes on until the caller leaves, its credentials end or the coordinator stops.

    RequestsTooMany when the caller, or all callers together, have too many of them.
    """

    def __init__(self, runtime: Runtime, request: Request, caller: Caller, after: int, wanted: EventFilter) -> None:
        self._runtime = runtime
        self._caller = caller
        self._authorization = request.headers.get("authorization", "")
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(self._tell(after, wanted), media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._runtime.event_streams.hold(self._caller.token_id):
            await super().__call__(scope, receive, send)

    async def _tell(self, after: int, wanted: EventFilter) -> AsyncIterator[str]:
        """Reads on only when the caller has taken what came before: a slow one is behind, and costs no memory."""
        feed = self._runtime.events
        yield _RETRY
        quiet_since = known_at = time.monotonic()
        while not feed.closed:
            if time.monotonic() - known_at >= HEARTBEAT_SECONDS:
                if not await run_in_threadpool(self._is_still_known):
                    return
                known_at = time.monotonic()
            events, after = await feed.read(after, wanted)
            if events:
                yield "".join(map(_render, events))
                quiet_since = time.monotonic()
            left_seconds = quiet_since + HEARTBEAT_SECONDS - time.monotonic()
            if left_seconds <= 0:
                yield _HEARTBEAT
                quiet_since = time.monotonic()
            else:
                await feed.wait_beyond(after, left_seconds)

    def _is_still_known(self) -> bool:
        try:
            known = authenticate(self._runtime, self._authorization)
        except CoordinatorError:
            return False
        return (known.role, known.tenant_id) == (self._caller.role, self._caller.tenant_id)


def _render(event: Event) -> str:
    # JSON has no line breaks of its own: one line of data is enough.
    data = json.dumps(describe(event), ensure_ascii=False)
    return f"id: {event.position}\nevent: {event.kind}\ndata: {data}\n\n"
