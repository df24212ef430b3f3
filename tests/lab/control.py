"""Faults of a lab that runs in another process: asked for over a socket, one request a connection."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

from tests.lab.disk import Disk
from tests.lab.host import Host
from tests.lab.lab import Lab

CABLE_FAULTS = {
    "cut": "the cable to a network is pulled",
    "slow": "a network is slow: everything arrives later, or only so much passes",
    "lose": "a network loses frames",
    "heal": "the network, or all networks, are well again",
}
PROCESS_FAULTS = {
    "kill": "a process (agent, libvirtd, virtlogd, watchdog or a domain's name) is killed; without one, the whole host",
    "start": "a process that was killed runs again; guests are started as instances",
    "pause": "a process stands still",
    "resume": "it goes on",
}
HOST_FAULTS = {
    "boot": "a host that was killed is there again",
    "fill-disk": "the disk of the volumes is full",
    "free-disk": "it has room again",
}
PARAMETERS = ("network", "delay_ms", "rate_mbit", "percent", "process")
_LONGEST_SECONDS = 120
_REQUEST_BYTES = 65536

Parameters = dict[str, object]


class FaultFailed(Exception):
    """It was not made; the message is for people."""


def ask(path: Path, machine: str, fault: str, parameters: Parameters) -> None:
    """Has it done, and waits for that. Raises FaultFailed."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_LONGEST_SECONDS)
        try:
            connection.connect(str(path))
            connection.sendall(json.dumps([machine, fault, parameters]).encode() + b"\n")
            answer = json.loads(connection.makefile().readline())
        except (OSError, ValueError) as failure:
            raise FaultFailed(f"the lab does not answer: {failure}") from failure
    if answer:
        raise FaultFailed(answer)


class Switchboard:
    """Does what is asked for, one after the other."""

    def __init__(self, lab: Lab, changed: Callable[[], None]) -> None:
        """`changed` is called when it listens, and after each fault."""
        self._lab = lab
        self._changed = changed

    def serve(self, path: Path) -> None:
        """Until the end of the process. In its main thread, with which all that it starts would die."""
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            path.chmod(0o600)
            listening.listen()
            self._changed()
            while True:
                connection, _ = listening.accept()
                with connection:
                    connection.settimeout(_LONGEST_SECONDS)
                    self._serve_one(connection)

    def _serve_one(self, connection: socket.socket) -> None:
        answer = ""
        try:
            machine, fault, parameters = json.loads(connection.makefile().readline(_REQUEST_BYTES))
            self.make(machine, fault, parameters)
            self._changed()
        except Exception as failure:  # the lab outlives whatever was asked for
            answer = str(failure) or repr(failure)
        try:
            connection.sendall(json.dumps(answer).encode() + b"\n")
        except OSError as failure:
            print(f"nobody waited for the answer: {failure}", flush=True)

    def make(self, machine: str, fault: str, parameters: Parameters) -> None:
        """Raises FaultFailed, and AssertionError with what a command said."""
        process = str(parameters.get("process", ""))
        if machine == "coordinator":
            self._act_on_coordinator(fault)
            return
        host = self._find(machine)
        if fault == "boot":
            self._boot(host)
        elif not host.namespace.is_alive:
            raise FaultFailed(f"{machine} was killed: boot it first")
        elif fault in CABLE_FAULTS:
            _act_on_cables(host, fault, parameters)
        elif fault in {"fill-disk", "free-disk"}:
            disk = _require_disk(host)
            (disk.fill if fault == "fill-disk" else disk.free)()
        elif fault == "kill" and not process:
            host.end()
        else:
            _act_on_process(host, fault, process)

    def _find(self, name: str) -> Host:
        for host in self._lab.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self._lab.hosts)
        raise FaultFailed(f"there is no {name}; there are {known} and coordinator")

    def _act_on_coordinator(self, fault: str) -> None:
        coordinator = self._lab.coordinator
        acts = {
            "kill": coordinator.kill,
            "start": coordinator.start,
            "pause": coordinator.pause,
            "resume": coordinator.resume,
        }
        if fault not in acts:
            raise FaultFailed(f"the coordinator's process knows {', '.join(acts)}")
        acts[fault]()

    def _boot(self, host: Host) -> None:
        if host.namespace.is_alive:
            raise FaultFailed(f"{host.name} runs")
        self._lab.boot(host)
        host.start_agent()
        host.watchdog.start()


def _act_on_cables(host: Host, fault: str, parameters: Parameters) -> None:
    network = str(parameters.get("network", ""))
    if fault == "heal":
        for cable in [host.cables[network]] if network else host.cables.values():
            cable.heal()
        return
    cable = host.cables[network]
    if fault == "cut":
        cable.cut()
    elif fault == "lose":
        cable.lose(_number(parameters, "percent"))
    else:
        cable.slow(_number(parameters, "delay_ms"), _number(parameters, "rate_mbit"))


def _act_on_process(host: Host, fault: str, name: str) -> None:
    if not name:
        raise FaultFailed(f"{fault}: which process of {host.name}?")
    if fault == "start":
        starts = {
            "agent": host.start_agent,
            "libvirtd": host.start_libvirtd,
            "virtlogd": host.virtlogd.start,
            "watchdog": host.watchdog.start,
        }
        if name not in starts:
            raise FaultFailed(f"start: {', '.join(starts)}; guests are started as instances")
        starts[name]()
        return
    process = host.process(name)
    {"kill": process.kill, "pause": process.pause, "resume": process.resume}[fault]()


def _require_disk(host: Host) -> Disk:
    if host.disk is None:
        raise FaultFailed(f"the volumes of {host.name} are on this machine's own disk, which is not filled")
    return host.disk


def _number(parameters: Parameters, name: str) -> float:
    return float(str(parameters.get(name, 0)))
