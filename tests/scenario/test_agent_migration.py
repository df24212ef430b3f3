"""Live migration between two real hosts by their agents: what moves, over which network, what a failure leaves."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from protos.agent.v1 import domain_pb2, migration_pb2
from tests.lab.waiting import wait_until
from tests.scenario.migration_lab import GUEST, GUEST_UUID, MAC_ADDRESS, MIB, PORT_ID, MigrationLab, open_lab
from tests.unit.agent.guest_builder import SUBNET_ID, VNC_PASSWORD

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.xdist_group("agents"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    # They take minutes, and no coordinator orders migrations yet.
    pytest.mark.skipif(not os.environ.get("NODEWRIGHT_TEST_MIGRATION"), reason="NODEWRIGHT_TEST_MIGRATION=1 runs them"),
]

COMPLETED = migration_pb2.MIGRATION_STATE_COMPLETED
CANCELED = migration_pb2.MIGRATION_STATE_CANCELED
FAILED = migration_pb2.MIGRATION_STATE_FAILED
# Of 256 MiB that a fresh guest has hardly touched.
MEMORY_BYTES = 30 * MIB
SLOW = {"bandwidth_mib_per_second": 8}
# Long enough that QEMU under TCG on a busy machine, which may take seconds to answer, hears of what happens meanwhile.
CRAWLING = {"bandwidth_mib_per_second": 2}


@pytest.fixture(scope="module")
def lab(demo_image: Path) -> Iterator[MigrationLab]:
    with open_lab(demo_image) as lab:
        yield lab


@pytest.fixture
def spec(lab: MigrationLab) -> Iterator[domain_pb2.DomainSpec]:
    yield lab.start_guest()
    for side in (lab.source, lab.target):
        side.remove()


def _uptime(side: Any) -> float:
    return float(side.run("cat /proc/uptime").split()[0])


def _keep_busy(lab: MigrationLab) -> None:
    """The guest writes 40 MiB again and again."""
    lab.source.run("(while :; do dd if=/dev/urandom of=/dev/shm/x bs=1M count=40; done) >/dev/null 2>&1 &")


class _Background:
    """A migration that somebody listens to meanwhile."""

    def __init__(self, lab: MigrationLab, request: migration_pb2.MigrateRequest) -> None:
        self.progress: list[Any] = []
        self.failure: grpc.RpcError | None = None
        self._stream = lab.source.migrations.Migrate(request, timeout=180)
        self.thread = threading.Thread(target=self._listen)
        self.thread.start()

    def _listen(self) -> None:
        try:
            for look in self._stream:
                self.progress.append(look)
        except grpc.RpcError as error:
            self.failure = error

    def wait_for_memory(self) -> None:
        """The memory is on its way."""
        wait_until(lambda: self.progress and self.progress[-1].memory_done_bytes > MIB, "memory is on its way", 60)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_running_guest_moves_over_the_network_that_was_asked_for(
    lab: MigrationLab, spec: domain_pb2.DomainSpec, tls: bool
) -> None:
    migration_id = f"move-{tls}"
    lab.source.run("echo kept > /run/marker; yes 'marker in memory' | head -c 2000000 > /dev/shm/marker")
    boot_id, uptime = lab.source.run("cat /proc/sys/kernel/random/boot_id"), _uptime(lab.source)
    sent = {network: lab.source.bytes_sent(network) for network in ("manage", "storage", "business")}
    request = lab.request(lab.prepare(spec, migration_id), migration_id, tls=tls)

    with lab.source.host.cables["storage"].listen("marker in memory") as found:
        progress = lab.migrate(request)

    assert progress[-1].outcome.state == COMPLETED, progress[-1]
    assert bool(found[0]) != tls
    sent = {network: lab.source.bytes_sent(network) - before for network, before in sent.items()}
    assert sent["storage"] > MEMORY_BYTES
    assert sent["manage"] < MIB
    assert sent["business"] < MIB
    assert lab.source.state() == "absent"
    assert lab.target.state() == "running"
    assert lab.target.run("cat /run/marker") == "kept"
    assert lab.target.run("cat /proc/sys/kernel/random/boot_id") == boot_id
    assert _uptime(lab.target) > uptime
    domain = lab.target.domains.Get(domain_pb2.GetDomainRequest(uuid=GUEST_UUID))
    assert (domain.vnc_address, domain.generation) == ("10.90.0.12", spec.generation)
    assert VNC_PASSWORD in lab.target.host.virsh("dumpxml", "--security-info", GUEST)

    assert lab.migrate(request)[-1].outcome == progress[-1].outcome == lab.outcome(migration_id)
    with pytest.raises(grpc.RpcError) as refused:
        lab.remove_incoming(migration_id)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert lab.target.state() == "running"


def test_the_facts_tell_the_address_in_each_network(lab: MigrationLab) -> None:
    assert lab.target.role_addresses() == {"manage": "10.90.0.12", "storage": "10.91.0.12", "business": "10.90.0.12"}


def test_the_doctor_finds_that_guests_can_come(lab: MigrationLab) -> None:
    findings = lab.target.host.examine()
    assert findings["migration"]["verdict"] == "ok", findings["migration"]
    assert findings["storage network"]["detail"] == "10.91.0.12"


def test_a_migration_that_is_cancelled_leaves_the_guest_where_it_was(
    lab: MigrationLab, spec: domain_pb2.DomainSpec
) -> None:
    request = lab.request(lab.prepare(spec, "cancel"), "cancel", **CRAWLING)
    background = _Background(lab, request)
    background.wait_for_memory()
    cancelling = migration_pb2.CancelMigrationRequest(uuid=GUEST_UUID, migration_id="cancel")
    assert lab.source.migrations.Cancel(cancelling, timeout=60).state == CANCELED
    background.thread.join()
    assert background.progress[-1].outcome.state == CANCELED
    assert lab.source.state() == "running"
    assert _uptime(lab.source) > 0
    lab.remove_incoming("cancel")
    assert lab.target.state() == "absent"
    assert not list((lab.target.host.directory / "agent/seeds").glob("*.iso"))
    assert lab.migrate(request)[-1].outcome.state == CANCELED


def test_a_migration_that_was_cancelled_before_it_began_never_begins(
    lab: MigrationLab, spec: domain_pb2.DomainSpec
) -> None:
    cancelling = migration_pb2.CancelMigrationRequest(uuid=GUEST_UUID, migration_id="early")
    assert lab.source.migrations.Cancel(cancelling, timeout=60).state == CANCELED
    assert lab.migrate(lab.request(lab.prepare(spec, "early"), "early"))[-1].outcome.state == CANCELED
    assert lab.source.state() == "running"
    lab.remove_incoming("early")


def test_a_migration_outlives_the_agent_that_began_it(lab: MigrationLab, spec: domain_pb2.DomainSpec) -> None:
    request = lab.request(lab.prepare(spec, "orphan"), "orphan", **SLOW)
    background = _Background(lab, request)
    background.wait_for_memory()
    lab.source.host.agent.kill()
    background.thread.join()
    assert background.failure is not None
    lab.source.start_agent()
    assert lab.migrate(request)[-1].outcome.state == COMPLETED
    assert (lab.source.state(), lab.target.state()) == ("absent", "running")
    assert lab.outcome("orphan").state == COMPLETED


def test_a_libvirtd_of_the_target_that_dies_leaves_the_guest_on_the_source(
    lab: MigrationLab, spec: domain_pb2.DomainSpec
) -> None:
    background = _Background(lab, lab.request(lab.prepare(spec, "widow"), "widow", **CRAWLING))
    background.wait_for_memory()
    lab.target.host.libvirtd.kill()
    background.thread.join()
    outcome = background.progress[-1].outcome
    assert outcome.state == FAILED
    assert outcome.reason
    assert lab.source.state() == "running"
    assert _uptime(lab.source) > 0
    lab.target.host.start_libvirtd()
    wait_until(lab.target.answers, "the target's agent has libvirt back")
    lab.remove_incoming("widow")
    assert lab.target.state() == "absent"


def test_a_guest_that_writes_faster_than_the_network_is_given_up(
    lab: MigrationLab, spec: domain_pb2.DomainSpec
) -> None:
    _keep_busy(lab)
    request = lab.request(lab.prepare(spec, "busy"), "busy", **SLOW, auto_converge=False, most_iterations=3)
    outcome = lab.migrate(request)[-1].outcome
    assert outcome.state == FAILED
    assert "faster than it can be moved" in outcome.reason
    assert lab.source.state() == "running"
    lab.remove_incoming("busy")


def test_a_guest_that_writes_faster_than_the_network_goes_on_at_the_target_where_that_is_allowed(
    lab: MigrationLab, spec: domain_pb2.DomainSpec
) -> None:
    _keep_busy(lab)
    incoming = lab.prepare(spec, "post-copy")
    progress = lab.migrate(
        lab.request(incoming, "post-copy", **SLOW, auto_converge=False, allow_post_copy=True, stalled_iterations=1)
    )
    assert progress[-1].outcome.state == COMPLETED, progress[-1]
    assert migration_pb2.MIGRATION_PHASE_POST_COPY in {look.phase for look in progress}
    assert (lab.source.state(), lab.target.state()) == ("absent", "running")
    assert _uptime(lab.target) > 0


def test_memory_goes_over_several_connections_with_tls(lab: MigrationLab, spec: domain_pb2.DomainSpec) -> None:
    request = lab.request(lab.prepare(spec, "multifd"), "multifd", tls=True, multifd_channels=2)
    progress = lab.migrate(request)
    assert progress[-1].outcome.state == COMPLETED, progress[-1]
    assert _uptime(lab.target) > 0


def test_a_target_that_changes_its_mind_leaves_the_guest_on_the_source(
    lab: MigrationLab, spec: domain_pb2.DomainSpec
) -> None:
    background = _Background(lab, lab.request(lab.prepare(spec, "refused"), "refused", **CRAWLING))
    background.wait_for_memory()
    lab.remove_incoming("refused")
    background.thread.join()
    assert background.progress[-1].outcome.state == FAILED
    assert (lab.source.state(), lab.target.state()) == ("running", "absent")
    assert _uptime(lab.source) > 0


def test_a_network_that_is_cut_ends_the_migration_with_a_reason(lab: MigrationLab, spec: domain_pb2.DomainSpec) -> None:
    background = _Background(lab, lab.request(lab.prepare(spec, "cut"), "cut", **CRAWLING))
    background.wait_for_memory()
    lab.target.host.cables["storage"].cut()
    try:
        background.thread.join()
    finally:
        lab.target.host.cables["storage"].heal()
    outcome = background.progress[-1].outcome
    assert outcome.state == FAILED
    assert "network cut" in outcome.reason
    assert lab.source.state() == "running"
    lab.remove_incoming("cut")
    assert lab.target.state() == "absent"


def test_firmware_variables_a_tpm_and_a_card_go_along(lab: MigrationLab) -> None:
    for side in (lab.source, lab.target):
        side.ensure_port()
    card = domain_pb2.Nic(port_id=PORT_ID, mac_address=MAC_ADDRESS, subnet_id=SUBNET_ID)
    spec = lab.start_guest(
        boots=False, nics=[card], firmware=domain_pb2.FIRMWARE_UEFI_SECURE_BOOT, tpm=domain_pb2.TPM_MODEL_2_0
    )
    try:
        outcome = lab.migrate(lab.request(lab.prepare(spec, "uefi"), "uefi", tls=True))[-1].outcome
        assert outcome.state == COMPLETED, outcome
        assert (lab.source.state(), lab.target.state()) == ("absent", "running")
        kept = lab.source.host.namespace.run(
            "find", "/var/lib/libvirt/qemu/nvram", "/var/lib/libvirt/swtpm", "-mindepth", "1"
        )
        assert kept == ""
    finally:
        for side in (lab.source, lab.target):
            side.remove()
