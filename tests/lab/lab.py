"""The lab: a coordinator's machine with three networks, and hosts on them."""

import shutil
import subprocess
import tempfile
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import IO

from tests.lab.cable import Cable, mac_address
from tests.lab.coordinator import CoordinatorProcess
from tests.lab.host import Host
from tests.lab.namespace import Namespace
from tests.own_directory import make_own_directory

# The coordinator and the agents talk on the first; the others are for volumes and migrations, and for guests.
NETWORKS = {"manage": "10.90.0", "storage": "10.91.0", "business": "10.92.0"}
_CENTRE = 1
_FIRST_HOST = 10
_DIRECTORY_PREFIX = "nodewright-lab-"
# Addresses for benchmarks (RFC 2544): nobody's real ones.
_UPLINK_PREFIX = "198.18"


class Lab:
    """Nothing of it outlives this process; what a killed run left in the file system goes with the next start."""

    def __init__(self, directory: Path | None = None) -> None:
        """Without a directory it makes one, and removes it at its end."""
        self._lock: IO[str] | None = None
        if directory is None:
            directory, self._lock = make_own_directory(_DIRECTORY_PREFIX, Path(tempfile.gettempdir()))
            directory.chmod(0o755)
        self.directory = directory
        self.hosts: list[Host] = []
        self.centre = Namespace("centre", _bridges())
        self._uplink_address = self._connect_uplink()
        self.coordinator = self.add_coordinator(8443)

    def add_coordinator(self, first_port: int) -> CoordinatorProcess:
        """A coordinator that does not run yet, on three ports from that one on."""
        node_side_address = f"{NETWORKS['manage']}.{_CENTRE}"
        return CoordinatorProcess(self.centre, self.directory, self._uplink_address, node_side_address, first_port)

    def add_host(self, disk_mib: int = 0) -> Host:
        """One more host on all networks, with libvirt running; a size gives its volumes a file system of their own."""
        host = Host(len(self.hosts) + 1, self.directory, disk_mib)
        self.hosts.append(host)
        for network in NETWORKS:
            log = host.directory / f"relay-{network}.log"
            host.cables[network] = Cable(network, host.index, self.centre, host.namespace, log)
        self._switch_on(host)
        return host

    def boot(self, host: Host) -> None:
        """A host that was ended is there again, with libvirt; what else runs on it is for the caller to start."""
        host.boot()
        self._switch_on(host)

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
        if self._lock:
            self._lock.close()

    def _switch_on(self, host: Host) -> None:
        for network, prefix in NETWORKS.items():
            host.cables[network].plug_in(IPv4Interface(f"{prefix}.{_FIRST_HOST + host.index}/24"))
        host.start_libvirt()

    def _connect_uplink(self) -> str:
        for number in range(256):
            prefix = f"{_UPLINK_PREFIX}.{number}"
            if self.centre.connect_here("uplink", f"{prefix}.2/30", f"nwlab{number}", f"{prefix}.1/30"):
                # Who looks at the machine's links sees whose it is.
                subprocess.run(["ip", "link", "set", f"nwlab{number}", "alias", self.directory], check=True)
                return f"{prefix}.2"
        raise RuntimeError("256 labs run on this machine")


def _bridges() -> str:
    # Without an address of its own a bridge takes one of its ports', and changes it when they do.
    return "\n".join(
        f"ip link add {network} address {mac_address(IPv4Address(f'{prefix}.{_CENTRE}'))} type bridge\n"
        f"ip address add {prefix}.{_CENTRE}/24 dev {network}\n"
        f"ip link set {network} up"
        for network, prefix in NETWORKS.items()
    )
