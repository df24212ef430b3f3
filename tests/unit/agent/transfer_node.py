"""Two nodes' storages, their services over real gRPC, and volumes that go from one to the other over loopback."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from agent.identity import Credentials, Identity
from agent.network.role import NetworkRoles
from agent.peer import Peers
from agent.rpc.interceptor import ErrorInterceptor
from agent.rpc.volume_transfer import VolumeTransferServicer
from agent.storage.base import VolumeSpec
from agent.storage.choice import StorageChoice
from agent.storage.directory import DirectoryBackend
from agent.storage.moving import Content, Movable
from agent.storage.receiving import PORTS, Receivers
from agent.storage.sending import Sends
from agent.storage.volume_moving import VolumeMoves
from coordinator.pki import Authority
from protos.agent.v1 import storage_pb2 as messages
from protos.agent.v1 import storage_pb2_grpc
from tests.unit.agent.domain_server import drain
from tests.unit.agent.storage_builder import MIB, Source, a_cache, a_qcow2, a_ref, fetch, qemu_img

UUID = "0f1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d12"
SENT = messages.VOLUME_TRANSFER_STATE_SENT
FAILED = messages.VOLUME_TRANSFER_STATE_FAILED
CANCELED = messages.VOLUME_TRANSFER_STATE_CANCELED


class TransferNode:
    """A node; to restart it is to make another one in the same directory."""

    def __init__(
        self,
        node_id: str,
        directory: Path,
        image: bytes,
        *,
        ports: range = PORTS,
        everywhere: StorageChoice | None = None,
    ) -> None:
        self.node_id = node_id
        self.directory = directory
        self.image = image
        self.cache = a_cache(directory / "images", Source(img_1=image))
        self.ref = a_ref(image)
        self.users: list[str] = []
        self.volumes = DirectoryBackend(
            directory / "volumes",
            owner=node_id,
            find_image=self.cache.find,
            find_users=self._find_users,
            reserved_bytes=0,
        )
        self.volumes.prepare()
        self.everywhere = everywhere or StorageChoice(self.volumes, {})
        self.moves: dict[Content, Movable] = {
            "volume": VolumeMoves(self.volumes, self.everywhere, find_image=self.cache.find)
        }
        self.sends = Sends(self.moves, directory / "journal")
        roles = NetworkRoles({"manage": "lo", "storage": "lo"}, lambda: "127.0.0.1", read=lambda: {"lo": ["127.0.0.1"]})
        direct_io = self.volumes.supports_direct_io
        self.receivers = Receivers(self.moves, roles, lambda: node_id, supports_direct_io=direct_io, ports=ports)
        self.peers = Peers(directory / "tls", hosts=directory / "hosts")
        self.transfers: Any = None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[TransferNode]:
        """Its service answers."""
        server = grpc.aio.server(interceptors=[ErrorInterceptor()])
        self.add_to(server)
        address = f"unix:{self.directory}/agent-{id(self):x}.sock"
        server.add_insecure_port(address)
        await server.start()
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                self.transfers = storage_pb2_grpc.VolumeTransferServiceStub(channel)
                yield self
        finally:
            await server.stop(None)
            await self.close()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Its service is the server's."""
        servicer = VolumeTransferServicer(self.sends, self.receivers, self.peers)
        storage_pb2_grpc.add_VolumeTransferServiceServicer_to_server(servicer, server)

    async def close(self) -> None:
        """None of its programs runs."""
        await self.sends.close()
        await self.receivers.close()

    async def _find_users(self, _path: Path) -> list[str]:
        return self.users

    async def cache_image(self) -> None:
        """The image is here."""
        await fetch(self.cache, self.ref)

    async def make_volume(self, *, written_bytes: int = 2 * MIB, image_id: str | None = "img-1") -> Path:
        """A volume that a guest has written to."""
        spec = VolumeSpec(uuid=UUID, size_bytes=64 * MIB, volume_type="ssd", image_id=image_id)
        await self.volumes.ensure_volume(spec)
        path = self.volume_path()
        noise = self.directory / "noise"
        # Nothing that two nodes could have by chance, or that could be left out.
        noise.write_bytes(os.urandom(written_bytes))
        subprocess.run(["qemu-io", "-c", f"write -q -s {noise} {MIB} {written_bytes}", path], check=True)
        return path

    def volume_path(self) -> Path:
        """Where the volume is, or would be."""
        return self.directory / "volumes" / f"{UUID}.qcow2"

    def half_made(self) -> list[Path]:
        """Files that have no volume's name yet."""
        return list((self.directory / "volumes").glob(".new-*"))

    def trust(self, authority: Authority) -> None:
        """QEMU finds the node's certificate."""
        identity = Identity(self.directory, self.directory / "pki")
        identity.prepare()
        issued = authority.sign_agent(self.node_id, identity.request_to_join().encode())
        identity.accept(issued.certificate_pem.decode(), authority.pem.decode())
        credentials: Credentials = identity.credentials()
        self.peers.write(credentials)

    async def inspect(self) -> Any:
        """What the volume is."""
        return await self.transfers.InspectOutgoing(messages.InspectOutgoingVolumeRequest(uuid=UUID))

    async def complete(self, transfer_id: str, sha256: str) -> Any:
        """The volume is verified."""
        request = messages.CompleteVolumeReceiveRequest(uuid=UUID, transfer_id=transfer_id, sha256=sha256)
        return await self.transfers.CompleteReceive(request)

    async def end_receive(self, transfer_id: str) -> None:
        """The volume is not awaited."""
        request = messages.EnsureVolumeReceiveEndedRequest(uuid=UUID, transfer_id=transfer_id)
        await self.transfers.EnsureReceiveEnded(request)

    async def cancel_send(self, transfer_id: str) -> Any:
        """The volume is not sent."""
        return await self.transfers.CancelSend(messages.CancelVolumeSendRequest(uuid=UUID, transfer_id=transfer_id))


class Route:
    """From a source to a target."""

    def __init__(self, source: TransferNode, target: TransferNode) -> None:
        self.source = source
        self.target = target

    async def prepare(self, transfer_id: str, *, tls: bool = False, **changes: Any) -> Any:
        """The target waits."""
        values = {
            "uuid": UUID,
            "transfer_id": transfer_id,
            "volume": await self.source.inspect(),
            "network_role": "storage",
            "tls": tls,
            "source_node_id": self.source.node_id,
        }
        return await self.target.transfers.PrepareReceive(messages.PrepareVolumeReceiveRequest(**values | changes))

    def start(self, transfer_id: str, incoming: Any, *, tls: bool = False, bandwidth: int = 0) -> Any:
        """The stream of a sending."""
        request = messages.SendVolumeRequest(
            uuid=UUID, transfer_id=transfer_id, target=incoming, tls=tls, bandwidth_mib_per_second=bandwidth
        )
        return self.source.transfers.Send(request)

    async def send(self, transfer_id: str, incoming: Any, **options: Any) -> Any:
        """The outcome of a sending."""
        return (await drain(self.start(transfer_id, incoming, **options)))[-1].outcome

    async def move(self, transfer_id: str, *, tls: bool = False) -> Any:
        """All of it: the volume as it is on the target."""
        outcome = await self.send(transfer_id, await self.prepare(transfer_id, tls=tls), tls=tls)
        assert outcome.state == SENT, outcome
        return await self.target.complete(transfer_id, outcome.sha256)


def an_image(path: Path) -> bytes:
    """An image with something in it."""
    a_qcow2(path, 16 * MIB)
    subprocess.run(["qemu-io", "-c", "write -q -P 7 0 8M", path], check=True)
    return path.read_bytes()


@asynccontextmanager
async def open_route(directory: Path) -> AsyncIterator[Route]:
    """Two nodes with the image in their caches."""
    image = an_image(directory / "image.qcow2")
    async with AsyncExitStack() as stack:
        nodes = []
        for name in ("node-1", "node-2"):
            (directory / name).mkdir()
            node = await stack.enter_async_context(TransferNode(name, directory / name, image).serving())
            await node.cache_image()
            nodes.append(node)
        yield Route(*nodes)


async def wait_for_bytes(stream: Any) -> None:
    """The sending is under way, with a part of the volume."""
    while not (look := await stream.read()).done_bytes:
        assert not look.HasField("outcome"), look


async def end_of(stream: Any) -> Any:
    """The last look at a sending."""
    last = None
    while look := await stream.read():
        last = look
    return last


def assert_same_content(source: TransferNode, target: TransferNode) -> None:
    """A guest sees the same on both nodes, and the target's file is in order."""
    qemu_img("compare", "-q", "-f", "qcow2", "-F", "qcow2", source.volume_path(), target.volume_path())
    qemu_img("check", "-q", target.volume_path())
