"""Volumes that move between two storages by the real qemu-img and qemu-nbd, and what interrupts them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from agent.storage import receiving
from agent.storage.base import VolumeSpec
from agent.storage.receiving import PORTS
from coordinator.pki import Authority
from protos.agent.v1 import storage_pb2 as messages
from tests.unit.agent.domain_server import drain, failure
from tests.unit.agent.storage_builder import MIB, files_of, holding, qemu_img
from tests.unit.agent.transfer_node import (
    CANCELED,
    FAILED,
    SENT,
    UUID,
    Route,
    TransferNode,
    assert_same_content,
    end_of,
    open_route,
    wait_for_bytes,
)

NOTHING = "0" * 64
# With the least bandwidth there is, more than half a minute: every test has ended it by then.
LONG_BYTES = 40 * MIB


@pytest.fixture
async def route(tmp_path: Path) -> AsyncIterator[Route]:
    async with open_route(tmp_path) as route:
        yield route


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_volume_is_on_the_other_node_with_what_was_written_above_its_image(
    route: Route, tmp_path: Path, tls: bool
) -> None:
    if tls:
        authority = Authority.open(tmp_path / "authority")
        for node in (route.source, route.target):
            node.trust(authority)
    path = await route.source.make_volume()
    volume = await route.move("t-1", tls=tls)
    assert (volume.uuid, volume.size_bytes, volume.image_id, volume.volume_type) == (UUID, 64 * MIB, "img-1", "ssd")
    assert_same_content(route.source, route.target)
    # The image itself has stayed where it was, and each node reads its own.
    assert route.target.volume_path().stat().st_size < 4 * MIB
    info = json.loads(qemu_img("info", "--output=json", route.target.volume_path()))
    assert info["full-backing-filename"] == str(tmp_path / "node-2/images/img-1.qcow2")
    assert files_of(tmp_path / "node-2/volumes") == sorted((f"{UUID}.json", f"{UUID}.qcow2"))
    assert path.exists()


async def test_a_volume_without_an_image_moves(route: Route) -> None:
    await route.source.make_volume(image_id=None)
    assert (await route.move("t-1")).image_id == ""
    assert_same_content(route.source, route.target)


async def test_what_is_repeated_with_its_id_answers_what_has_happened(route: Route) -> None:
    await route.source.make_volume()
    incoming = await route.prepare("t-1")
    assert await route.prepare("t-1") == incoming
    outcome = await route.send("t-1", incoming)
    assert await route.send("t-1", incoming) == outcome
    volumes = await asyncio.gather(*(route.target.complete("t-1", outcome.sha256) for _ in range(3)))
    inode = route.target.volume_path().stat().st_ino
    assert await route.target.complete("t-1", outcome.sha256) == volumes[0] == volumes[1] == volumes[2]
    assert await route.prepare("t-1") == messages.IncomingVolume(node_id="node-2")
    await route.target.end_receive("t-1")
    assert route.target.volume_path().stat().st_ino == inode


async def test_two_callers_follow_one_sending(route: Route) -> None:
    await route.source.make_volume(written_bytes=8 * MIB)
    incoming = await route.prepare("t-1")
    first, second = await asyncio.gather(*(drain(route.start("t-1", incoming, bandwidth=8)) for _ in range(2)))
    assert first[-1] == second[-1]
    assert first[-1].outcome.state == SENT
    assert first[-1].done_bytes == first[-1].total_bytes >= 8 * MIB
    assert [look.done_bytes for look in first] == sorted(look.done_bytes for look in first)
    assert first[-1].outcome.sha256 == hashlib.sha256(route.source.volume_path().read_bytes()).hexdigest()


async def test_a_volume_has_its_name_only_when_it_is_complete(route: Route) -> None:
    await route.source.make_volume()
    outcome = await route.send("t-1", await route.prepare("t-1"))
    assert await route.target.volumes.list_volumes() == []
    assert len(route.target.half_made()) == 1
    await route.target.complete("t-1", outcome.sha256)
    assert [volume.uuid for volume in await route.target.volumes.list_volumes()] == [UUID]
    assert route.target.half_made() == []


async def test_a_byte_that_changed_on_the_way_is_found_out(route: Route) -> None:
    await route.source.make_volume()
    outcome = await route.send("t-1", await route.prepare("t-1"))
    (file,) = route.target.half_made()
    with file.open("r+b") as opened:
        opened.seek(MIB + 7)
        (byte,) = opened.read(1)
        opened.seek(MIB + 7)
        opened.write(bytes([byte ^ 1]))
    assert await failure(lambda: route.target.complete("t-1", outcome.sha256)) == ("DATA_LOSS", "VolumeCorrupt")
    assert files_of(route.target.directory / "volumes") == []
    await route.move("t-2")
    assert_same_content(route.source, route.target)


async def test_a_cancelled_sending_leaves_nothing_that_keeps_the_next_one_out(route: Route) -> None:
    await route.source.make_volume(written_bytes=LONG_BYTES)
    stream = route.start("t-1", incoming := await route.prepare("t-1"), bandwidth=1)
    await wait_for_bytes(stream)
    outcome = await route.source.cancel_send("t-1")
    assert outcome.state == CANCELED
    last = await end_of(stream)
    assert last.outcome == outcome
    assert last.done_bytes < last.total_bytes
    assert await route.send("t-1", incoming) == outcome
    await route.target.end_receive("t-1")
    await route.target.end_receive("t-1")
    assert files_of(route.target.directory / "volumes") == []
    await route.move("t-2")
    assert_same_content(route.source, route.target)


async def test_a_sending_that_was_cancelled_before_it_began_never_begins(route: Route) -> None:
    await route.source.make_volume()
    incoming = await route.prepare("t-1")
    assert (await route.source.cancel_send("t-1")).state == CANCELED
    assert (await route.send("t-1", incoming)).state == CANCELED


async def test_a_target_that_dies_halfway_is_told_and_another_transfer_takes_over(route: Route) -> None:
    """Nobody tidies up: the new transfer takes the place of the old one."""
    await route.source.make_volume(written_bytes=LONG_BYTES)
    stream = route.start("t-1", await route.prepare("t-1"), bandwidth=1)
    await wait_for_bytes(stream)
    _kill_server(route.target)
    outcome = (await end_of(stream)).outcome
    assert outcome.state == FAILED
    assert "qemu-img" in outcome.reason
    await route.move("t-2")
    assert_same_content(route.source, route.target)
    assert route.target.half_made() == []


async def test_a_newer_transfer_ends_an_older_one_that_still_runs(route: Route) -> None:
    await route.source.make_volume(written_bytes=LONG_BYTES)
    stream = route.start("t-1", await route.prepare("t-1"), bandwidth=1)
    await wait_for_bytes(stream)
    await route.move("t-2")
    assert (await end_of(stream)).outcome.state == FAILED
    assert_same_content(route.source, route.target)


async def test_a_source_that_was_restarted_halfway_sends_anew_under_the_same_id(route: Route) -> None:
    await route.source.make_volume(written_bytes=LONG_BYTES)
    incoming = await route.prepare("t-1")
    await wait_for_bytes(route.start("t-1", incoming, bandwidth=1))
    await route.source.sends.close()
    async with TransferNode("node-1", route.source.directory, route.source.image).serving() as source:
        again = Route(source, route.target)
        outcome = await again.send("t-1", incoming)
        assert outcome.state == SENT
        await route.target.complete("t-1", outcome.sha256)
        assert_same_content(source, route.target)


async def test_a_target_that_was_restarted_forgets_what_has_not_come(route: Route) -> None:
    await route.source.make_volume()
    outcome = await route.send("t-1", await route.prepare("t-1"))
    _kill_server(route.target)
    restarted = TransferNode("node-2", route.target.directory, route.target.image)
    assert files_of(route.target.directory / "volumes") == []
    async with restarted.serving() as target:
        assert await failure(lambda: target.complete("t-1", outcome.sha256)) == ("NOT_FOUND", "TransferNotFound")
        await Route(route.source, target).move("t-2")


async def test_nobody_can_use_a_volume_while_it_is_sent(route: Route) -> None:
    path = await route.source.make_volume(written_bytes=LONG_BYTES)
    stream = route.start("t-1", await route.prepare("t-1"), bandwidth=1)
    await wait_for_bytes(stream)
    guest = subprocess.run(["qemu-io", "-c", "write 0 512", path], check=False, capture_output=True, text=True)
    assert 'Failed to get "write" lock' in guest.stderr
    with pytest.raises(Exception, match="open in QEMU"):
        await route.source.volumes.ensure_removed(UUID)
    # To look at it is no harm.
    assert (await route.source.inspect()).size_bytes == 64 * MIB


async def test_a_volume_of_a_guest_that_runs_is_not_sent(route: Route) -> None:
    path = await route.source.make_volume()
    incoming = await route.prepare("t-1")
    route.source.users.append("ecs-1")
    assert await failure(lambda: route.start("t-1", incoming)) == ("FAILED_PRECONDITION", "VolumeInUse")
    route.source.users.clear()
    async with holding(path):  # on another node that shares the storage
        for call in (route.source.inspect, lambda: route.start("t-1", incoming)):
            assert await failure(call) == ("FAILED_PRECONDITION", "VolumeInUse")
    # Nothing was kept of that.
    assert (await route.send("t-1", incoming)).state == SENT


async def test_the_image_must_be_on_the_target_with_the_same_bytes(route: Route) -> None:
    await route.source.make_volume()
    volume = await route.source.inspect()
    volume.image.sha256 = NOTHING
    assert await failure(lambda: route.prepare("t-1", volume=volume)) == ("NOT_FOUND", "ImageNotFound")
    await route.target.cache.ensure_evicted("img-1")
    assert await failure(lambda: route.prepare("t-1")) == ("NOT_FOUND", "ImageNotFound")
    assert files_of(route.target.directory / "volumes") == []


async def test_an_image_that_was_evicted_meanwhile_leaves_no_volume(route: Route) -> None:
    await route.source.make_volume()
    outcome = await route.send("t-1", await route.prepare("t-1"))
    await route.target.cache.ensure_evicted("img-1")
    assert await failure(lambda: route.target.complete("t-1", outcome.sha256)) == ("NOT_FOUND", "ImageNotFound")
    assert files_of(route.target.directory / "volumes") == []


async def test_a_volume_that_is_there_is_never_replaced(route: Route) -> None:
    await route.source.make_volume()
    outcome = await route.send("t-1", await route.prepare("t-1"))
    spec = VolumeSpec(uuid=UUID, size_bytes=64 * MIB, volume_type="hdd", image_id="img-1")
    made = await route.target.volumes.ensure_volume(spec)
    for call in (lambda: route.prepare("t-2"), lambda: route.target.complete("t-1", outcome.sha256)):
        assert await failure(call) == ("FAILED_PRECONDITION", "VolumePresent")
    assert await route.target.volumes.get_volume(UUID) == made


async def test_another_file_that_a_source_names_is_not_taken_for_the_image(route: Route, tmp_path: Path) -> None:
    path = await route.source.make_volume()
    incoming = await route.prepare("t-1")
    (secret := tmp_path / "secret").write_bytes(bytes(MIB))
    qemu_img("rebase", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", secret, path)
    outcome = await route.send("t-1", incoming)
    assert await failure(lambda: route.target.complete("t-1", outcome.sha256)) == ("DATA_LOSS", "VolumeCorrupt")
    assert files_of(route.target.directory / "volumes") == []


async def test_with_tls_only_the_source_is_let_in(route: Route, tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "authority")
    (tmp_path / "node-3").mkdir()
    other = TransferNode("node-3", tmp_path / "node-3", route.source.image)
    for node in (route.source, route.target, other):
        node.trust(authority)
    await route.source.make_volume()
    incoming = await route.prepare("t-1", tls=True, source_node_id="node-3")
    assert (await route.send("t-1", incoming, tls=True)).state == FAILED
    incoming = await route.prepare("t-2", tls=True)
    outcome = await route.send("t-2", incoming)
    assert (outcome.state, "TLS" in outcome.reason) == (FAILED, True)
    wrong = messages.IncomingVolume(node_id="node-3", address=incoming.address, port=incoming.port)
    outcome = await route.send("t-3", wrong, tls=True)
    assert (outcome.state, "does not match the hostname" in outcome.reason) == (FAILED, True)


async def test_a_port_serves_one_transfer(route: Route) -> None:
    await route.source.make_volume()
    incoming = await route.prepare("t-1")
    outcome = await route.send("t-2", incoming)
    assert (outcome.state, "t-2" in outcome.reason) == (FAILED, True)


async def test_what_nobody_sends_is_given_up(route: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(receiving, "_IDLE_SECONDS", 0.05)
    await route.source.make_volume()
    await route.prepare("t-1")
    async with asyncio.timeout(60):
        while route.target.half_made():
            await asyncio.sleep(0.01)
    assert await failure(lambda: route.target.complete("t-1", NOTHING)) == ("NOT_FOUND", "TransferNotFound")


async def test_ports_that_are_taken_are_passed_over_until_none_is_left(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    taken = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    node = TransferNode("node-1", tmp_path / "node", b"", ports=range(port, port + 1))
    volume = messages.OutgoingVolume(size_bytes=MIB, file_bytes=MIB)
    request = messages.PrepareVolumeReceiveRequest(uuid=UUID, transfer_id="t-1", volume=volume)
    async with taken, node.serving():
        told = await failure(lambda: node.transfers.PrepareReceive(request))
        assert told == ("RESOURCE_EXHAUSTED", "TransferPortsExhausted")
        assert files_of(tmp_path / "node/volumes") == []
    async with node.serving():
        assert (await node.transfers.PrepareReceive(request)).port == port
    assert PORTS.start > 49215  # libvirt's own end there


async def test_a_program_ends_with_the_agent_that_is_killed() -> None:
    script = (
        "import asyncio\n"
        "from agent.storage.nbd import Program\n"
        "async def main():\n"
        "    program = await Program.start('sleep', '600')\n"
        "    print(program._process.pid, flush=True)\n"
        "    await program.wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        program = psutil.Process(int(agent.stdout.readline()))
        async with asyncio.timeout(60):
            while program.name() != "sleep":
                await asyncio.sleep(0.01)
        agent.kill()
    psutil.wait_procs([program], timeout=60)
    assert not program.is_running() or program.status() == psutil.STATUS_ZOMBIE


def _kill_server(node: TransferNode) -> None:
    """As the kernel does it when the agent has died."""
    for child in psutil.Process().children():
        if child.name() == "qemu-nbd" and str(node.directory) in " ".join(child.cmdline()):
            os.kill(child.pid, signal.SIGKILL)
