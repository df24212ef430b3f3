"""Whether guests can have volumes in the pools of Ceph that the configuration names."""

from __future__ import annotations

import asyncio
from typing import Final

from agent.config import AgentConfig
from agent.errors import AgentError
from agent.finding import Finding
from agent.storage.rbd_tool import CephAccess, RbdTool

_BYTES_PER_GIB: Final = 1024**3


async def examine_pools(config: AgentConfig) -> list[Finding]:
    """One finding a pool; none where no volumes are in Ceph."""
    access = CephAccess(config.ceph_config, config.ceph_user)
    pools = {name.removeprefix("rbd:") for name in config.volume_backends.values() if name.startswith("rbd:")}
    if pools and not await _can_qemu():
        remedy = "install qemu-block-extra, or the package that has QEMU's driver for RBD"
        return [Finding("ceph", "fail", "QEMU cannot open images in Ceph", remedy)]
    return [await _examine(RbdTool(access, pool)) for pool in sorted(pools)]


async def _examine(tool: RbdTool) -> Finding:
    check, access = f"pool {tool.pool}", tool.access
    try:
        access.read_cluster_id()
        access.read_key()
        await tool.list_images("-")
        capacity = await tool.read_capacity()
    except AgentError as error:
        remedy = (
            f"install ceph-common; {access.config} needs fsid and mon_host, {access.keyring} the key of "
            f"client.{access.user} with mon 'profile rbd', osd and mgr 'profile rbd pool={tool.pool}'"
        )
        return Finding(check, "fail", error.message, remedy)
    free, total = (value / _BYTES_PER_GIB for value in (capacity.free_bytes, capacity.total_bytes))
    return Finding(check, "ok", f"{free:.1f} GiB free of {total:.1f}")


async def _can_qemu() -> bool:
    try:
        process = await asyncio.create_subprocess_exec("qemu-img", "--help", stdout=asyncio.subprocess.PIPE)
    except FileNotFoundError:
        return False
    output, _ = await process.communicate()
    return b" rbd" in output.partition(b"Supported formats:")[2]
