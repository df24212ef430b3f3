"""Calls to agents about what moves between nodes while its guest does not run: volumes, saved memory."""

from typing import Final

from coordinator.agents.call import AgentCaller, OnProgress
from coordinator.agents.error import AgentCallError
from protos.agent.v1 import storage_pb2, storage_pb2_grpc

# What is moved.
VOLUME: Final = storage_pb2.TRANSFER_CONTENT_UNSPECIFIED
SAVED_MEMORY: Final = storage_pb2.TRANSFER_CONTENT_SAVED_MEMORY

# A large volume over a slow network, and its checksum afterwards.
TRANSFER_SECONDS: Final = 24 * 3600.0
_CHECKSUM_SECONDS: Final = 2 * 3600.0
_PREPARE_SECONDS: Final = 60.0


class TransferCalls(AgentCaller):
    """What one node gives and takes. Every method raises AgentCallError; every Ensure… may be repeated at will."""

    async def inspect_outgoing_volume(
        self, uuid: str, content: storage_pb2.TransferContent = VOLUME
    ) -> storage_pb2.OutgoingVolume:
        """What the target of a transfer has to know of a volume of this node, or of a guest's memory."""
        stub = storage_pb2_grpc.VolumeTransferServiceStub(await self._channel())
        request = storage_pb2.InspectOutgoingVolumeRequest(uuid=uuid, content=content)
        return await self._call(stub.InspectOutgoing, request, _PREPARE_SECONDS)

    async def prepare_volume_receive(
        self,
        uuid: str,
        transfer_id: str,
        volume: storage_pb2.OutgoingVolume,
        *,
        network_role: str,
        tls: bool,
        source_node_id: str,
    ) -> storage_pb2.IncomingVolume:
        """The node waits for the volume, whose image was cached before."""
        stub = storage_pb2_grpc.VolumeTransferServiceStub(await self._channel())
        request = storage_pb2.PrepareVolumeReceiveRequest(
            uuid=uuid,
            transfer_id=transfer_id,
            volume=volume,
            network_role=network_role,
            tls=tls,
            source_node_id=source_node_id,
        )
        return await self._ensure(stub.PrepareReceive, request, _PREPARE_SECONDS)

    async def send_volume(
        self,
        uuid: str,
        transfer_id: str,
        target: storage_pb2.IncomingVolume,
        *,
        tls: bool,
        bandwidth_mib_per_second: int = 0,
        content: storage_pb2.TransferContent = VOLUME,
        on_progress: OnProgress[storage_pb2.VolumeTransferProgress] | None = None,
    ) -> storage_pb2.VolumeTransferOutcome:
        """How the sending, once for this id, has ended. To stop waiting ends nothing; see cancel_volume_send."""
        stub = storage_pb2_grpc.VolumeTransferServiceStub(await self._channel())
        request = storage_pb2.SendVolumeRequest(
            uuid=uuid,
            transfer_id=transfer_id,
            target=target,
            tls=tls,
            bandwidth_mib_per_second=bandwidth_mib_per_second,
            content=content,
        )
        last = await self._follow(stub.Send, request, TRANSFER_SECONDS, on_progress)
        if not last.HasField("outcome"):
            raise AgentCallError("AgentCallFailed", "the agent ended the call early", transient=True)
        return last.outcome

    async def cancel_volume_send(self, uuid: str, transfer_id: str) -> storage_pb2.VolumeTransferOutcome:
        """The sending is over; how it ended."""
        stub = storage_pb2_grpc.VolumeTransferServiceStub(await self._channel())
        request = storage_pb2.CancelVolumeSendRequest(uuid=uuid, transfer_id=transfer_id)
        return await self._call(stub.CancelSend, request, _PREPARE_SECONDS)

    async def complete_volume_receive(
        self, uuid: str, transfer_id: str, sha256: str, content: storage_pb2.TransferContent = VOLUME
    ) -> storage_pb2.Volume:
        """The volume is on the node, and is the one that was sent."""
        stub = storage_pb2_grpc.VolumeTransferServiceStub(await self._channel())
        request = storage_pb2.CompleteVolumeReceiveRequest(
            uuid=uuid, transfer_id=transfer_id, sha256=sha256, content=content
        )
        return await self._call(stub.CompleteReceive, request, _CHECKSUM_SECONDS)

    async def ensure_volume_receive_ended(self, uuid: str, transfer_id: str) -> None:
        """The node waits for the volume no more; a volume that is complete stays."""
        stub = storage_pb2_grpc.VolumeTransferServiceStub(await self._channel())
        request = storage_pb2.EnsureVolumeReceiveEndedRequest(uuid=uuid, transfer_id=transfer_id)
        await self._ensure(stub.EnsureReceiveEnded, request, _PREPARE_SECONDS)
