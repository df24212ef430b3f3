"""What a libvirtd that died while it started a network leaves: a bridge that nothing hangs on, and a DHCP server.

libvirt does not know them after its restart, and cannot start the network beside them.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Final

import psutil
import structlog

_INTERFACES: Final = Path("/sys/class/net")
_TIMEOUT_SECONDS: Final = 10.0

log = structlog.get_logger(__name__)


async def remove_leftover_bridge(name: str) -> bool:
    """The bridge of a network that is not up is gone; False when there is none, or guests are plugged into it.

    Networks and their bridges have the same name, which is the agent's own choice.
    """
    bridge = _INTERFACES / name / "brif"
    if not bridge.is_dir() or any(bridge.iterdir()):
        return False
    await asyncio.to_thread(_end_dhcp_server, name)
    process = await asyncio.create_subprocess_exec(
        *("ip", "link", "delete", name), stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, complaint = await asyncio.wait_for(process.communicate(), _TIMEOUT_SECONDS)
    log.warning("network.leftover_removed", bridge=name, complaint=complaint.decode(errors="replace"))
    return process.returncode == 0


def _end_dhcp_server(network: str) -> None:
    """libvirt starts dnsmasq with a configuration that is named like the network."""
    wanted = f"/{network}.conf"
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "dnsmasq" and any(
            argument.endswith(wanted) for argument in process.info["cmdline"] or ()
        ):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
