"""Fences against emulated management controllers, which switch real libvirt domains: sushy-tools and VirtualBMC."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bcrypt
import pytest

from coordinator.domain.fence import BmcKind
from coordinator.domain.silence import SilenceClock
from coordinator.fencing.bmc import BmcFence, BmcUnreachable, read_power
from coordinator.fencing.chain import Fences
from coordinator.fencing.model import BmcAccess, FenceResult, FenceSubject
from coordinator.pki import Authority
from tests.lab.host import Host
from tests.lab.namespace import DYING_WITH_PARENT
from tests.lab.waiting import wait_until

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.xdist_group("agents"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

PROGRAMS = Path(sys.executable).parent
USER, PASSWORD = "admin", "hush-5c1d"
NODE_UUID = "7d1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d11"
NODE, OTHER = "machine-a", "machine-b"
_DOMAIN = """
<domain type="qemu">
  <name>{name}</name>
  {uuid}
  <memory unit="MiB">32</memory>
  <os><type arch="x86_64" machine="q35">hvm</type></os>
  <devices><controller type="usb" model="none"/><memballoon model="none"/></devices>
</domain>
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(1, tmp_path_factory.mktemp("fence-bmc"))
    host.start_libvirt()
    for name, uuid in ((NODE, f"<uuid>{NODE_UUID}</uuid>"), (OTHER, "")):
        path = host.directory / f"{name}.xml"
        path.write_text(_DOMAIN.format(name=name, uuid=uuid))
        host.virsh("define", f"/var/lib/nodewright/{name}.xml")
    yield host
    host.end()


@pytest.fixture(autouse=True)
def powered(host: Host) -> None:
    """Both machines are on."""
    for name in (NODE, OTHER):
        if host.domain_state(name) != "running":
            host.virsh("start", name)


class Emulator:
    """A program that runs as long as its test."""

    def __init__(self, *argv: str | Path, environment: dict[str, str], log: Path) -> None:
        self.port = free_port()
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*DYING_WITH_PARENT, *(str(argument).replace("PORT", str(self.port)) for argument in argv)],
                env={**os.environ, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def libvirt_uri(host: Host) -> str:
    return f"qemu+unix:///system?socket={host.namespace.path('/run/libvirt/libvirt-sock')}"


@pytest.fixture(scope="module")
def redfish(host: Host) -> Iterator[BmcAccess]:
    """A controller that shows a certificate which nobody knows."""
    directory = host.directory / "redfish"
    directory.mkdir()
    issued = Authority.open(directory / "authority").issue_coordinator(["localhost"])
    (directory / "bmc.crt").write_bytes(issued.certificate_pem)
    (directory / "bmc.key").write_bytes(issued.key_pem)
    (directory / "passwords").write_text(f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\n")
    (directory / "emulator.conf").write_text(f'SUSHY_EMULATOR_AUTH_FILE = "{directory}/passwords"\n')
    emulator = Emulator(
        *(PROGRAMS / "sushy-emulator", "--interface", "127.0.0.1", "--port", "PORT"),
        *("--config", directory / "emulator.conf", "--libvirt-uri", libvirt_uri(host)),
        *("--ssl-certificate", directory / "bmc.crt", "--ssl-key", directory / "bmc.key"),
        environment={},
        log=directory / "log",
    )
    address = f"https://127.0.0.1:{emulator.port}/redfish/v1/Systems/{NODE_UUID}"
    access = BmcAccess(BmcKind.REDFISH, address, USER, PASSWORD, verify_tls=False)
    wait_until(lambda: accepts(emulator.port), "the emulator answers", timeout_seconds=30)
    yield access
    emulator.stop()


@pytest.fixture(scope="module")
def ipmi(host: Host) -> Iterator[BmcAccess]:
    directory = host.directory / "ipmi"
    directory.mkdir()
    port, control_port = free_port(), free_port()
    (directory / "conf").write_text(
        f"[default]\nconfig_dir = {directory}\npid_file = {directory}/pid\nserver_port = {control_port}\n"
    )
    environment = {"VIRTUALBMC_CONFIG": str(directory / "conf")}
    emulator = Emulator(PROGRAMS / "vbmcd", "--foreground", environment=environment, log=directory / "log")
    wait_until(lambda: accepts(control_port), "the emulator answers", timeout_seconds=30)
    account = ("--username", USER, "--password", PASSWORD)
    place = ("--address", "127.0.0.1", "--port", str(port), "--libvirt-uri", libvirt_uri(host))
    for arguments in (("add", NODE, *account, *place), ("start", NODE)):
        subprocess.run([PROGRAMS / "vbmc", *arguments], env={**os.environ, **environment}, check=True, timeout=60)
    yield BmcAccess(BmcKind.IPMI, f"127.0.0.1:{port}", USER, PASSWORD)
    # Its children serve, and end with it.
    emulator.process.send_signal(signal.SIGTERM)
    emulator.process.wait(30)


@pytest.fixture(params=list(BmcKind))
def access(request: pytest.FixtureRequest) -> BmcAccess:
    """A controller of each kind."""
    found: BmcAccess = request.getfixturevalue(request.param.value)
    return found


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def now() -> datetime:
    return datetime.now(UTC)


def confirm(access: BmcAccess, switch_seconds: float = 60) -> FenceResult:
    subject = FenceSubject("node-a", "host-a", now() - timedelta(seconds=31), False, 30, access)
    return BmcFence(access.kind, now, switch_seconds=switch_seconds).confirm(subject)


def test_a_machine_is_switched_off_and_no_other(host: Host, access: BmcAccess) -> None:
    assert read_power(access)
    result = confirm(access)
    assert (result.confirmed, result.kind) == (True, access.kind.value), result.reason
    assert (host.domain_state(NODE), host.domain_state(OTHER)) == ("shut off", "running")
    assert not read_power(access)
    # Once more, after a crash of the coordinator in between.
    assert confirm(access).confirmed


def test_who_does_not_know_the_password_gets_a_reason_and_no_confirmation(host: Host, access: BmcAccess) -> None:
    wrong = BmcAccess(access.kind, access.address, USER, "wrong-3f2a", verify_tls=False)
    result = confirm(wrong, switch_seconds=5)
    assert not result.confirmed
    assert "could not be switched off" in result.reason.en
    assert "wrong-3f2a" not in result.reason.en + result.reason.zh
    assert host.domain_state(NODE) == "running"


@pytest.mark.parametrize("kind", list(BmcKind))
def test_a_controller_that_is_away_is_a_reason(kind: BmcKind) -> None:
    scheme = "https://" if kind is BmcKind.REDFISH else ""
    result = confirm(BmcAccess(kind, f"{scheme}127.0.0.1:{free_port()}", USER, PASSWORD), switch_seconds=3)
    assert not result.confirmed
    assert "could not be switched off" in result.reason.en


def test_a_certificate_that_nobody_knows_is_refused_unless_it_is_allowed(host: Host, redfish: BmcAccess) -> None:
    strict = BmcAccess(redfish.kind, redfish.address, USER, PASSWORD, verify_tls=True)
    result = confirm(strict, switch_seconds=3)
    assert not result.confirmed
    assert "certificate verify failed" in result.reason.en
    assert host.domain_state(NODE) == "running"


def test_an_address_that_leaves_open_which_system_is_meant_switches_none(host: Host, redfish: BmcAccess) -> None:
    origin = redfish.address.partition("/redfish/")[0]
    unclear = BmcAccess(redfish.kind, origin, USER, PASSWORD, verify_tls=False)
    with pytest.raises(BmcUnreachable, match="must name one of the controller's systems.*" + NODE_UUID):
        read_power(unclear)
    assert not confirm(unclear, switch_seconds=3).confirmed
    assert (host.domain_state(NODE), host.domain_state(OTHER)) == ("running", "running")


def test_the_next_fence_is_tried_when_one_fails(host: Host, ipmi: BmcAccess) -> None:
    # Of a process that has lived for a thousand seconds between any two looks.
    moments, walls = itertools.count(0, 1000), itertools.count(0, 1000)
    silence = SilenceClock(lambda: datetime.fromtimestamp(next(walls), UTC), lambda: float(next(moments)))
    fences = Fences([BmcFence(BmcKind.REDFISH, now), BmcFence(BmcKind.IPMI, now)], silence)
    subject = FenceSubject("node-a", "host-a", datetime.fromtimestamp(500, UTC), False, 30, ipmi)
    outcome = fences.confirm(subject)
    assert (outcome.confirmed, [result.confirmed for result in outcome.results]) == (True, [False, True])
    assert host.domain_state(NODE) == "shut off"
