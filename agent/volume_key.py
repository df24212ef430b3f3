"""Keys of encrypted volumes: the coordinator has them, the node while it runs.

They are in a file system in memory, where qemu-img reads them, and in libvirt, which forgets them when it is restarted;
both are filled again by whoever needs a key. So a node that was stolen or thrown away opens nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from agent.durable_file import write_file

# Answers the passphrase of a volume, by its UUID.
ReadKey = Callable[[str], Awaitable[str]]
# Tells libvirt the passphrase under a UUID.
KeepSecret = Callable[[str, bytes], Awaitable[None]]
ForgetSecret = Callable[[str], Awaitable[None]]

_DIRECTORY_MODE: Final = 0o700


class VolumeKeys:
    """One file a volume, named as its UUID."""

    def __init__(self, directory: Path, *, read: ReadKey, keep: KeepSecret, forget: ForgetSecret) -> None:
        """`directory`: in memory, and nobody else's."""
        self._directory = directory
        self._read = read
        self._keep = keep
        self._forget = forget

    async def find_file(self, uuid: str) -> Path:
        """The file that holds the passphrase and nothing else. Raises VolumeKeyRefused, VolumeKeyUnavailable."""
        path = self._directory / uuid
        if not await asyncio.to_thread(path.exists):
            await asyncio.to_thread(_write, path, await self._read(uuid))
        return path

    async def unlock(self, uuid: str) -> None:
        """libvirt gives the passphrase to guests that have the volume. Raises the same, HypervisorUnavailable."""
        path = await self.find_file(uuid)
        await self._keep(uuid, await asyncio.to_thread(path.read_bytes))

    async def forget(self, uuid: str) -> None:
        """The node cannot open the volume any more until it asks anew. Raises HypervisorUnavailable."""
        path = self._directory / uuid
        if await asyncio.to_thread(path.exists):
            await self._forget(uuid)
            await asyncio.to_thread(path.unlink, missing_ok=True)


def _write(path: Path, passphrase: str) -> None:
    path.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    write_file(path, passphrase.encode())
