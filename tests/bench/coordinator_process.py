"""A coordinator in a process of its own, as production starts it, and clients of its REST interface."""

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from tests.lab.waiting import wait_until

REGION: Final = "region0"

_CHECKOUT: Final = Path(__file__).parents[2]
_MIB: Final = 1024**2


class Coordinator:
    """A coordinator that runs; `settings` are by their names in the configuration, in upper case."""

    def __init__(self, directory: Path, settings: Mapping[str, str]) -> None:
        self._state_dir = directory
        self.port = free_port()
        everything = {"STATE_DIR": str(directory), "REST_LISTEN": f"127.0.0.1:{self.port}", **settings}
        environment = {f"NODEWRIGHT_COORDINATOR_{name}": value for name, value in everything.items()}
        with (directory / "coordinator.log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "coordinator.service"],
                env=os.environ | {"PYTHONPATH": str(_CHECKOUT)} | environment,
                stderr=log,
            )
        self._observed = psutil.Process(self._process.pid)

    def is_ready(self) -> bool:
        """Whether it answers."""
        assert self._process.poll() is None, f"it ended; see {self._state_dir / 'coordinator.log'}"
        try:
            return Client(self, "").get("/readyz").startswith(b"{")
        except OSError:
            return False

    def connect(self) -> http.client.HTTPSConnection:
        """A connection that stays."""
        context = ssl.create_default_context(cafile=str(self._state_dir / "pki/ca.crt"))
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=context)

    def rss_mib(self) -> float:
        """What it holds in memory now."""
        return float(self._observed.memory_info().rss / _MIB)

    def peak_rss_mib(self) -> float:
        """The most that it ever held. Source: proc(5), "/proc/pid/status"."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def cpu_seconds(self) -> float:
        """Processor time since it started."""
        times = self._observed.cpu_times()
        return float(times.user + times.system)

    def count_connections(self, port: int) -> int:
        """Connections that others have with it at this port."""
        found = self._observed.net_connections("tcp")
        return sum(it.status == psutil.CONN_ESTABLISHED and it.laddr.port == port for it in found)

    def stop(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait(30)


class Client:
    """Requests with one token over one connection."""

    def __init__(self, coordinator: Coordinator, token: str) -> None:
        self._connection = coordinator.connect()
        self._headers = {"authorization": f"Bearer {token}", "x-regionid": REGION, "accept-language": "en"}

    def get(self, path: str) -> bytes:
        """The body of a success."""
        return self._request("GET", path, None)

    def post(self, path: str, body: object) -> bytes:
        """The body of a success."""
        return self._request("POST", path, json.dumps(body))

    def _request(self, method: str, path: str, body: str | None) -> bytes:
        self._connection.request(method, path, body, self._headers)
        answer = self._connection.getresponse()
        content = answer.read()
        assert answer.status == http.client.OK, content
        return content


@contextmanager
def running(directory: Path, settings: Mapping[str, str]) -> Iterator[Coordinator]:
    """One that answers, and ends with the block."""
    coordinator = Coordinator(directory, settings)
    try:
        wait_until(coordinator.is_ready, "the coordinator is ready")
        yield coordinator
    finally:
        coordinator.stop()


def free_port() -> int:
    """A port of the loopback where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return port_of(server)


def port_of(server: socket.socket) -> int:
    """Where it listens."""
    port: int = server.getsockname()[1]
    return port
