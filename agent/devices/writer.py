"""What the agent writes to /sys: the only place that does, below a root that tests replace."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import structlog

from agent.devices.thread import run_to_end
from agent.errors import DeviceFailed

# Hundreds of virtual functions take long; a driver that hangs is not to hold up the agent for ever.
TIMEOUT_SECONDS: Final = 120.0

log = structlog.get_logger(__name__)


class SysfsWriter:
    """Attributes of the kernel's objects."""

    def __init__(self, root: Path = Path("/sys")) -> None:
        self.root = root

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
            await run_to_end(TIMEOUT_SECONDS, self.write, path, text)
        except TimeoutError:
            raise DeviceFailed(f"{path}: {text.strip()!r} is not done after {TIMEOUT_SECONDS:g} s") from None
        except OSError as error:
            raise DeviceFailed(f"{path}: {text.strip()!r} was refused: {error.strerror or error}") from error
        log.info("device.written", path=path, text=text.strip())
