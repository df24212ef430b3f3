"""What must not be left half done when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def run_to_end(
    timeout_seconds: float | None, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Runs the function in a thread. Who is cancelled, however often, waits for its end: nobody else begins meanwhile.

    The thread is its own: one that a driver holds for ever takes none from others, nor keeps the agent from ending.
    Raises TimeoutError when it has not ended; then it goes on alone.
    """
    work = Future[T]()

    def run() -> None:
        try:
            work.set_result(function(*args, **kwargs))
        except BaseException as error:  # the waiter gets it, whatever it is
            work.set_exception(error)

    threading.Thread(target=run, name="device", daemon=True).start()
    return await finish(asyncio.wrap_future(work), timeout_seconds)


async def finish(end: asyncio.Future[T], timeout_seconds: float | None = None) -> T:
    """The result of something that goes on by itself: who is cancelled, however often, waits for its end.

    Raises TimeoutError when it has not ended.
    """
    loop = asyncio.get_running_loop()
    deadline = None if timeout_seconds is None else loop.time() + timeout_seconds
    cancellation: asyncio.CancelledError | None = None
    while not end.done() and (deadline is None or loop.time() < deadline):
        try:
            await asyncio.wait([end], timeout=None if deadline is None else deadline - loop.time())
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        raise cancellation
    if not end.done():
        raise TimeoutError
    return end.result()
