"""Linux namespaces as machines: own processes, mounts, network and host name, and nothing left when the owner dies."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.lab.waiting import wait_until

_ENTERED = ("--mount", "--uts", "--net", "--pid")
# Orphans fall to the first process; ignoring their end lets the kernel bury them. (dash would not pass that on.)
_INIT = 'echo ready; trap "" CHLD; exec sleep infinity'
# Before a command: it is killed when the one who starts it ends. Python code between fork and exec (`preexec_fn`) would
# crash now and then in a process with threads, such as those of gRPC.
DYING_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")


class Namespace:
    """A machine made of namespaces. It lives until `end`, and never longer than this process."""

    def __init__(self, name: str, setup: str) -> None:
        """`setup` is a shell script that runs first inside, as root, and may mount what it likes."""
        self.name = name
        self._setup = setup
        self.start()

    def start(self) -> None:
        """It is there, and `setup` has run; again after `end`."""
        self._unshare = subprocess.Popen(
            [
                *DYING_WITH_PARENT,
                *("unshare", "--mount", "--uts", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"),
                *("bash", "-ec", f"hostname {self.name}\nip link set lo up\n{self._setup}\n{_INIT}"),
            ],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert self._unshare.stdout is not None
        if self._unshare.stdout.readline() != "ready\n":
            raise RuntimeError(f"the namespace {self.name} could not be set up")
        (self._init,) = psutil.Process(self._unshare.pid).children()

    @property
    def is_alive(self) -> bool:
        """Whether it was not ended."""
        return self._unshare.poll() is None

    @property
    def pid(self) -> int:
        """Its first process, as seen from here."""
        return self._init.pid

    def command(self, *argv: str | Path) -> list[str]:
        """What to execute here so that `argv` is executed inside."""
        return ["nsenter", "--target", str(self.pid), *_ENTERED, "--", *map(str, argv)]

    def run(self, *argv: str | Path, check: bool = True, timeout_seconds: float = 60) -> str:
        """Runs a command inside and answers what it printed."""
        done = subprocess.run(
            self.command(*argv),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_seconds,
        )
        if check and done.returncode:
            raise AssertionError(f"{self.name}: {' '.join(map(str, argv))} failed: {done.stderr or done.stdout}")
        return done.stdout

    def path(self, path: str) -> Path:
        """The file `path` of the inside, for reading from here."""
        return Path(f"/proc/{self.pid}/root") / path.lstrip("/")

    def connect(self, link: str, other: "Namespace", other_link: str) -> None:
        """A cable between two machines."""
        self._in_network("ip", "link", "add", link, "type", "veth", "peer", other_link, "netns", str(other.pid))

    def connect_here(self, link: str, address: str, local_link: str, local_address: str) -> bool:
        """A cable between this machine and the test process; False when the local name is taken."""
        peer = ("peer", link, "netns", str(self.pid))
        added = subprocess.run(
            ["ip", "link", "add", local_link, "type", "veth", *peer], check=False, capture_output=True
        )
        if added.returncode:
            return False
        subprocess.run(["ip", "address", "add", local_address, "dev", local_link], check=True)
        subprocess.run(["ip", "link", "set", local_link, "up"], check=True)
        self.run("ip", "address", "add", address, "dev", link)
        self.run("ip", "link", "set", link, "up")
        return True

    def mount(self, directory: Path, target: Path) -> None:
        """A directory of this side is at `target` inside, also after the next start."""
        script = f"mkdir -p {target}\nmount --bind {directory} {target}"
        self.run("sh", "-ec", script)
        self._setup = f"{self._setup}\n{script}"

    def end(self) -> None:
        """Kills every process inside. What was mounted and connected goes with them."""
        self._unshare.kill()
        self._unshare.wait()
        self._init.wait(timeout=60)

    def _in_network(self, *argv: str) -> None:
        """With the tools and the process numbers of this side, but the network of the inside."""
        subprocess.run(["nsenter", "--target", str(self.pid), "--net", "--", *argv], check=True)


class Process:
    """A program inside a machine, with its output in a file."""

    def __init__(self, namespace: Namespace, name: str, argv: Sequence[str | Path], log: Path) -> None:
        self.name = name
        self.argv = argv
        self.log = log
        self._namespace = namespace
        self._nsenter: subprocess.Popen[bytes] | None = None

    def start(self, argv: Sequence[str | Path] | None = None, environment: Mapping[str, str] | None = None) -> None:
        """Starts it, with other arguments when given. Its output is appended to that of earlier starts."""
        assert not self.is_running(), f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._nsenter = subprocess.Popen(
                [*DYING_WITH_PARENT, *self._namespace.command(*(argv or self.argv))],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=os.environ | dict(environment or {}),
                start_new_session=True,
            )

    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._nsenter is not None and self._nsenter.poll() is None

    @property
    def pid(self) -> int:
        """The program itself, as seen from here."""
        assert self._nsenter is not None, f"{self.name} was not started"
        nsenter = psutil.Process(self._nsenter.pid)
        # A moment passes between its start and that of the program.
        wait_until(nsenter.children, f"{self.name} has begun")
        (child,) = nsenter.children()
        return child.pid

    def kill(self) -> None:
        """SIGKILL: it gets no chance to tidy up."""
        self._signal(signal.SIGKILL)

    def stop(self, timeout_seconds: float = 60) -> None:
        """SIGTERM, as a service manager would; it must end in time."""
        self._signal(signal.SIGTERM, timeout_seconds)

    def send(self, number: signal.Signals) -> None:
        """Sends it, and waits for nothing."""
        os.kill(self.pid, number)

    def pause(self) -> None:
        """SIGSTOP: it stands still until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on, and so does nsenter, which stops with its child."""
        assert self._nsenter is not None
        for pid in (self.pid, self._nsenter.pid):
            os.kill(pid, signal.SIGCONT)

    def wait(self, timeout_seconds: float) -> int:
        """How it ended by itself, a signal as its negative number; subprocess.TimeoutExpired when it does not."""
        assert self._nsenter is not None
        return self._nsenter.wait(timeout_seconds)

    def wait_for_end(self, timeout_seconds: float = 60) -> None:
        """Until it has ended, if it was started at all."""
        if self.is_running():
            self.wait(timeout_seconds)

    def _signal(self, number: signal.Signals, timeout_seconds: float = 60) -> None:
        if self.is_running():
            os.kill(self.pid, number)
            self.wait(timeout_seconds)


class GuestProcess:
    """The QEMU of a domain, which libvirt has started."""

    def __init__(self, namespace: Namespace, domain: str) -> None:
        self.name = domain
        self._namespace = namespace

    def kill(self) -> None:
        """SIGKILL: as after a crash of QEMU."""
        self._signal("KILL")

    def pause(self) -> None:
        """SIGSTOP: it stands still until `resume`, and libvirt does not know."""
        self._signal("STOP")

    def resume(self) -> None:
        """It goes on."""
        self._signal("CONT")

    def _signal(self, name: str) -> None:
        pid = self._namespace.run("cat", f"/run/libvirt/qemu/{self.name}.pid")
        self._namespace.run("kill", f"-{name}", pid.strip())
