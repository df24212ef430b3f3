"""Two hosts of a cloud between which guests can move."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.cloud import INSTANCES, Cloud, Instance
from tests.lab.host import CHECKOUT, VOLUMES, Host
from tests.lab.lab import Lab
from tests.lab.rest import Rest
from tests.lab.waiting import wait_until


class Pair:
    """A cloud whose hosts have addresses in the networks for management and storage."""

    def __init__(self, lab: Lab, image: Path, *, shares_storage: bool = False, coordinators: str = "") -> None:
        """`coordinators` are the addresses that agents shall know, instead of the one they joined."""
        made = [lab.add_host() for _ in range(2)]
        self.cloud = Cloud(lab, image)
        for host in made:
            if shares_storage:
                share_storage(host, lab.directory / "shared")
            host.agent_environment["NODEWRIGHT_AGENT_COORDINATOR_ADDRESS"] = coordinators
            join_peer(self.cloud, host)

    @property
    def rest(self) -> Rest:
        """An operator's calls."""
        return self.cloud.rest

    def boot(self, **changes: object) -> "Traveller":
        """An instance whose guest agent answers."""
        instance = self.cloud.create_instance(**changes)
        instance.wait_for_status("Running")
        instance.wait_for_guest_agent()
        return Traveller(self, instance)

    def set_network(self, network: str) -> None:
        """Migrations take this one from now on."""
        body = {"globalNetwork": network, "nodeInfoMethod": "ccos-api"}
        self.rest.put("/api/ecs/v1/global-config/network-config", body)

    def copies(self, instance: Instance) -> dict[str, str]:
        """Hosts that have a domain of the instance, and its state there."""
        states = {host.name: host.domain_state(instance.id) for host in self.cloud.lab.hosts}
        return {name: state for name, state in states.items() if state != "absent"}

    def disks(self, instance: Instance) -> list[Path]:
        """The files of its disks in storage that the hosts share, as seen from here."""
        names = [disk["volumeUuid"].removeprefix("volume-") for disk in instance.show()["blockDeviceMappings"]]
        return [self.cloud.lab.directory / f"shared/{name}.qcow2" for name in names]

    def differences(self) -> list[Any]:
        """What the coordinator finds that does not agree."""
        found: list[Any] = self.rest.get("/api/ecs/v1/placement/differences")
        return found

    @contextmanager
    def watch(self, uuid: str) -> Iterator[list[tuple[float, int]]]:
        """When (seconds since 1970) the QEMUs of a guest, on all hosts, became how many; known after the block."""
        counts: list[tuple[float, int]] = []
        argv = (sys.executable, "-m", "tests.lab.watching", uuid)
        environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as watching:
            assert watching.stdout is not None
            first = watching.stdout.readline()
            try:
                yield counts
            finally:
                watching.kill()
                lines = [line.split() for line in (first, *watching.stdout)]
                counts += [(float(at), len(processes)) for at, *processes in lines]

    def kill_guests(self, host: Host) -> None:
        """Every QEMU of the host is gone at once."""
        host.namespace.run("pkill", "-KILL", "qemu-system", check=False)

    def mend(self) -> None:
        """All hosts, cables and the coordinator are as before what was killed or cut."""
        lab = self.cloud.lab
        for host in lab.hosts:
            for cable in host.cables.values():
                cable.heal()
            if not host.libvirtd.is_running():
                host.start_libvirtd()
            if not host.agent.is_running():
                host.start_agent()
        if not lab.coordinator.is_running():
            lab.coordinator.start()
        for host in lab.hosts:
            self.cloud.wait_for_node(host)

    def bytes_sent(self, host: Host) -> dict[str, int]:
        """What went out on each of its networks."""
        counters = "/sys/class/net/{}/statistics/tx_bytes"
        return {
            network: int(host.namespace.run("cat", counters.format(network)))
            for network in ("manage", "storage", "business")
        }


def share_storage(host: Host, directory: Path) -> None:
    """The host's volumes are in that directory, also after it was ended and booted."""
    directory.mkdir(exist_ok=True)
    host.namespace.mount(directory, VOLUMES)


def join_peer(cloud: Cloud, host: Host) -> None:
    """The host is a node with addresses in the networks for management and storage, and admits guests of others."""
    host.agent_environment |= {
        "NODEWRIGHT_AGENT_MANAGE_NETWORK": "manage",
        "NODEWRIGHT_AGENT_STORAGE_NETWORK": "10.91.0.0/24",
    }
    cloud.join(host)
    host.serve_peers()
    host.watchdog.start()


class Traveller:
    """An instance that moves."""

    def __init__(self, pair: Pair, instance: Instance) -> None:
        self.instance = instance
        self._pair = pair

    @property
    def host(self) -> Host:
        """Where it is."""
        name = self.instance.show()["nodeName"]
        return next(host for host in self._pair.cloud.lab.hosts if host.name == name)

    @property
    def other(self) -> Host:
        """Where it is not."""
        return next(host for host in self._pair.cloud.lab.hosts if host is not self.host)

    def migrate(self, target: Host, **options: object) -> str:
        """Asks for a live migration; the operation's id."""
        body = {"nodeName": target.name, **options}
        response = self._pair.rest.request("POST", f"{self.instance.path}/live-migrate", json=body)
        return str(response.headers["x-operation-id"])

    def cancel(self) -> None:
        """Asks for the end of its live migration."""
        self._pair.rest.request("DELETE", f"{self.instance.path}/live-migrate")

    def moves(self) -> list[dict[str, Any]]:
        """All of its migrations, the newest first."""
        found: list[dict[str, Any]] = self._pair.rest.get(f"{INSTANCES}/{self.instance.id}/migrations")["list"]
        return found

    def wait_for_progress(self, operation_id: str, text: str) -> None:
        """The operation tells this."""
        path = f"/api/ecs/v1/operations/{operation_id}"
        wait_until(lambda: text in self._pair.rest.get(path)["message"], f"{operation_id} tells {text!r}", 60)

    def uptime(self) -> float:
        """Of the guest, by its own clock."""
        return float(self.instance.run("cut -d' ' -f1 /proc/uptime"))
