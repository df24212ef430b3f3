"""A lab that stays until it is ended: its directory, and the processes that hold it."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import psutil

from tests.lab.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]
_LOCK = "nodewright-lab.lock"
_DESCRIPTION = "lab.json"
_START_SECONDS = 120
_SECONDS_A_HOST = 60
_LOG_BYTES = 2000


@dataclass(frozen=True)
class Description:
    """A lab that is ready."""

    url: str
    ca: str
    # First processes of the machines that are alive, as the lab's own process numbers them.
    machines: dict[str, int]

    def write(self, directory: Path) -> None:
        """From now on others see it."""
        fresh = directory / f"{_DESCRIPTION}.new"
        fresh.write_text(json.dumps(asdict(self)))
        fresh.replace(directory / _DESCRIPTION)


class Standing:
    """One lab a directory.

    Its processes are those that have the lock's file open; all others die with the first of its PID namespace. So there
    is nothing to remember, and nothing that a start which was killed anywhere could have failed to write down.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.control = self.directory / "control"
        self.token = self.directory / "operator-token"
        self._log = self.directory / "lab.log"
        self._path = self.directory / _LOCK
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def claim(self) -> bool:
        """The directory is this process's, and empty; False when a lab is there already. ValueError: it is no lab's."""
        # It is going to be emptied.
        if self.directory.exists() and any(self.directory.iterdir()) and not self._path.exists():
            raise ValueError(f"{self.directory} is not empty, and no lab's")
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock = self._path.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return False
        self._lock = lock
        for path in self.directory.iterdir():
            if path != self._path:
                _remove(path)
        return True

    def start(self, image: Path, hosts: int, *, shares_storage: bool) -> None:
        """The lab begins to come up, in a session of its own: no terminal takes it along."""
        assert self._lock is not None
        isolated = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        program = (sys.executable, "-m", "tests.lab.daemon", self.directory, image, str(hosts))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*isolated, *program, *(["--shared-storage"] if shares_storage else [])],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[self._lock.fileno()],
                cwd=CHECKOUT,
            )
        self._seconds = _START_SECONDS + hosts * _SECONDS_A_HOST

    def wait(self) -> Description:
        """Once it is ready. AssertionError when it is not in time, or ended."""
        assert self._process is not None
        process = self._process
        wait_until(lambda: self.description or process.poll() is not None, "the lab is ready", self._seconds)
        description = self.description
        assert description is not None, "its process ended"
        return description

    @property
    def description(self) -> Description | None:
        """None: no lab, or not ready yet."""
        if not self._path.exists() or not list(self._holders()):
            return None
        try:
            return Description(**json.loads((self.directory / _DESCRIPTION).read_text()))
        except FileNotFoundError:
            return None

    def enter(self, machine: str) -> list[str]:
        """What to put before a command so that it runs on that machine; empty: there is no such."""
        description = self.description
        if description is None or machine not in description.machines:
            return []
        (first,) = _leaves(list(self._holders()))
        inside = ("--mount", "--uts", "--net", "--pid")
        outer = ["nsenter", "--target", str(first.pid), "--mount", "--pid", "--"]
        return [*outer, "nsenter", "--target", str(description.machines[machine]), *inside, "--"]

    def end(self) -> bool:
        """Nothing of the lab is left, in whatever state it was; False when there was nothing."""
        if not self._path.exists():
            return False
        while holders := list(self._holders()):
            # The innermost first: its parent ends when the whole PID namespace is gone, and not before.
            for process in _leaves(holders):
                _kill(process)
        self._remove_links()
        shutil.rmtree(self.directory, ignore_errors=True)
        if self._lock:
            self._lock.close()
        return True

    def tail_log(self) -> str:
        """Its last lines."""
        return self._log.read_bytes()[-_LOG_BYTES:].decode(errors="replace") if self._log.exists() else ""

    def _remove_links(self) -> None:
        """The kernel would do it, seconds behind the processes on a busy machine."""
        for alias in Path("/sys/class/net").glob("nwlab*/ifalias"):
            with suppress(OSError):
                if alias.read_text().strip() == str(self.directory):
                    subprocess.run(["ip", "link", "delete", alias.parent.name], check=False, capture_output=True)

    def _holders(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            if process.pid == os.getpid():
                continue
            descriptors = Path(f"/proc/{process.pid}/fd")
            try:
                if any(os.readlink(link) == str(self._path) for link in descriptors.iterdir()):
                    yield process
            except OSError:  # it, or a descriptor, is gone
                continue


def _leaves(processes: list[psutil.Process]) -> list[psutil.Process]:
    parents = {process.ppid() for process in processes}
    return [process for process in processes if process.pid not in parents]


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()
    wait_until(lambda: _is_gone(process), f"process {process.pid} ends", 60)


def _is_gone(process: psutil.Process) -> bool:
    """A zombie is: where the first process of the machine buries nobody, it stays one."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
