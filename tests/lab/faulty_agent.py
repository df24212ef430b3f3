"""The real agent, which kills itself around one call: `python -m tests.lab.faulty_agent before|after METHOD`.

Before: the call has arrived and nothing was done. After: everything was done and the answer was not sent.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, TypeAlias

import grpc

from agent.config import load_config
from agent.server import serve

# Generic in the stubs only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


def die() -> NoReturn:
    """Ends this process as a power failure would."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


class KillingInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Ends the process at the first call of `method`, a name such as "DomainService/EnsureDefined"."""

    def __init__(self, moment: str, method: str) -> None:
        self._moment = moment
        self._method = method

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Looks at one call."""
        if not handler_call_details.method.endswith(f".{self._method}"):
            return await continuation(handler_call_details)
        if self._moment == "before":
            die()
        return dying_after(await continuation(handler_call_details))


def dying_after(handler: Any) -> Any:
    """The handler, which does its work and then ends the process."""

    async def answer(request: Any, context: Any) -> NoReturn:
        await handler.unary_unary(request, context)
        die()

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        async for message in handler.unary_stream(request, context):
            yield message
        die()

    codec = (handler.request_deserializer, handler.response_serializer)
    if handler.unary_stream is not None:
        return grpc.unary_stream_rpc_method_handler(stream, *codec)
    return grpc.unary_unary_rpc_method_handler(answer, *codec)


if __name__ == "__main__":
    asyncio.run(serve(load_config(), extra_interceptors=(KillingInterceptor(sys.argv[1], sys.argv[2]),)))
