"""The SHA-256 of a large file, without keeping other work from its threads."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

_BLOCK_BYTES: Final = 1024**2
# Its own threads, and few: a checksum of a large disk takes minutes of a CPU.
_POOL: Final = ThreadPoolExecutor(max_workers=2, thread_name_prefix="checksum")


async def compute_sha256(path: Path, length_bytes: int | None = None) -> str:
    """In lower-case hex, of the first bytes when a length is given. Cancelling ends the reading."""
    stopped = threading.Event()
    try:
        return await asyncio.get_running_loop().run_in_executor(_POOL, _compute, path, length_bytes, stopped)
    finally:
        stopped.set()


def _compute(path: Path, length_bytes: int | None, stopped: threading.Event) -> str:
    digest = hashlib.sha256()
    left_bytes = path.stat().st_size if length_bytes is None else length_bytes
    with path.open("rb") as file:
        while not stopped.is_set() and (block := file.read(min(_BLOCK_BYTES, left_bytes))):
            digest.update(block)
            left_bytes -= len(block)
    return digest.hexdigest()
