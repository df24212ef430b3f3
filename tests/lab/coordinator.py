"""The coordinator of the lab, as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab.namespace import Namespace, Process
from tests.lab.rest import Rest
from tests.lab.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]
# On a machine with other things to do.
_START_SECONDS = 90
PROGRAM = Path(sys.executable).parent / "nodewright-coordinator"


class CoordinatorProcess:
    """`nodewright-coordinator serve` in a machine of the lab."""

    def __init__(
        self, namespace: Namespace, directory: Path, address: str, node_side_address: str, first_port: int = 8443
    ) -> None:
        """`address` is where the tests reach it, `node_side_address` where the hosts do; it takes three ports."""
        self.state_dir = directory / "coordinator"
        # Several have their authority, secrets and images in common.
        self.state_dir.mkdir(exist_ok=True)
        self.url = f"https://{address}:{first_port}"
        self.node_side_url = f"https://{node_side_address}:{first_port}"
        self.grpc_address = f"{node_side_address}:{first_port + 1}"
        self.environment: dict[str, str] = {
            "NODEWRIGHT_COORDINATOR_STATE_DIR": str(self.state_dir),
            "NODEWRIGHT_COORDINATOR_REST_LISTEN": f"0.0.0.0:{first_port}",
            "NODEWRIGHT_COORDINATOR_GRPC_LISTEN": f"0.0.0.0:{first_port + 1}",
            "NODEWRIGHT_COORDINATOR_JOIN_LISTEN": f"0.0.0.0:{first_port + 2}",
            "NODEWRIGHT_COORDINATOR_PUBLIC_HOSTS": f'["{node_side_address}", "{address}"]',
            # Longer than this machine is likely to stand still.
            "NODEWRIGHT_COORDINATOR_NODE_LEASE": "PT20S",
            "NODEWRIGHT_COORDINATOR_HEARTBEAT_INTERVAL": "PT1S",
            "NODEWRIGHT_COORDINATOR_STOP_GRACE": "PT20S",
            "NODEWRIGHT_COORDINATOR_NEW_SYSTEM_GRACE": "PT60S",
            "NODEWRIGHT_COORDINATOR_RESERVED_HOST_MEMORY_MIB": "0",
            "NODEWRIGHT_COORDINATOR_ENCRYPTED_VOLUME_TYPES": '["essd"]',
        }
        log = directory / f"coordinator-{first_port}.log"
        self._process = Process(namespace, "coordinator", (PROGRAM, "serve"), log)

    def lose_nodes_soon(self) -> None:
        """Nodes count as away after six seconds; for tests that wait for it, before the first start."""
        self.environment["NODEWRIGHT_COORDINATOR_NODE_LEASE"] = "PT6S"

    @property
    def ca(self) -> Path:
        """The certificate of the coordinator's authority."""
        return self.state_dir / "pki/ca.crt"

    @property
    def log(self) -> Path:
        """Its output."""
        return self._process.log

    @property
    def pid(self) -> int:
        """The process as seen from here."""
        return self._process.pid

    def start(self, argv: Sequence[str | Path] | None = None, environment: Mapping[str, str] | None = None) -> None:
        """It runs and is ready; a launcher with an injected fault goes into `argv`."""
        self._process.start(argv, self.environment | dict(environment or {}))
        wait_until(self.is_ready, "the coordinator is ready", _START_SECONDS)

    def start_faulty(self, point: str) -> None:
        """It is ready, and kills itself at this commit of a task."""
        launcher = (sys.executable, "-m", "tests.lab.faulty_coordinator", point)
        self.start(launcher, {"PYTHONPATH": str(CHECKOUT)})

    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process.is_running()

    def is_ready(self) -> bool:
        """Whether its REST interface answers."""
        assert self._process.is_running(), f"the coordinator ended, see {self.log}"
        return self.ca.exists() and self.client("").is_ready()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def pause(self) -> None:
        """SIGSTOP: it stands still until `resume`."""
        self._process.pause()

    def resume(self) -> None:
        """It goes on."""
        self._process.resume()

    def stop(self) -> None:
        """SIGTERM, and it ended in time."""
        self._process.stop()

    def wait(self, timeout_seconds: float) -> int:
        """How it ended by itself, as a launcher with a fault does: a signal as its negative number."""
        return self._process.wait(timeout_seconds)

    def create_token(self, role: str = "operator") -> str:
        """A REST token, made on the coordinator's machine as its first operator does."""
        done = subprocess.run(
            [PROGRAM, "create-token", "--role", role],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | self.environment,
        )
        return done.stdout.strip().splitlines()[-1]

    def client(self, token: str) -> Rest:
        """A REST client with this token."""
        return Rest(self.url, token, self.ca)
