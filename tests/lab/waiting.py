"""Waiting for what happens elsewhere."""

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def wait_until(
    question: Callable[[], Answer], what: str, timeout_seconds: float = 90, interval_seconds: float = 0.1
) -> Answer:
    """The first true answer. AssertionError with `what`, the last answer or the last failure after the timeout."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            answer = question()
        except Exception as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: still fails after {timeout_seconds} s: {error!r}") from error
        else:
            if answer:
                return answer
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {timeout_seconds} s; last seen: {answer!r}")
        time.sleep(interval_seconds)
