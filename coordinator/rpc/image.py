"""ImageService: the bytes of active images, for the caches of nodes."""

import asyncio
from collections.abc import AsyncIterator
from typing import BinaryIO, Final

from coordinator.rpc.interceptor import Context
from coordinator.rpc.peer import read_peer
from coordinator.runtime import Runtime
from coordinator.services.image_file import open_for_node
from protos.coordinator.v1 import image_pb2, image_pb2_grpc

CHUNK_BYTES: Final = 1024 * 1024


class ImageServicer(image_pb2_grpc.ImageServiceServicer):
    """Streams a file; reading happens in threads."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def Read(self, request: image_pb2.ReadImageRequest, context: Context) -> AsyncIterator[image_pb2.ImageChunk]:
        node_id = read_peer(context).node_id
        file: BinaryIO = await asyncio.to_thread(
            open_for_node, self._runtime, node_id, request.image_id, request.offset_bytes
        )
        try:
            while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield image_pb2.ImageChunk(data=data)
        finally:
            file.close()
