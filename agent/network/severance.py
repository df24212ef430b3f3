"""Ends connections of migrations whose network is cut.

QEMU closes the connection of a disk that is being copied only after it has said good-bye, and all of the guest waits
for that: a quarter of an hour, as TCP does, when nobody answers. A connection that the kernel has ended fails at once.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

# Where libvirt has QEMU listen for guests that come ("migration_port_min" and "migration_port_max" in qemu.conf).
_FIRST_PORT: Final = 49152
_LAST_PORT: Final = 49215
_TIMEOUT_SECONDS: Final = 10.0

log = structlog.get_logger(__name__)


async def sever_migrations(address: str) -> None:
    """No connection of a migration to this address is left. Needs `ss` and CAP_NET_ADMIN; without them it is told."""
    condition = ("dst", address, "and", "dport", "ge", f":{_FIRST_PORT}", "and", "dport", "le", f":{_LAST_PORT}")
    try:
        process = await asyncio.create_subprocess_exec(
            *("ss", "--no-header", "--numeric", "--tcp", "--kill", *condition),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), _TIMEOUT_SECONDS)
    except (OSError, TimeoutError) as error:
        log.warning("migration.not_severed", address=address, reason=str(error))
        return
    log.warning("migration.severed", address=address, connections=output.decode(errors="replace").split("\n"))
