"""Fields of the calls that move volumes, over real gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from agent.rpc.storage import encode_image
from protos.agent.v1 import storage_pb2 as messages
from tests.unit.agent.domain_server import failure
from tests.unit.agent.storage_builder import MIB, a_ref
from tests.unit.agent.transfer_node import UUID, Route, open_route


@pytest.fixture
async def route(tmp_path: Path) -> AsyncIterator[Route]:
    async with open_route(tmp_path) as route:
        yield route


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"uuid": "x"}, "uuid"),
        ({"transfer_id": "../x"}, "transfer_id"),
        ({"volume": messages.OutgoingVolume(file_bytes=MIB)}, "volume.size_bytes"),
        ({"volume": messages.OutgoingVolume(size_bytes=MIB)}, "volume.file_bytes"),
        ({"tls": True, "source_node_id": ""}, "source_node_id"),
        ({"tls": True, "source_node_id": "a,b"}, "node_id"),
    ],
)
async def test_a_field_of_a_preparation_that_is_wrong_is_named(
    route: Route, changes: dict[str, Any], named: str
) -> None:
    await route.source.make_volume()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await route.prepare(**{"transfer_id": "t-1", **changes})
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(caught.value.details()).startswith(f"{named}:")


@pytest.mark.parametrize(
    ("target", "named"),
    [
        (messages.IncomingVolume(node_id="node-2", address="127.0.0.1"), "target.port"),
        (messages.IncomingVolume(node_id="node-2", address="127.0.0.1", port=65536), "target.port"),
        (messages.IncomingVolume(node_id="node-2", address="host,export=x", port=1), "target.address"),
        (messages.IncomingVolume(node_id="a,b", address="127.0.0.1", port=1), "node_id"),
    ],
)
async def test_a_field_of_a_sending_that_is_wrong_is_named(route: Route, target: Any, named: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await route.send("t-1", target, tls=True)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(caught.value.details()).startswith(f"{named}:")


async def test_a_transfer_belongs_to_one_volume(route: Route) -> None:
    await route.source.cancel_send("t-1")
    other = messages.CancelVolumeSendRequest(uuid=UUID.replace("0f", "1f"), transfer_id="t-1")
    told = await failure(lambda: route.source.transfers.CancelSend(other))
    assert told == ("INVALID_ARGUMENT", "RequestInvalid")


async def test_what_a_target_has_to_know_is_told(route: Route) -> None:
    path = await route.source.make_volume()
    told = await route.source.inspect()
    assert told == messages.OutgoingVolume(
        size_bytes=64 * MIB,
        file_bytes=path.stat().st_size,
        allocated_bytes=path.stat().st_blocks * 512,
        volume_type="ssd",
        image=encode_image(a_ref(route.source.image)),
    )
