"""VolumeTransferService: volumes that leave and volumes that come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import grpc

from agent.configure.check import check_uuid
from agent.errors import RequestInvalid
from agent.peer import Peers, name_node, name_subject
from agent.rpc.encoding import encode_elapsed
from agent.rpc.field import parse_id, parse_node_address, parse_positive, parse_sha256
from agent.rpc.storage import decode_image, encode_image, encode_volume
from agent.storage.base import VolumeSpec
from agent.storage.moving import Content, ReceiveOrder
from agent.storage.nbd import Export, Tls
from agent.storage.receiving import Receivers
from agent.storage.sending import SendEntry, SendOrder, SendProgress, Sends
from protos.agent.v1 import storage_pb2 as messages
from protos.agent.v1 import storage_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_MOST_PORT: Final = 2**16 - 1
_CONTENTS: Final[dict[int, Content]] = {
    messages.TRANSFER_CONTENT_UNSPECIFIED: "volume",
    messages.TRANSFER_CONTENT_SAVED_MEMORY: "saved-memory",
}


class VolumeTransferServicer(storage_pb2_grpc.VolumeTransferServiceServicer):
    """Both sides of a transfer."""

    def __init__(self, sends: Sends, receivers: Receivers, peers: Peers) -> None:
        self._sends = sends
        self._receivers = receivers
        self._peers = peers

    async def InspectOutgoing(
        self, request: messages.InspectOutgoingVolumeRequest, context: Context
    ) -> messages.OutgoingVolume:
        """What a target has to know."""
        check_uuid(request.uuid, "uuid")
        outgoing = await self._sends.inspect(_parse_content(request.content, "content"), request.uuid)
        return messages.OutgoingVolume(
            size_bytes=outgoing.volume.size_bytes,
            file_bytes=outgoing.file_bytes,
            allocated_bytes=outgoing.volume.allocated_bytes,
            volume_type=outgoing.volume.volume_type,
            image=encode_image(outgoing.image) if outgoing.image else None,
            content=request.content,
            is_raw=outgoing.is_raw,
            cpu_xml=outgoing.cpu_xml,
            encrypted=outgoing.volume.encrypted,
        )

    async def PrepareReceive(
        self, request: messages.PrepareVolumeReceiveRequest, context: Context
    ) -> messages.IncomingVolume:
        """The volume can come."""
        incoming = await self._receivers.prepare(_decode_receive(request, self._peers))
        return messages.IncomingVolume(node_id=incoming.node_id, address=incoming.address, port=incoming.port)

    async def Send(
        self, request: messages.SendVolumeRequest, context: Context
    ) -> AsyncIterator[messages.VolumeTransferProgress]:
        """The volume is sent once for this id."""
        async with aclosing(self._sends.send(_decode_send(request, self._peers))) as looks:
            async for look in looks:
                yield _encode_progress(look, self._sends.journal.now())

    async def CancelSend(
        self, request: messages.CancelVolumeSendRequest, context: Context
    ) -> messages.VolumeTransferOutcome:
        """The sending is over."""
        check_uuid(request.uuid, "uuid")
        entry = await self._sends.cancel(request.uuid, parse_id(request.transfer_id, "transfer_id"))
        return _encode_outcome(entry, self._sends.journal.now())

    async def CompleteReceive(
        self, request: messages.CompleteVolumeReceiveRequest, context: Context
    ) -> messages.Volume:
        """The volume is here."""
        check_uuid(request.uuid, "uuid")
        transfer_id, sha256 = parse_id(request.transfer_id, "transfer_id"), parse_sha256(request.sha256, "sha256")
        content = _parse_content(request.content, "content")
        return encode_volume(await self._receivers.complete(content, request.uuid, transfer_id, sha256))

    async def EnsureReceiveEnded(
        self, request: messages.EnsureVolumeReceiveEndedRequest, context: Context
    ) -> messages.EnsureVolumeReceiveEndedResponse:
        """Nobody waits for the volume."""
        check_uuid(request.uuid, "uuid")
        await self._receivers.ensure_ended(request.uuid, parse_id(request.transfer_id, "transfer_id"))
        return messages.EnsureVolumeReceiveEndedResponse()


def _decode_receive(request: messages.PrepareVolumeReceiveRequest, peers: Peers) -> ReceiveOrder:
    check_uuid(request.uuid, "uuid")
    volume = request.volume
    image = decode_image(volume.image) if volume.HasField("image") else None
    spec = VolumeSpec(
        uuid=request.uuid,
        size_bytes=parse_positive(volume.size_bytes, "volume.size_bytes"),
        volume_type=volume.volume_type,
        image_id=image.image_id if image else None,
        encrypted=volume.encrypted,
    )
    return ReceiveOrder(
        transfer_id=parse_id(request.transfer_id, "transfer_id"),
        spec=spec,
        file_bytes=parse_positive(volume.file_bytes, "volume.file_bytes"),
        allocated_bytes=volume.allocated_bytes,
        image=image,
        network_role=request.network_role,
        tls=Tls(peers.qemu_directory, _parse_source(request.source_node_id)) if request.tls else None,
        content=_parse_content(volume.content, "volume.content"),
        is_raw=volume.is_raw,
        cpu_xml=volume.cpu_xml,
    )


def _parse_content(content: messages.TransferContent, field: str) -> Content:
    if content not in _CONTENTS:
        raise RequestInvalid(f"{field}: {content} is not known")
    return _CONTENTS[content]


def _parse_source(node_id: str) -> str:
    if not node_id:
        raise RequestInvalid("source_node_id: required with tls")
    return name_subject(node_id)


def _decode_send(request: messages.SendVolumeRequest, peers: Peers) -> SendOrder:
    check_uuid(request.uuid, "uuid")
    target, transfer_id = request.target, parse_id(request.transfer_id, "transfer_id")
    if not 0 < target.port <= _MOST_PORT:
        raise RequestInvalid("target.port: what PrepareReceive answered")
    address = parse_node_address(target.address, "target.address")
    tls = Tls(peers.qemu_directory, name_node(target.node_id)) if request.tls else None
    export = Export(transfer_id, address, target.port, tls)
    content = _parse_content(request.content, "content")
    return SendOrder(request.uuid, transfer_id, export, request.bandwidth_mib_per_second, content)


def _encode_progress(look: SendProgress, now: float) -> messages.VolumeTransferProgress:
    return messages.VolumeTransferProgress(
        done_bytes=look.done_bytes,
        total_bytes=look.total_bytes,
        outcome=None if look.entry.state == "running" else _encode_outcome(look.entry, now),
    )


def _encode_outcome(entry: SendEntry, now: float) -> messages.VolumeTransferOutcome:
    return messages.VolumeTransferOutcome(
        transfer_id=entry.transfer_id,
        uuid=entry.uuid,
        state=f"VOLUME_TRANSFER_STATE_{entry.state.upper()}",
        reason=entry.reason,
        sha256=entry.sha256,
        elapsed=encode_elapsed(entry.started_at, entry.ended_at, now),
    )
