"""Keeps the agent small: guests are what a node's memory is for."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

# Source: mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE_BYTES: Final = 64 * 1024


def limit_memory() -> None:
    """Freed memory goes back to the system at once; call it first, before any thread starts.

    glibc gives every thread an arena of its own, and after one large buffer it keeps all of that size: a transferred
    image would leave 30 MB behind for good.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # not in musl
        libc.mallopt(_M_ARENA_MAX, 2)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
    # structlog imports rich and pygments where it finds them, for colours that a log in JSON does not have.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # what the import system takes for "not there"
