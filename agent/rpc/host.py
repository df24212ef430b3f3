"""HostService: what this node is."""

from __future__ import annotations

from typing import Any

import grpc

from agent.facts.host import HostReader
from protos.agent.v1 import host_pb2 as messages
from protos.agent.v1 import host_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class HostServicer(host_pb2_grpc.HostServiceServicer):
    """Facts and inventory."""

    def __init__(self, host: HostReader) -> None:
        self._host = host

    async def GetFacts(self, request: messages.GetFactsRequest, context: Context) -> messages.HostFacts:
        """Facts."""
        return await self._host.facts()

    async def GetInventory(self, request: messages.GetInventoryRequest, context: Context) -> messages.HostInventory:
        """Inventory."""
        return await self._host.inventory()
