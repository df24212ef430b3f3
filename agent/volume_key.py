"""Keys of encrypted volumes: the coordinator has them, the node while it runs.

They are in a file system in memory, where qemu-img reads them, and in libvirt, which forgets them when it is restarted;
both are filled again by whoever needs a key. So a node that was stolen or thrown away opens nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog

from agent.durable_file import is_temporary, write_file
from agent.errors import AgentError

# Answers the passphrase of a volume, by its UUID.
ReadKey = Callable[[str], Awaitable[str]]
# Tells libvirt the passphrase under a UUID.
KeepSecret = Callable[[str, bytes], Awaitable[None]]
ForgetSecret = Callable[[str], Awaitable[None]]
FindUsed = Callable[[], Awaitable[set[str]]]

_DIRECTORY_MODE: Final = 0o700
_UNUSED_SECONDS: Final = 3600.0

log = structlog.get_logger(__name__)


class VolumeKeys:
    """One file a volume, named as its UUID."""

    def __init__(
        self, directory: Path, *, read: ReadKey, keep: KeepSecret, forget: ForgetSecret, find_used: FindUsed
    ) -> None:
        """`directory`: in memory, and nobody else's. `find_used`: the volumes that guests of the node have."""
        self._directory = directory
        self._read = read
        self._keep = keep
        self._forget = forget
        self._find_used = find_used
        # Who needs a key and who forgets it: one at a time.
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Forgets what no guest of the node has any more, until it is cancelled."""
        while True:
            try:
                await self.sweep(_UNUSED_SECONDS)
            except (AgentError, OSError) as error:
                log.warning("volume_key.not_swept", reason=str(error))
            await asyncio.sleep(_UNUSED_SECONDS)

    async def sweep(self, unused_seconds: float) -> None:
        """Nothing is left of keys that were not needed for so long and that no guest of the node has any more.

        Raises HypervisorUnavailable.
        """
        before = time.time() - unused_seconds
        old = await asyncio.to_thread(_list_older, self._directory, before)
        used = await self._find_used() if old else set()
        for uuid in sorted(old - used):
            async with self._lock:
                # Unless it is needed just now.
                if uuid in await asyncio.to_thread(_list_older, self._directory, before):
                    log.info("volume_key.forgotten", volume=uuid)
                    await self._drop(uuid)

    async def find_file(self, uuid: str) -> Path:
        """The file that holds the passphrase and nothing else. Raises VolumeKeyRefused, VolumeKeyUnavailable."""
        async with self._lock:
            return await self._find_file(uuid)

    async def unlock(self, uuid: str) -> None:
        """libvirt gives the passphrase to guests that have the volume. Raises the same, HypervisorUnavailable."""
        async with self._lock:
            path = await self._find_file(uuid)
            await self._keep(uuid, await asyncio.to_thread(path.read_bytes))

    async def forget(self, uuid: str) -> None:
        """The node cannot open the volume any more until it asks anew. Raises HypervisorUnavailable."""
        async with self._lock:
            await self._drop(uuid)

    async def _find_file(self, uuid: str) -> Path:
        path = self._directory / uuid
        try:
            # It is needed now.
            await asyncio.to_thread(os.utime, path)
        except FileNotFoundError:
            await asyncio.to_thread(_write, path, await self._read(uuid))
        return path

    async def _drop(self, uuid: str) -> None:
        path = self._directory / uuid
        if await asyncio.to_thread(path.exists):
            await self._forget(uuid)
            await asyncio.to_thread(path.unlink, missing_ok=True)


def _write(path: Path, passphrase: str) -> None:
    path.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    write_file(path, passphrase.encode())


def _list_older(directory: Path, before: float) -> set[str]:
    """UUIDs of the keys that were needed last before then."""
    files = directory.iterdir() if directory.exists() else ()
    return {file.name for file in files if not is_temporary(file) and file.stat().st_mtime < before}
