"""Compressed qcow2 files that stand alone, written by qemu-img from a volume's file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from agent.errors import StorageExhausted, StorageFailed, tells_out_of_space
from agent.storage.nbd import Program

# Of what is not done yet.
MOST_PERCENT: Final = 99
_LOOK_SECONDS: Final = 0.5


async def compress(source: Path, target: Path, total_bytes: int, *, snapshot: str = "") -> AsyncGenerator[int]:
    """Yields how many percent are done; `total_bytes` is about what will be read.

    `snapshot`: QEMU's name of the state that is copied, while others may have the file open. To close the generator
    ends the copy. Raises StorageExhausted, StorageFailed.
    """
    # A snapshot's tables and data do not change as long as there is the snapshot.
    options = ("-U", "-l", f"snapshot.name={snapshot}") if snapshot else ()
    program = await Program.start(
        *("qemu-img", "convert", *options, "-f", "qcow2", "-O", "qcow2", "-c", "-W", str(source), str(target))
    )
    ending = asyncio.create_task(program.wait())
    try:
        while not ending.done():
            yield min(MOST_PERCENT, 100 * program.moved_bytes // max(total_bytes, 1))
            await asyncio.wait((ending,), timeout=_LOOK_SECONDS)
        if complaint := await ending:
            raise (StorageExhausted if tells_out_of_space(complaint) else StorageFailed)(complaint)
    finally:
        await program.end()
