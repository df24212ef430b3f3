"""The lab: a coordinator's machine with three networks, and hosts on them."""

import fcntl
import shutil
import tempfile
from pathlib import Path
from typing import IO

from tests.lab.coordinator import CoordinatorProcess
from tests.lab.host import Host
from tests.lab.namespace import Namespace

# The coordinator and the agents talk on the first; the others are for volumes and migrations, and for guests.
NETWORKS = {"manage": "10.90.0", "storage": "10.91.0", "business": "10.92.0"}
_CENTRE = 1
_FIRST_HOST = 10
_DIRECTORY_PREFIX = "nodewright-lab-"
# Addresses for benchmarks (RFC 2544): nobody's real ones.
_UPLINK_PREFIX = "198.18"


class Lab:
    """Nothing of it outlives this process; what a killed run left in the file system goes with the next start."""

    def __init__(self) -> None:
        self.directory, self._lock = _make_directory()
        self.hosts: list[Host] = []
        self.centre = Namespace("centre", _bridges())
        self._uplink_address = self._connect_uplink()
        self.coordinator = self.add_coordinator(8443)

    def add_coordinator(self, first_port: int) -> CoordinatorProcess:
        """A coordinator that does not run yet, on three ports from that one on."""
        node_side_address = f"{NETWORKS['manage']}.{_CENTRE}"
        return CoordinatorProcess(self.centre, self.directory, self._uplink_address, node_side_address, first_port)

    def add_host(self) -> Host:
        """One more host on all networks, with libvirt running."""
        host = Host(len(self.hosts) + 1, self.directory)
        self.hosts.append(host)
        self._connect(host)
        host.start_libvirt()
        return host

    def reboot(self, host: Host) -> None:
        """The host, which was ended, is there again as after a boot: on all networks, with libvirt running."""
        for network in NETWORKS:
            # The kernel takes the other end of a cable away a moment after its machine.
            self.centre.run("ip", "link", "delete", f"{network}-{host.index}", check=False)
        host.boot()
        self._connect(host)
        host.start_libvirt()

    def _connect(self, host: Host) -> None:
        for network, prefix in NETWORKS.items():
            port = f"{network}-{host.index}"
            self.centre.connect(port, host.namespace, network)
            self.centre.run("ip", "link", "set", port, "master", network, "up")
            host.namespace.run("ip", "address", "add", f"{prefix}.{_FIRST_HOST + host.index}/24", "dev", network)
            host.namespace.run("ip", "link", "set", network, "up")

    def logs(self) -> dict[str, Path]:
        """The output of every program by name."""
        logs = {"coordinator": self.coordinator.log}
        for host in self.hosts:
            logs |= host.logs()
        return logs

    def stop(self) -> None:
        """Ends everything at once."""
        for host in self.hosts:
            host.end()
        self.centre.end()
        shutil.rmtree(self.directory, ignore_errors=True)
        self._lock.close()

    def _connect_uplink(self) -> str:
        for number in range(256):
            prefix = f"{_UPLINK_PREFIX}.{number}"
            if self.centre.connect_here("uplink", f"{prefix}.2/30", f"nwlab{number}", f"{prefix}.1/30"):
                return f"{prefix}.2"
        raise RuntimeError("256 labs run on this machine")


def _bridges() -> str:
    return "\n".join(
        f"ip link add {network} type bridge\n"
        f"ip address add {prefix}.{_CENTRE}/24 dev {network}\n"
        f"ip link set {network} up"
        for network, prefix in NETWORKS.items()
    )


def _make_directory() -> tuple[Path, IO[str]]:
    """A new directory that is locked as long as this process lives; those of dead owners are removed."""
    for stale in Path(tempfile.gettempdir()).glob(f"{_DIRECTORY_PREFIX}*"):
        lock = _try_lock(stale)
        if lock is not None:
            shutil.rmtree(stale, ignore_errors=True)
            lock.close()
    directory = Path(tempfile.mkdtemp(prefix=_DIRECTORY_PREFIX))
    directory.chmod(0o755)
    lock = _try_lock(directory)
    assert lock is not None
    return directory, lock


def _try_lock(directory: Path) -> IO[str] | None:
    lock = (directory / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock
