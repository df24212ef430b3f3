"""VolumeKeyService: keys of encrypted volumes, for the nodes that open them."""

import asyncio

from coordinator.rpc.interceptor import Context
from coordinator.rpc.peer import read_peer
from coordinator.runtime import Runtime
from coordinator.services.volume_key import read_for_node
from protos.coordinator.v1 import volume_key_pb2, volume_key_pb2_grpc


class VolumeKeyServicer(volume_key_pb2_grpc.VolumeKeyServiceServicer):
    """Tells a node the keys of its own volumes alone."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def Get(self, request: volume_key_pb2.GetVolumeKeyRequest, context: Context) -> volume_key_pb2.VolumeKey:
        """The passphrase."""
        node_id = read_peer(context).node_id
        passphrase = await asyncio.to_thread(read_for_node, self._runtime, node_id, request.volume_uuid)
        return volume_key_pb2.VolumeKey(passphrase=passphrase)
