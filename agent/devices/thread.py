"""What must not be left half done when nobody waits for it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def run_to_end(
    timeout_seconds: float | None, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Runs the function in a thread. Who is cancelled still waits for its end: so nobody else begins meanwhile.

    Raises TimeoutError when it has not ended; then it goes on alone.
    """
    task = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        await asyncio.wait([task], timeout=timeout_seconds)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=timeout_seconds)
        raise
    if not task.done():
        raise TimeoutError
    return task.result()
