"""Backups of a guest, made and restored with the command line, and what the guest read at the time of each."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.lab.cloud import Cloud, Instance
from tests.lab.rest import REGION

# Behind what the demo guest has on its disk.
AT_MIB = 600
LENGTH_MIB = 16


def write_disk(instance: Instance) -> str:
    """Something new is on the guest's disk; its checksum."""
    instance.run(f"dd if=/dev/urandom of=/dev/vda bs=1M seek={AT_MIB} count={LENGTH_MIB} conv=notrunc,fsync")
    return read_disk(instance)


def read_disk(instance: Instance) -> str:
    """Checksum of the same as the disk has it, not the guest's memory."""
    script = f"dd if=/dev/vda bs=1M skip={AT_MIB} count={LENGTH_MIB} | sha256sum"
    return instance.run(f"echo 3 > /proc/sys/vm/drop_caches; {script}")


class BackupChain:
    """Backups of an instance with one disk, in the order in which they were made."""

    def __init__(self, cloud: Cloud, instance: Instance, directory: Path) -> None:
        self._cloud = cloud
        self._instance = instance
        self._directory = directory
        self._held: list[tuple[dict[str, Any], str]] = []

    def nwctl(self, *arguments: str) -> Any:
        """What the command line answers to an operator."""
        coordinator = self._cloud.lab.coordinator
        environment = {
            "NWCTL_ENDPOINT": coordinator.url,
            "NWCTL_TOKEN": coordinator.create_token(),
            "NWCTL_CA_FILE": str(coordinator.ca),
            "NWCTL_REGION": REGION,
            "PATH": os.environ["PATH"],
            "NO_PROXY": "*",
        }
        command = [sys.executable, "-m", "nwctl", *arguments, "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def make(self, sum_line: str) -> dict[str, Any]:
        """A backup of what the guest has read before."""
        [backup] = self.nwctl("backup", "create", self._instance.id, "--wait")["backups"]
        return self.add(backup, sum_line)

    def add(self, backup: dict[str, Any], sum_line: str) -> dict[str, Any]:
        """One that was made otherwise."""
        assert (backup["status"], backup["hasFile"]) == ("available", True), backup
        self._held.append((backup, sum_line.split()[0]))
        return backup

    def download(self) -> None:
        """All files are here."""
        directory = str(self._directory)
        self.nwctl("backup", "download", *(backup["backupId"] for backup, _ in self._held), "--to", directory)

    def restore(self, number: int = -1) -> Path:
        """The disk that is put together of downloaded files."""
        disk = self._directory / "disk.raw"
        disk.unlink(missing_ok=True)
        file = self._directory / self._held[number][0]["fileName"]
        self.nwctl("backup", "restore", str(file), str(disk), "--format", "raw")
        return disk

    def verify(self) -> None:
        """Each is what the guest read at its time."""
        self.download()
        assert [self._digest(number) for number in range(len(self._held))] == [read for _, read in self._held]

    def delete(self) -> None:
        """None is left."""
        for backup, _ in self._held:
            self.nwctl("backup", "delete", backup["backupId"], "--wait")

    def _digest(self, number: int) -> str:
        with self.restore(number).open("rb") as file:
            file.seek(AT_MIB << 20)
            return hashlib.sha256(file.read(LENGTH_MIB << 20)).hexdigest()
