"""What the disc with the guest tools does to a guest, in a root directory where packages and services do nothing."""

import json
import os
import shutil
import subprocess
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from coordinator.vmtools_iso import build_vmtools_iso

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: another root directory")

PORT = "dev/virtio-ports/org.qemu.guest_agent.0"
DEBIAN, RHEL = ("apt-get", "dpkg"), ("rpm", "dnf", "getsebool", "setsebool", "selinuxenabled", "restorecon")
BLOCKED = "BLOCK_RPCS=guest-exec,guest-file-open\nFSFREEZE_HOOK_PATHNAME=/etc/qemu-ga/fsfreeze-hook\n"
UNIT, PROGRAM = "/etc/systemd/system/nodewright-monitor.service", "/usr/libexec/nodewright-monitor"


class Guest:
    """A root directory with busybox, and programs that say what they were asked for."""

    def __init__(self, root: Path, *programs: str) -> None:
        self.root = root
        for name in ("bin", "disc", "proc", "etc/sysconfig", "usr", "run", "tmp", "dev/virtio-ports"):
            (root / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin/busybox")
        subprocess.run(["chroot", root, "/bin/busybox", "--install", "-s", "/bin"], check=True)
        for name in ("apt-get", "dpkg", "rpm", "dnf", "restorecon", "systemctl"):
            (root / "bin" / name).unlink(missing_ok=True)
        for name in programs:
            self.add(name)
        (root / PORT).touch()
        with as_file(files("coordinator.data") / "vmtools") as disc:
            shutil.copytree(disc, root / "disc", dirs_exist_ok=True)

    def add(self, name: str, *, status: int = 0) -> None:
        """A program that succeeds, or does not."""
        path = self.root / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> /log\nexit {status}\n')
        path.chmod(0o755)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """In the guest."""
        chroot = ("/usr/sbin/chroot", str(self.root), *command)
        return subprocess.run(chroot, check=False, capture_output=True, text=True, env={"PATH": "/bin"})

    def install(self) -> subprocess.CompletedProcess[str]:
        """As the disc's README says; what was written down before is forgotten."""
        (self.root / "log").unlink(missing_ok=True)
        return self.run("/bin/sh", "/disc/install.sh")

    def log(self) -> list[str]:
        """What was asked of the programs."""
        return (self.root / "log").read_text().splitlines()


def services(package: str = "qemu-guest-agent") -> list[str]:
    """What is asked of systemd, in this order."""
    agent = [f"systemctl enable {package}", f"systemctl restart {package}"]
    monitor = ["daemon-reload", "enable nodewright-monitor", "restart nodewright-monitor"]
    return agent + [f"systemctl {words}" for words in monitor]


def test_debian_gets_the_agent_and_the_figures_from_its_own_sources(tmp_path: Path) -> None:
    guest = Guest(tmp_path, *DEBIAN, "systemctl")
    for _ in range(2):
        done = guest.install()
        assert done.returncode == 0, done.stderr
        assert guest.log() == ["apt-get install --yes qemu-guest-agent", *services()]
    assert (guest.root / PROGRAM[1:]).stat().st_mode & 0o777 == 0o755
    assert (guest.root / UNIT[1:]).read_text().count("ExecStart=" + PROGRAM) == 1
    # What was fetched before has been forgotten by now.
    guest.add("apt-get", status=100)
    assert guest.install().returncode != 0
    assert guest.log() == ["apt-get install --yes qemu-guest-agent", "apt-get update"]


def test_packages_of_the_disc_come_first_and_no_systemd_means_no_figures(tmp_path: Path) -> None:
    guest = Guest(tmp_path, *DEBIAN, "service")
    (guest.root / "disc/packages").mkdir()
    for name in ("b_1_amd64.deb", "a_1_amd64.deb", "c.rpm"):
        (guest.root / "disc/packages" / name).touch()
    assert guest.install().returncode == 0
    packages = "/disc/packages/a_1_amd64.deb /disc/packages/b_1_amd64.deb"
    assert guest.log() == [f"dpkg --install {packages}", "service qemu-guest-agent restart"]
    assert not (guest.root / PROGRAM[1:]).exists()


def test_rhel_lets_the_cloud_run_commands(tmp_path: Path) -> None:
    guest = Guest(tmp_path, *RHEL, "systemctl")
    (guest.root / "etc/sysconfig/qemu-ga").write_text(BLOCKED)
    done = guest.install()
    assert done.returncode == 0, done.stderr
    booleans = ("virt_qemu_ga_run_unconfined", "virt_qemu_ga_manage_ssh", "virt_qemu_ga_read_nonsecurity_files")
    allowing = [
        f"{words} {name}{end}" for name in booleans for words, end in (("getsebool", ""), ("setsebool -P", " on"))
    ]
    asked = [line for line in guest.log() if not line.startswith(("systemctl", "selinuxenabled"))]
    assert asked == ["dnf --assumeyes install qemu-guest-agent", *allowing, f"restorecon {PROGRAM} {UNIT}"]
    assert [line for line in guest.log() if line.startswith("systemctl")] == services()
    assert (guest.root / "etc/sysconfig/qemu-ga").read_text() == f"#{BLOCKED}"


@pytest.mark.parametrize(("programs", "port", "told"), [(("systemctl",), True, "Debian"), (DEBIAN, False, "channel")])
def test_what_is_no_such_guest_says_so(tmp_path: Path, programs: tuple[str, ...], port: bool, told: str) -> None:
    guest = Guest(tmp_path, *programs)
    if not port:
        (guest.root / PORT).unlink()
    done = guest.install()
    assert (done.returncode, told in done.stderr, (guest.root / "log").exists()) == (1, True, False)


def test_the_figures_are_numbers(tmp_path: Path) -> None:
    guest = Guest(tmp_path)
    for name, content in (
        ("loadavg", "0.10 1.20 2.30 3/145 9999\n"),
        ("uptime", "1234.56 9876.54\n"),
        ("meminfo", "MemTotal: 2048 kB\nMemFree: 512 kB\nMemAvailable: 1024 kB\nCached: 256 kB\nSwapTotal: 8 kB\n"),
    ):
        (guest.root / "proc" / name).write_text(content)
    assert guest.run("/bin/sh", "/disc/nodewright-monitor", "/run/figures", "0").stderr == ""
    figures = json.loads((guest.root / "run/figures").read_text())
    assert figures.pop("atSeconds") > 1_700_000_000
    assert figures == {
        "version": 1,
        "uptimeSeconds": 1234.56,
        "load": [0.1, 1.2, 2.3],
        "processes": 145,
        "memory": {"totalBytes": 2048 * 1024, "availableBytes": 1024 * 1024},
        "swap": {"totalBytes": 8192, "freeBytes": 0},
    }
    assert [path.name for path in (guest.root / "run").iterdir()] == ["figures"]


def test_the_disc_has_programs_that_run(tmp_path: Path) -> None:
    build_vmtools_iso(tmp_path / "disc", tmp_path / "nothing")
    listed = subprocess.run(
        ["xorriso", "-indev", tmp_path / "disc", "-lsl", "/"], check=True, capture_output=True, text=True
    ).stdout
    modes = {line.split("'")[1]: line.split()[0] for line in listed.splitlines() if "'" in line}
    assert {name: mode[:4] for name, mode in modes.items()} == {
        "README.txt": "-r--",
        "install.sh": "-r-x",
        "nodewright-monitor": "-r-x",
        "nodewright-monitor.service": "-r--",
    }
