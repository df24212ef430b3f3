"""Files of backups, which stay on their nodes: handed on as they come from there."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from coordinator.agents.client import AgentCallError
from coordinator.domain.backup import BackupStatus
from coordinator.domain.caller import Caller
from coordinator.errors import NodeDisconnected, ResourceNotFound, StatusUnsupported
from coordinator.runtime import Runtime
from coordinator.services.backup import get_backup
from coordinator.store.tables import VolumeBackup


async def find_file(runtime: Runtime, caller: Caller, backup_id: str) -> VolumeBackup:
    """A backup that has a file. ResourceNotFound, StatusUnsupported."""
    row = await asyncio.to_thread(get_backup, runtime, caller, backup_id)
    if row.status != BackupStatus.AVAILABLE:
        raise StatusUnsupported(
            f"backup {backup_id} is {row.status}: it has no file", f"备份{backup_id}状态为{row.status}，没有文件"
        )
    return row


async def read_file(runtime: Runtime, row: VolumeBackup, first: int, last: int) -> AsyncGenerator[bytes]:
    """The file's bytes from one position to another, both included.

    ResourceNotFound when its node does not keep it any more; NodeDisconnected.
    """
    left = last - first + 1
    agent = runtime.agents.of(row.node_id)
    chunks = runtime.agents.iterate(agent.iterate_volume_export(row.backup_id, first))
    try:
        async with aclosing(chunks):
            async for data in chunks:
                yield data[:left]
                left -= len(data)
                if left <= 0:
                    return
    except AgentCallError as error:
        if error.code == "ExportNotFound":
            raise ResourceNotFound("backup file", row.backup_id) from error
        raise NodeDisconnected(
            f"the node of backup {row.backup_id} does not hand it out: {error.message}",
            f"备份{row.backup_id}所在节点无法提供文件：{error.message}",
        ) from error
