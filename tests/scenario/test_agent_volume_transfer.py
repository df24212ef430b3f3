"""The volume of a guest that is off goes from one real host to another: over which network, and what a crash leaves."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from protos.agent.v1 import domain_pb2, storage_pb2
from tests.lab.waiting import wait_until
from tests.scenario.migration_lab import GUEST_UUID, MIB, VOLUME_UUID, MigrationHost, MigrationLab, open_lab

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.xdist_group("agents"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

SENT = storage_pb2.VOLUME_TRANSFER_STATE_SENT
FAILED = storage_pb2.VOLUME_TRANSFER_STATE_FAILED
CANCELED = storage_pb2.VOLUME_TRANSFER_STATE_CANCELED
NETWORKS = ("manage", "storage", "business")
VOLUME = f"/var/lib/nodewright/agent/volumes/{VOLUME_UUID}.qcow2"
# What is written above the image; at the least bandwidth it takes half a minute.
WRITTEN_BYTES = 32 * MIB
SECONDS = 60.0


@pytest.fixture(scope="module")
def lab(demo_image: Path) -> Iterator[MigrationLab]:
    with open_lab(demo_image) as lab:
        yield lab


@pytest.fixture
def volume(lab: MigrationLab) -> Iterator[Any]:
    """A volume of the source that was written to; none is left afterwards."""
    lab.source.ensure_volume()
    noise = lab.source.host.directory / "noise"
    noise.write_bytes(os.urandom(WRITTEN_BYTES))
    command = f"write -q -s /var/lib/nodewright/noise {128 * MIB} {WRITTEN_BYTES}"
    lab.source.host.namespace.run("qemu-io", "-c", command, VOLUME)
    yield _inspect(lab)
    for side in (lab.source, lab.target):
        side.remove()


def _inspect(lab: MigrationLab) -> Any:
    request = storage_pb2.InspectOutgoingVolumeRequest(uuid=VOLUME_UUID)
    return lab.source.transfers.InspectOutgoing(request, timeout=SECONDS)


def _prepare(lab: MigrationLab, volume: Any, transfer_id: str, *, role: str = "storage", tls: bool = False) -> Any:
    request = storage_pb2.PrepareVolumeReceiveRequest(
        uuid=VOLUME_UUID,
        transfer_id=transfer_id,
        volume=volume,
        network_role=role,
        tls=tls,
        source_node_id=lab.source.node_id,
    )
    return lab.target.transfers.PrepareReceive(request, timeout=SECONDS)


def _start(lab: MigrationLab, incoming: Any, transfer_id: str, *, tls: bool = False, bandwidth: int = 0) -> Any:
    request = storage_pb2.SendVolumeRequest(
        uuid=VOLUME_UUID, transfer_id=transfer_id, target=incoming, tls=tls, bandwidth_mib_per_second=bandwidth
    )
    return lab.source.transfers.Send(request, timeout=180)


def _complete(lab: MigrationLab, outcome: Any) -> Any:
    request = storage_pb2.CompleteVolumeReceiveRequest(
        uuid=VOLUME_UUID, transfer_id=outcome.transfer_id, sha256=outcome.sha256
    )
    return lab.target.transfers.CompleteReceive(request, timeout=SECONDS)


def _move(lab: MigrationLab, volume: Any, transfer_id: str) -> None:
    outcome = list(_start(lab, _prepare(lab, volume, transfer_id), transfer_id))[-1].outcome
    assert outcome.state == SENT, outcome
    _complete(lab, outcome)
    assert lab.target.list_volumes() == [VOLUME_UUID]


def _begin(lab: MigrationLab, volume: Any, transfer_id: str) -> Any:
    """A sending at the least bandwidth that is under way."""
    stream = _start(lab, _prepare(lab, volume, transfer_id), transfer_id, bandwidth=1)
    while not next(stream).done_bytes:
        pass
    return stream


def _programs(side: MigrationHost) -> set[str]:
    """Of QEMU's, those that move volumes and run now."""
    running = side.host.namespace.run("ps", "-e", "-o", "stat=,comm=").splitlines()
    names = {line.split()[1] for line in running if not line.startswith("Z")}
    return names & {"qemu-nbd", "qemu-img"}


def _half_made(side: MigrationHost) -> list[Path]:
    return list((side.host.directory / "agent/volumes").glob(".new-*"))


def _kill_agent(side: MigrationHost) -> None:
    side.host.agent.kill()
    wait_until(lambda: not _programs(side), "what the agent has started ends with it")


@pytest.mark.parametrize(
    ("role", "tls"), [("storage", False), ("storage", True), ("manage", True)], ids=["plain", "tls", "manage"]
)
def test_a_volume_goes_over_the_network_that_was_asked_for(
    lab: MigrationLab, volume: Any, role: str, tls: bool
) -> None:
    transfer_id = f"move-{role}-{tls}"
    before = {network: lab.source.bytes_sent(network) for network in NETWORKS}
    incoming = _prepare(lab, volume, transfer_id, role=role, tls=tls)
    assert incoming.address == lab.target.role_addresses()[role]
    looks = list(_start(lab, incoming, transfer_id, tls=tls))
    assert looks[-1].outcome.state == SENT, looks[-1]
    assert looks[-1].done_bytes == looks[-1].total_bytes >= WRITTEN_BYTES
    sent = {network: lab.source.bytes_sent(network) - before[network] for network in NETWORKS}
    # The image, 19 MB, stays where it is.
    assert WRITTEN_BYTES < sent.pop(role) < WRITTEN_BYTES + 4 * MIB
    assert all(amount < MIB for amount in sent.values()), sent
    _complete(lab, looks[-1].outcome)
    there = Path(str(lab.target.host.namespace.path(VOLUME)))
    assert there.stat().st_size == volume.file_bytes
    assert not _programs(lab.target)
    assert not _half_made(lab.target)


def test_a_guest_starts_on_the_other_node_with_its_volume(lab: MigrationLab, volume: Any) -> None:
    spec = lab.start_guest(boots=False)
    with pytest.raises(grpc.RpcError, match="used by the running domain"):
        _inspect(lab)
    with pytest.raises(grpc.RpcError, match="used by the running domain"):
        next(_start(lab, _prepare(lab, volume, "running"), "running"))
    stop = domain_pb2.EnsureStoppedRequest(uuid=GUEST_UUID, force=True)
    list(lab.source.domains.EnsureStopped(stop, timeout=SECONDS))
    _move(lab, _inspect(lab), "stopped")
    lab.source.remove()
    target = lab.target
    target.domains.EnsureDefined(domain_pb2.EnsureDefinedRequest(spec=spec), timeout=SECONDS)
    target.domains.EnsureRunning(domain_pb2.EnsureRunningRequest(uuid=GUEST_UUID), timeout=SECONDS)
    wait_until(lambda: target.host.guest_agent(spec.name, "guest-ping") == {}, "the guest has booted", 120)


def test_a_target_whose_agent_is_killed_has_nothing_left_and_takes_the_next_one(lab: MigrationLab, volume: Any) -> None:
    stream = _begin(lab, volume, "target-killed")
    _kill_agent(lab.target)
    assert list(stream)[-1].outcome.state == FAILED
    assert _half_made(lab.target)
    lab.target.start_agent()
    wait_until(lab.target.answers, "libvirt is back")
    assert not _half_made(lab.target)
    _move(lab, volume, "target-killed-again")


def test_a_source_whose_agent_is_killed_sends_anew_under_the_same_id(lab: MigrationLab, volume: Any) -> None:
    stream = _begin(lab, volume, "source-killed")
    _kill_agent(lab.source)
    with pytest.raises(grpc.RpcError):
        list(stream)
    lab.source.start_agent()
    wait_until(lab.source.answers, "libvirt is back")
    outcome = list(_start(lab, _prepare(lab, volume, "source-killed"), "source-killed"))[-1].outcome
    assert outcome.state == SENT, outcome
    _complete(lab, outcome)


def test_a_network_that_is_cut_keeps_nobody_from_giving_up(lab: MigrationLab, volume: Any) -> None:
    stream = _begin(lab, volume, "cut")
    lab.target.host.cables["storage"].cut()
    try:
        time.sleep(1)
        request = storage_pb2.CancelVolumeSendRequest(uuid=VOLUME_UUID, transfer_id="cut")
        assert lab.source.transfers.CancelSend(request, timeout=SECONDS).state == CANCELED
        assert list(stream)[-1].outcome.state == CANCELED
        ended = storage_pb2.EnsureVolumeReceiveEndedRequest(uuid=VOLUME_UUID, transfer_id="cut")
        lab.target.transfers.EnsureReceiveEnded(ended, timeout=SECONDS)
        assert not _programs(lab.source) | _programs(lab.target)
        assert not _half_made(lab.target)
    finally:
        lab.target.host.cables["storage"].heal()
    _move(lab, volume, "cut-again")


def test_hosts_with_storage_of_their_own_tell_so(lab: MigrationLab) -> None:
    assert len({lab.source.storage_id(), lab.target.storage_id(), ""}) == 3
