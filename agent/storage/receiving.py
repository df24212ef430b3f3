"""Volumes that come from another node: a port for each, and a file that has no volume's name until it is verified.

Nothing of it is kept over the end of the agent: the programs end with it, the next start removes the files, and the
sender begins anew. What has arrived is told by the volume itself, which knows the transfer that has brought it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import structlog

from agent.errors import TransferNotFound, TransferPortsExhausted, VolumeCorrupt
from agent.network.role import MANAGE, NetworkRoles
from agent.storage.base import Volume
from agent.storage.checksum import compute_sha256
from agent.storage.moving import Content, Movable, ReceiveOrder
from agent.storage.nbd import Export, Program, start_export

# Beside those on which libvirt has QEMU listen for guests that come.
PORTS: Final = range(49216, 49280)
_LOOK_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 900.0
_LIFE_SECONDS: Final = 24 * 3600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class IncomingVolume:
    """Where it is awaited; without an address it has come already."""

    node_id: str
    address: str = ""
    port: int = 0


@dataclass
class _Receiver:
    """One volume that is awaited."""

    order: ReceiveOrder
    file: Path
    export: Export
    program: Program
    watch: asyncio.Task[None] | None = None
    completion: asyncio.Task[Volume] | None = None
    opened_at: float = field(default_factory=time.monotonic)

    def waits_for(self, order: ReceiveOrder) -> bool:
        """Whether it is this that it is here for, and can still come."""
        return self.order == order and (self.completion is not None or not self.program.has_ended)


class Receivers:
    """All volumes that are awaited here, each by one transfer: the latest."""

    def __init__(
        self,
        movables: Mapping[Content, Movable],
        roles: NetworkRoles,
        read_node_id: Callable[[], str],
        *,
        supports_direct_io: Callable[[], Awaitable[bool]],
        ports: range = PORTS,
    ) -> None:
        self._movables = movables
        self._roles = roles
        self._read_node_id = read_node_id
        self._supports_direct_io = supports_direct_io
        self._ports = ports
        self._receivers: dict[str, _Receiver] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def prepare(self, order: ReceiveOrder) -> IncomingVolume:
        """The volume can come.

        Raises NetworkRoleMissing, VolumePresent, TransferPortsExhausted, and what `Movable.reserve` does.
        """
        uuid, movable = order.spec.uuid, self._movables[order.content]
        address = self._roles.address(order.network_role or MANAGE)
        async with self._lock(uuid):
            if await movable.find_brought(uuid, order.transfer_id) is not None:
                return IncomingVolume(self._read_node_id())
            receiver = self._receivers.get(uuid)
            if receiver is None or not receiver.waits_for(order):
                await self._discard(uuid)
                receiver = self._receivers[uuid] = await self._open(order, address)
                receiver.watch = asyncio.create_task(self._watch(receiver), name=f"receive-{order.transfer_id}")
            return IncomingVolume(self._read_node_id(), receiver.export.address, receiver.export.port)

    async def complete(self, content: Content, uuid: str, transfer_id: str, sha256: str) -> Volume:
        """The volume is here. Raises TransferNotFound, VolumeCorrupt, and what `Movable.adopt` does."""
        async with self._lock(uuid):
            volume = await self._movables[content].find_brought(uuid, transfer_id)
            if volume is not None:
                return volume
            receiver = self._receivers.get(uuid)
            if receiver is None or receiver.order.transfer_id != transfer_id:
                raise TransferNotFound(f"volume {uuid} is not awaited from the transfer {transfer_id}")
            if receiver.completion is None:
                receiver.completion = asyncio.create_task(self._complete(receiver, sha256))
                # Every caller may have gone by then.
                receiver.completion.add_done_callback(lambda task: task.cancelled() or task.exception())
            completion = receiver.completion
        # It goes on when this caller has gone, and the next one joins in.
        await asyncio.wait((completion,))
        if completion.cancelled():
            raise TransferNotFound(f"the transfer {transfer_id} was ended meanwhile")
        return completion.result()

    async def ensure_ended(self, uuid: str, transfer_id: str) -> None:
        """Nothing is left of a volume that has not come by this transfer. Absence is success."""
        async with self._lock(uuid):
            receiver = self._receivers.get(uuid)
            if receiver is not None and receiver.order.transfer_id == transfer_id:
                await self._discard(uuid)

    async def close(self) -> None:
        """Nothing is awaited any more."""
        for uuid in list(self._receivers):
            await self._discard(uuid)

    async def _open(self, order: ReceiveOrder, address: str) -> _Receiver:
        movable = self._movables[order.content]
        file = await movable.reserve(order)
        try:
            # Known of where volumes are.
            is_direct = order.content == "volume" and await self._supports_direct_io()
            for port in self._ports:
                export = Export(order.transfer_id, address, port, order.tls)
                if any(other.export.port == port for other in self._receivers.values()):
                    continue
                program = await start_export(file, export, direct_io=is_direct)
                if program is not None:
                    return _Receiver(order, file, export, program)
        except BaseException:
            await movable.discard(file)
            raise
        await movable.discard(file)
        first, last = self._ports[0], self._ports[-1]
        raise TransferPortsExhausted(f"ports {first} to {last} of {address}: all are taken")

    async def _complete(self, receiver: _Receiver, sha256: str) -> Volume:
        order, file, movable = receiver.order, receiver.file, self._movables[receiver.order.content]
        try:
            await receiver.program.end()
            found = await compute_sha256(file, order.file_bytes)
            if found != sha256:
                raise VolumeCorrupt(f"{order.content} {order.spec.uuid}: SHA-256 {found} has come, {sha256} was sent")
            volume = await movable.adopt(order, file)
            log.info("volume.received", transfer_id=order.transfer_id, uuid=order.spec.uuid, content=order.content)
            return volume
        finally:
            await movable.discard(file)
            self._forget(receiver)

    async def _watch(self, receiver: _Receiver) -> None:
        """Gives up what nobody sends."""
        moved_bytes, moved_at = -1, time.monotonic()
        while not receiver.program.has_ended and time.monotonic() - receiver.opened_at < _LIFE_SECONDS:
            await asyncio.sleep(_LOOK_SECONDS)
            if receiver.program.moved_bytes != moved_bytes:
                moved_bytes, moved_at = receiver.program.moved_bytes, time.monotonic()
            elif time.monotonic() - moved_at > _IDLE_SECONDS:
                break
        uuid = receiver.order.spec.uuid
        async with self._lock(uuid):
            if self._receivers.get(uuid) is receiver and receiver.completion is None:
                log.warning("volume.not_received", transfer_id=receiver.order.transfer_id, uuid=uuid)
                await self._discard(uuid)

    async def _discard(self, uuid: str) -> None:
        receiver = self._receivers.get(uuid)
        if receiver is None:
            return
        if receiver.completion is not None:
            receiver.completion.cancel()
            await asyncio.wait((receiver.completion,))
        await receiver.program.end()
        await self._movables[receiver.order.content].discard(receiver.file)
        self._forget(receiver)

    def _forget(self, receiver: _Receiver) -> None:
        uuid = receiver.order.spec.uuid
        if self._receivers.get(uuid) is receiver:
            del self._receivers[uuid]
        if receiver.watch is not None and receiver.watch is not asyncio.current_task():
            receiver.watch.cancel()

    def _lock(self, uuid: str) -> asyncio.Lock:
        return self._locks.setdefault(uuid, asyncio.Lock())
