"""The doctor's findings on this very machine, on libvirt's test driver, and with parts taken away."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from agent import doctor
from agent.config import AgentConfig
from agent.disk_lock import DiskLocks, LockGap
from agent.doctor import Patient, examine, show
from agent.finding import Finding
from agent.hypervisor.capability import Capability
from agent.storage.shared import leave_mark
from agent.watchdog.lease import Health, read_boot_id, read_clock, write_health
from coordinator.domain.clock import utc_now
from coordinator.pki import LEAF_LIFE, Authority
from tests.unit.agent.coordinator_server import NODE_ID, Coordinator, an_identity, serving

MACHINE_UUID = "4c4c4544-0038-5a10-8052-b4c04f4e3732"
GIB = 1024**3
PROGRAMS = ("qemu-img", "qemu-nbd", "prlimit", "setpriv", "genisoimage", "dnsmasq", "iptables-restore", "ss")


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    return AgentConfig(
        state_dir=tmp_path / "state",
        libvirt_uri="test:///default",
        listen="127.0.0.1:0",
        metrics_listen="127.0.0.1:1",
        machine_uuid=MACHINE_UUID,
    )


def a_capability(**changes: Any) -> Capability:
    """Of a host that has everything."""
    capability = Capability(
        domain_type="kvm",
        accelerator_reason="",
        architecture="x86_64",
        machine="q35",
        machines=frozenset(),
        emulator="/usr/bin/qemu-system-x86_64",
        cpu_models=frozenset(),
        host_cpu_model="EPYC",
        cpu_vendor="AMD",
        firmwares=frozenset(("bios", "uefi", "uefi-secure-boot")),
        tpm_versions=frozenset(("2.0", "1.2")),
        libvirt_version="9.0.0",
        qemu_version="7.2.0",
    )
    return replace(capability, **changes)


async def check(
    name: str,
    config: AgentConfig,
    *,
    capability: Capability | None = None,
    agent_runs: bool = False,
    written_files: dict[Path, list[str]] | None = None,
) -> dict[str, Finding]:
    """The findings of one check, by what they are about."""
    patient = Patient(config, capability, "" if capability else "no answer", agent_runs, written_files or {})
    findings = await next(check for check in doctor.CHECKS if check.__name__ == f"_check_{name}")(patient)
    return {finding.check: finding for finding in findings}


async def test_a_whole_examination_looks_at_everything(config: AgentConfig) -> None:
    findings = {finding.check: finding for finding in await examine(config)}
    wanted = {"user", "libvirt", "qemu", "kvm", "firmware", "tpm", "qemu-img", "space", "clock", "listen", "membership"}
    assert wanted <= {*findings}
    assert findings["libvirt"].verdict == "ok"
    assert findings["qemu"].verdict == "fail"  # the test driver runs nothing
    assert findings["machine"] == Finding("machine", "ok", MACHINE_UUID)
    assert not config.state_dir.exists()


async def test_without_libvirt_nothing_that_follows_from_it_is_told(config: AgentConfig, tmp_path: Path) -> None:
    away = replace(config, libvirt_uri=f"qemu+unix:///system?socket={tmp_path}/absent")
    findings = {finding.check: finding for finding in await examine(away)}
    assert findings["libvirt"].verdict == "fail"
    assert "absent" in findings["libvirt"].detail
    assert "is away" in findings["libvirt"].detail
    assert not {"qemu", "kvm", "firmware", "tpm"} & {*findings}


async def test_a_libvirt_that_does_not_answer_is_not_waited_for(
    config: AgentConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "_LIBVIRT_SECONDS", 0.1)
    path = tmp_path / "silent"
    with closing(socket.socket(socket.AF_UNIX)) as silent:
        silent.bind(str(path))
        silent.listen()
        silent_config = replace(config, libvirt_uri=f"qemu+unix:///system?socket={path}")
        findings = {finding.check: finding for finding in await examine(silent_config)}
    assert findings["libvirt"].verdict == "fail"


@pytest.mark.parametrize(("uid", "verdict"), [(0, "ok"), (1000, "fail")])
async def test_only_root_can_be_an_agent(
    config: AgentConfig, monkeypatch: pytest.MonkeyPatch, uid: int, verdict: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: uid)
    assert (await check("rights", config))["user"].verdict == verdict


@pytest.mark.parametrize(
    ("name", "part", "changes", "verdict", "words"),
    [
        ("libvirt", "libvirt", {}, "ok", "9.0.0"),
        ("libvirt", "qemu", {}, "ok", "7.2.0, /usr/bin/qemu-system-x86_64"),
        ("libvirt", "qemu", {"emulator": ""}, "fail", "no emulator for x86_64"),
        ("accelerator", "kvm", {}, "ok", "a probe guest ran"),
        ("accelerator", "kvm", {"domain_type": "qemu", "accelerator_reason": "no /dev/kvm"}, "warn", "no /dev/kvm"),
        ("firmware", "firmware", {}, "ok", "UEFI yes, secure boot yes"),
        ("firmware", "firmware", {"firmwares": frozenset(("bios", "uefi"))}, "warn", "UEFI yes, secure boot no"),
        ("firmware", "firmware", {"firmwares": frozenset(("bios",))}, "warn", "UEFI no, secure boot no"),
        ("firmware", "tpm", {}, "ok", "swtpm 1.2, 2.0"),
        ("firmware", "tpm", {"tpm_versions": frozenset()}, "warn", "no TPM emulator"),
    ],
)
async def test_what_the_hypervisor_can_do_is_told(
    config: AgentConfig, name: str, part: str, changes: dict[str, Any], verdict: str, words: str
) -> None:
    finding = (await check(name, config, capability=a_capability(**changes)))[part]
    assert finding.verdict == verdict
    assert words in finding.detail
    assert bool(finding.remedy) == (verdict != "ok")


@pytest.mark.parametrize("absent", PROGRAMS)
async def test_a_program_that_is_not_there_is_named_with_its_package(
    config: AgentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    for program in {*PROGRAMS} - {absent}:
        (tmp_path / program).touch(mode=0o755)
    which = doctor.shutil.which  # type: ignore[attr-defined]
    monkeypatch.setattr("shutil.which", lambda name, path: which(name, path=str(tmp_path)))
    findings = await check("programs", config)
    assert {*findings} == {*PROGRAMS}
    assert {finding.check for finding in findings.values() if finding.verdict == "fail"} == {absent}
    assert findings[absent].remedy.startswith("install ")
    assert all(finding.detail == str(tmp_path / name) for name, finding in findings.items() if name != absent)


async def test_programs_are_found_where_libvirt_looks(config: AgentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert (await check("programs", config))["iptables-restore"].detail.startswith(("/usr/sbin/", "/sbin/"))


class TestSpace:
    """The file system of the state directory, which need not be there yet."""

    @pytest.mark.parametrize(
        ("spare_bytes", "verdict"), [(2**62, "fail"), (0, "ok"), (None, "warn")], ids=["full", "empty", "little"]
    )
    async def test_too_little_space_is_told(
        self, config: AgentConfig, tmp_path: Path, spare_bytes: int | None, verdict: str
    ) -> None:
        free_bytes = doctor.measure_capacity(tmp_path, 0).free_bytes  # type: ignore[attr-defined]
        if free_bytes < 11 * GIB:
            pytest.skip("there really is little space here")
        reserved_bytes = free_bytes - 5 * GIB if spare_bytes is None else spare_bytes
        finding = (await check("storage", replace(config, reserved_storage_bytes=reserved_bytes)))["space"]
        assert finding.verdict == verdict
        assert finding.detail.startswith("5.0 GiB free of ") == (verdict == "warn")


class TestClock:
    """Whether somebody keeps the clock right."""

    @pytest.fixture
    def install(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        def write(answer: str) -> None:
            program = tmp_path / "timedatectl"
            program.write_text(f"#!/bin/sh\n[ $2 = --property=NTPSynchronized ] && echo {answer}\n")
            program.chmod(0o755)
            monkeypatch.setattr(doctor, "_find_program", lambda name: str(tmp_path / name))
            monkeypatch.setattr(doctor, "_uses_systemd", lambda: True)

        return write

    @pytest.mark.parametrize(("answer", "verdict"), [("yes", "ok"), ("no", "warn")])
    async def test_systemd_knows_whether_the_clock_is_right(
        self, config: AgentConfig, install: Callable[[str], None], answer: str, verdict: str
    ) -> None:
        install(answer)
        assert (await check("time", config))["clock"].verdict == verdict

    async def test_where_there_is_no_systemd_nobody_knows(
        self, config: AgentConfig, install: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install("yes")
        monkeypatch.setattr(doctor, "_uses_systemd", lambda: False)
        assert "nobody here tells" in (await check("time", config))["clock"].detail


class TestPorts:
    """Addresses that the agent wants."""

    @pytest.mark.parametrize("name", ["listen", "metrics_listen"])
    async def test_a_port_that_is_taken_is_named(self, config: AgentConfig, name: str) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            addresses: dict[str, Any] = {"metrics_listen": "127.0.0.1:0", name: address}
            findings = await check("ports", replace(config, **addresses))
        assert findings.pop(name) == Finding(
            name, "fail", f"{address}: Address already in use", f"stop who uses it, or set {name}"
        )
        assert [finding.verdict for finding in findings.values()] == ["ok"]

    async def test_an_address_of_another_machine_is_refused(self, config: AgentConfig) -> None:
        findings = await check("ports", replace(config, listen="192.0.2.1:8446", metrics_listen="[::1]:0"))
        assert findings["listen"].verdict == "fail"

    async def test_an_agent_that_runs_has_its_ports_rightly(self, config: AgentConfig) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as metrics:
            address = f"127.0.0.1:{metrics.getsockname()[1]}"
            findings = {f.check: f for f in await examine(replace(config, metrics_listen=address))}
        assert findings["ports"] == Finding("ports", "ok", "an agent serves on this host")
        assert "listen" not in findings


class TestWatchdog:
    """Whether highly available guests end here when they must."""

    @pytest.fixture
    def watched(self, config: AgentConfig, tmp_path: Path) -> AgentConfig:
        return replace(config, run_dir=tmp_path)

    async def test_one_that_looks_is_well(self, watched: AgentConfig) -> None:
        for tolerance, detail in ((60, "fences after 60 s without the coordinator"), (0, "runs, nothing to fence yet")):
            write_health(watched.run_dir, Health(read_boot_id(), 1, read_clock(), tolerance))
            assert await check("watchdog", watched) == {"watchdog": Finding("watchdog", "ok", detail)}

    @pytest.mark.parametrize(("boot_id", "age_seconds"), [("another", 0.0), (read_boot_id(), 5.0)])
    async def test_one_that_does_not_is_told(self, watched: AgentConfig, boot_id: str, age_seconds: float) -> None:
        write_health(watched.run_dir, Health(boot_id, 1, read_clock() - age_seconds, 60))
        finding = (await check("watchdog", watched))["watchdog"]
        assert (finding.verdict, finding.detail) == ("warn", "does not run")
        assert "nodewright-watchdog" in finding.remedy


class TestBoot:
    """Who starts guests when the machine has booted."""

    async def test_the_coordinator_alone_should(
        self, config: AgentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings, autostart = tmp_path / "libvirt-guests", tmp_path / "autostart"
        monkeypatch.setattr(doctor, "_LIBVIRT_GUESTS", settings)
        monkeypatch.setattr(doctor, "_AUTOSTART", autostart)
        assert (await check("boot", config))["boot"].verdict == "ok"
        autostart.mkdir()
        (autostart / "ecs-7751tih23uy93g.xml").touch()
        assert "ecs-7751tih23uy93g" in (await check("boot", config))["boot"].detail
        settings.write_text("#ON_BOOT=ignore\nON_BOOT=start\n")
        assert "ON_BOOT=ignore" in (await check("boot", config))["boot"].remedy


class TestMembership:
    """Who the node is, and whether the coordinator talks to it."""

    @pytest.fixture
    def authority(self, tmp_path: Path) -> Authority:
        return Authority.open(tmp_path / "authority")

    async def test_a_machine_that_has_not_joined_is_told_how(self, config: AgentConfig) -> None:
        findings = await check("identity", config)
        assert findings["machine"] == Finding("machine", "ok", MACHINE_UUID)
        assert findings["membership"].verdict == "warn"
        assert "nodewright-agent join" in findings["membership"].remedy
        assert await check("coordinator", config) == {}

    async def test_a_machine_without_an_identity_is_told_what_to_set(
        self, config: AgentConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def read(_configured: str) -> str:
            raise doctor.IdentityMissing("neither a DMI system UUID nor a machine id")  # type: ignore[attr-defined]

        monkeypatch.setattr(doctor, "read_machine_uuid", read)
        assert (await check("identity", config))["machine"].remedy == "set machine_uuid"

    async def test_a_node_is_told_how_long_its_certificate_counts(
        self, config: AgentConfig, authority: Authority
    ) -> None:
        an_identity(config.state_dir, authority)
        findings = await check("identity", config)
        assert findings["membership"] == Finding("membership", "ok", f"{NODE_ID} in region0")
        assert findings["certificate"] == Finding("certificate", "ok", f"valid for {LEAF_LIFE.days - 1} days")

    async def test_an_expired_certificate_is_told(self, config: AgentConfig, tmp_path: Path) -> None:
        long_ago = utc_now() - LEAF_LIFE - timedelta(seconds=1)
        an_identity(config.state_dir, Authority.open(tmp_path / "old", lambda: long_ago))
        finding = (await check("identity", config))["certificate"]
        assert (finding.verdict, finding.detail) == ("fail", "expired")

    @pytest.mark.parametrize("is_configured", [False, True])
    async def test_a_coordinator_that_answers_is_well(
        self, config: AgentConfig, authority: Authority, is_configured: bool
    ) -> None:
        async with serving(Coordinator(authority)) as port:
            address = f"127.0.0.1:{port}"
            an_identity(config.state_dir, authority, "127.0.0.1:1" if is_configured else address)
            if is_configured:
                config = replace(config, coordinator_address=address)
            assert await check("coordinator", config) == {"coordinator": Finding("coordinator", "ok", address)}

    async def test_a_coordinator_of_somebody_else_is_not_well(
        self, config: AgentConfig, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(doctor, "_CONNECT_SECONDS", 0.2)
        async with serving(Coordinator(Authority.open(tmp_path / "other"))) as port:
            an_identity(config.state_dir, authority, f"127.0.0.1:{port}")
            finding = (await check("coordinator", config))["coordinator"]
        assert finding.verdict == "fail"
        assert f"127.0.0.1:{port}" in finding.detail


class TestDiskLocks:
    """Whether a second QEMU is kept off the disks of guests."""

    GAP = LockGap("libvirt is told to lock no disks", "write a setting")

    @pytest.fixture
    def locks(self, monkeypatch: pytest.MonkeyPatch, config: AgentConfig, tmp_path: Path) -> Mock:
        made = Mock(spec=DiskLocks)
        made.find_gap.return_value = self.GAP
        monkeypatch.setattr(doctor, "DiskLocks", lambda: made)
        an_identity(config.state_dir, Authority.open(tmp_path / "authority"))
        config.volumes_dir.mkdir()
        leave_mark(config.volumes_dir, NODE_ID)
        return made

    async def test_a_machine_that_has_not_joined_shares_nothing(self, tmp_path: Path, config: AgentConfig) -> None:
        assert await check("disk_locks", replace(config, state_dir=tmp_path / "other")) == {}

    async def test_they_are_not_missed_where_nobody_shares_the_volumes(self, config: AgentConfig, locks: Mock) -> None:
        finding = (await check("disk_locks", config))["disk locks"]
        assert (finding.verdict, finding.remedy) == ("ok", "")
        assert self.GAP.reason in finding.detail

    async def test_a_node_that_shares_its_volumes_without_is_told_with_whom(
        self, config: AgentConfig, locks: Mock
    ) -> None:
        leave_mark(config.volumes_dir, "node-another")
        finding = (await check("disk_locks", config))["disk locks"]
        assert (finding.verdict, finding.remedy) == ("warn", self.GAP.remedy)
        assert "node-another" in finding.detail
        assert NODE_ID not in finding.detail

    async def test_guests_that_run_without_are_named(self, config: AgentConfig, locks: Mock) -> None:
        locks.find_gap.return_value = None
        locks.is_locked.side_effect = lambda file: file.name == "locked"
        files = {config.volumes_dir / name: [f"ecs-{name}"] for name in ("locked", "open")}
        assert (await check("disk_locks", config, written_files=files))["disk locks"].verdict == "ok"
        for file in files:
            file.touch()
        finding = (await check("disk_locks", config, written_files=files))["disk locks"]
        assert finding.verdict == "warn"
        assert "ecs-open" in finding.detail
        assert "ecs-locked" not in finding.detail


class TestShow:
    """Findings on paper."""

    FINDINGS = (
        Finding("kvm", "ok", "a probe guest ran under it"),
        Finding("listen", "fail", "[fd00::1]:8446: [/var] in use", "stop it"),
    )

    def test_programs_get_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        show([*self.FINDINGS], as_json=True)
        assert json.loads(capsys.readouterr().out) == [
            {"check": "kvm", "verdict": "ok", "detail": "a probe guest ran under it", "remedy": ""},
            {"check": "listen", "verdict": "fail", "detail": "[fd00::1]:8446: [/var] in use", "remedy": "stop it"},
        ]

    def test_people_get_a_table_with_every_word(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "120")
        show([*self.FINDINGS], as_json=False)
        _, first, second = capsys.readouterr().out.splitlines()
        assert first.split() == ["ok", "kvm", "a", "probe", "guest", "ran", "under", "it"]
        assert second.split() == ["fail", "listen", "[fd00::1]:8446:", "[/var]", "in", "use", "stop", "it"]
