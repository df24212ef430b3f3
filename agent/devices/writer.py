"""What the agent writes to /sys: the only place that does, below a root that tests replace."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

import structlog

from agent.errors import DeviceFailed

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SysfsWriter:
    """Attributes of the kernel's objects."""

    root: Path = Path("/sys")

    def write(self, path: str, text: str) -> None:
        """The kernel does what the text says before this returns. Raises OSError, the kernel's refusal."""
        # One write, and no file that was not there: the kernel takes every write for a request of its own. Not for
        # reading, too: some attributes are only for writing, and even root is refused then.
        descriptor = os.open(self.root / path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    async def ask(self, path: str, text: str) -> None:
        """The same from the event loop, for what may take seconds. Raises DeviceFailed with the kernel's reason."""
        try:
            await asyncio.to_thread(self.write, path, text)
        except OSError as error:
            raise DeviceFailed(f"{path}: {text.strip()!r} was refused: {error.strerror or error}") from error
        log.info("device.written", path=path, text=text.strip())
