"""A compute node with hardware of its own: an IOMMU, and devices of every kind that guests can have."""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Final

from tests.hardware.machine import FREE_PORT, describe_machine, make_disks
from tests.hardware.monitor import Monitor, Shell, connect_shell
from tests.hardware.preparation import Preparation
from tests.lab.namespace import DYING_WITH_PARENT
from tests.lab.waiting import wait_until

INIT: Final = Path(__file__).parent / "node-init"
SHARE: Final = "/mnt/node"
_BOOT_SECONDS: Final = 400.0
_RUN_SECONDS: Final = 240.0
_LOG_TAIL_BYTES: Final = 4000


class HardwareNode:
    """One machine. It lives until `end`, and never longer than this process; its disks stay."""

    def __init__(self, directory: Path, preparation: Preparation) -> None:
        self.directory = directory
        self.preparation = preparation
        self.agent_port = _find_free_port()
        self.shared = directory / "shared"
        self.shared.mkdir(parents=True)
        shutil.copy(INIT, self.shared)
        make_disks(directory)
        self._qemu: subprocess.Popen[bytes] | None = None
        self._monitor: Monitor | None = None
        self._shell: Shell | None = None

    @property
    def monitor(self) -> Monitor:
        """QEMU's monitor, of a node that runs."""
        assert self._monitor is not None, "the node does not run"
        return self._monitor

    def boot(self) -> None:
        """It runs, and commands can be given to it; what was plugged in from outside is gone."""
        for name in ("qmp", "shell"):
            (self.directory / name).unlink(missing_ok=True)
        arguments = describe_machine(self.preparation, self.directory, self.agent_port)
        with (self.directory / "qemu.log").open("ab") as log:
            self._qemu = subprocess.Popen(
                [*DYING_WITH_PARENT, self.preparation.qemu, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._monitor = wait_until(self._connect_monitor, "QEMU of the node runs", timeout_seconds=30)
        self._shell = connect_shell(self.directory / "shell", _BOOT_SECONDS)

    def end(self) -> None:
        """As a power failure."""
        for channel in (self._shell, self._monitor):
            if channel is not None:
                channel.close()
        self._shell = self._monitor = None
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()

    def reboot(self) -> None:
        """As after a power failure."""
        self.end()
        self.boot()

    def run(self, script: str, *, check: bool = True, timeout_seconds: float = _RUN_SECONDS) -> str:
        """Runs a script of bash inside and answers what it printed; AssertionError with it when it fails."""
        assert self._shell is not None, "the node does not run"
        status, output = self._shell.run(script, timeout_seconds)
        if check and status:
            raise AssertionError(f"{script} failed with {status} in the node: {output}")
        return output

    def spawn(self, script: str, log: str) -> int:
        """Starts a program that goes on; its process id. Its output goes to the file `log` of `shared`."""
        return int(
            self.run(f"setsid bash -c {shlex.quote(f'exec {script}')} >> {SHARE}/{log} 2>&1 < /dev/null & echo $!")
        )

    def plug_stick(self, disk: str = "stick-plugged") -> None:
        """Somebody plugs in a USB stick."""
        self._add_disk(disk)
        self.monitor.execute(
            "device_add", driver="usb-storage", id=disk, drive=disk, bus="usb.0", port="5", serial="STICK1"
        )

    def plug_nvme(self, disk: str = "nvme-plugged") -> None:
        """Somebody plugs in an NVMe disk."""
        self._add_disk(disk)
        self.monitor.execute("device_add", driver="nvme", id=disk, drive=disk, bus=FREE_PORT, serial="NVMEPLUGGED")

    def unplug(self, device: str) -> None:
        """Somebody pulls it; until the node has let go where that takes asking it."""
        self.monitor.execute("device_del", id=device)
        wait_until(lambda: device not in self.monitor.say("info qtree"), f"{device} is unplugged")
        # QEMU is still at it for a moment.
        wait_until(lambda: self._remove_disk(device), f"{device} is closed")

    def logs(self) -> dict[str, str]:
        """The last lines of all that was written, by name."""
        files = [self.directory / "console.log", self.directory / "qemu.log", *sorted(self.shared.glob("*.log"))]
        return {
            path.name: path.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace") for path in files if path.exists()
        }

    def _connect_monitor(self) -> Monitor:
        assert self._qemu is not None
        if self._qemu.poll() is not None:
            told = (self.directory / "qemu.log").read_text(errors="replace")[-_LOG_TAIL_BYTES:]
            raise AssertionError(f"QEMU has ended: {told}")
        return Monitor(self.directory / "qmp")

    def _remove_disk(self, name: str) -> bool:
        self.monitor.execute("blockdev-del", node_name=name)
        return True

    def _add_disk(self, name: str) -> None:
        file = {"driver": "file", "filename": str(self.directory / name)}
        self.monitor.execute("blockdev-add", driver="raw", node_name=name, file=file)


def _find_free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
