"""How agents are called: a deadline on each call, failures told as AgentCallError."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar

import grpc
import structlog

from coordinator.agents.channel import ChannelPool
from coordinator.agents.error import AgentCallError, decode_error

_REQUEST_ID_METADATA_KEY: Final = "nodewright-request-id"

Answer = TypeVar("Answer")
AnswerCo = TypeVar("AnswerCo", covariant=True)
Progress = TypeVar("Progress")
OnProgress = Callable[[Progress], Awaitable[None]]


class _UnaryMethod(Protocol[AnswerCo]):
    def __call__(self, request: Any, *, timeout: float, metadata: Any) -> Awaitable[AnswerCo]: ...


class _Stream(Protocol[AnswerCo]):
    def __aiter__(self) -> AsyncIterator[AnswerCo]: ...
    def cancel(self) -> bool: ...


class _StreamMethod(Protocol[AnswerCo]):
    def __call__(self, request: Any, *, timeout: float, metadata: Any) -> _Stream[AnswerCo]: ...


class AgentCaller:
    """Calls to the agent of one node."""

    def __init__(self, node_id: str, channels: ChannelPool) -> None:
        self.node_id = node_id
        self._channels = channels

    async def _channel(self) -> grpc.aio.Channel:
        return await self._channels.channel(self.node_id)

    async def _ensure(self, method: _UnaryMethod[Answer], request: object, deadline_seconds: float) -> Answer:
        """A call that makes the node work: a rush waits here, where no deadline runs yet."""
        async with self._channels.gate(self.node_id):
            return await self._call(method, request, deadline_seconds)

    async def _call(self, method: _UnaryMethod[Answer], request: object, deadline_seconds: float) -> Answer:
        try:
            return await method(request, timeout=deadline_seconds, metadata=_metadata())
        except grpc.aio.AioRpcError as error:
            raise self._decoded(error) from error

    async def _follow(
        self,
        method: _StreamMethod[Answer],
        request: object,
        deadline_seconds: float,
        on_message: OnProgress[Answer] | None,
    ) -> Answer:
        """The last message of a stream; each is told to `on_message`."""
        last = await self._follow_any(method, request, deadline_seconds, on_message)
        if last is None:
            raise AgentCallError("AgentCallFailed", "the agent ended the call without an answer", transient=True)
        return last

    async def _follow_any(
        self,
        method: _StreamMethod[Answer],
        request: object,
        deadline_seconds: float,
        on_message: OnProgress[Answer] | None,
    ) -> Answer | None:
        """The same of a stream that may have nothing to tell."""
        last: Answer | None = None
        stream = method(request, timeout=deadline_seconds, metadata=_metadata())
        try:
            async for message in stream:
                last = message
                if on_message:
                    await on_message(message)
        except grpc.aio.AioRpcError as error:
            raise self._decoded(error) from error
        finally:
            stream.cancel()
        return last

    def _decoded(self, error: grpc.aio.AioRpcError) -> AgentCallError:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            self._channels.suspect(self.node_id)
        return decode_error(error, self._channels.name(self.node_id))


def _metadata() -> tuple[tuple[str, str], ...]:
    """The request id that is bound to the present task, so that the agent's log lines carry it too."""
    request_id = structlog.contextvars.get_contextvars().get("requestId")
    return ((_REQUEST_ID_METADATA_KEY, str(request_id)),) if request_id else ()
