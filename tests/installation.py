"""A coordinator as an operator runs it: a state directory, commands, and the process itself."""

import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from coordinator.main import app

SECONDS = 60


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Installation:
    """A state directory, and commands that work on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state_dir = directory / "state"
        self.rest_port = free_port()
        self.environment = {
            "NODEWRIGHT_COORDINATOR_STATE_DIR": str(self.state_dir),
            "NODEWRIGHT_COORDINATOR_REST_LISTEN": f"127.0.0.1:{self.rest_port}",
            "NODEWRIGHT_COORDINATOR_GRPC_LISTEN": f"127.0.0.1:{free_port()}",
            "NODEWRIGHT_COORDINATOR_JOIN_LISTEN": f"127.0.0.1:{free_port()}",
        }

    def invoke(self, *arguments: str, **environment: str) -> Result:
        """Runs a command within the test."""
        return CliRunner().invoke(app, arguments, env=self.environment | environment)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "coordinator.main", *arguments],
            env=os.environ | self.environment | environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    @contextmanager
    def serving(self, **environment: str) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            [sys.executable, "-m", "coordinator.main", "serve"],
            env=os.environ | self.environment | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def get(self, path: str, token: str = "") -> Any:
        """The data of an answer."""
        return self.call(path, token)["data"]

    def call(self, path: str, token: str = "", body: Any = None) -> dict[str, Any]:
        """GETs, or POSTs a body; the envelope, also of a refusal. The server's certificate is checked."""
        trust = ssl.create_default_context(cafile=str(self.state_dir / "pki/ca.crt"))
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.rest_port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {token}", "x-regionid": "region0", "content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=SECONDS, context=trust) as answer:
                envelope: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as refusal:
            envelope = json.load(refusal)
        return envelope

    def wait_until_ready(self, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[1]
            try:
                if self.get("/readyz")["status"] == "ready":
                    return
            except OSError:
                time.sleep(0.1)
        pytest.fail("the coordinator does not become ready")
