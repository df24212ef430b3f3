"""The command line, and the whole process as systemd sees it."""

import json
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509
from typer.testing import Result

from tests.installation import SECONDS, Installation
from tests.postgresql import fresh_database


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def test_serves_until_it_is_told_to_end(installation: Installation) -> None:
    """One process for many questions: each start costs seconds."""
    with (
        notified(installation.directory) as (notifications, environment),
        installation.serving(**environment) as process,
    ):
        installation.wait_until_ready(process)
        assert notifications.recv(64) == b"READY=1"
        created = installation.run("create-token", "--role", "operator", "--name", "admin")
        (token,) = created.stdout.splitlines()
        assert created.stderr == ""
        assert token.startswith("nwt_")
        assert installation.get("/api/iam/v1/whoami", token)["role"] == "operator"
        assert [tenant["name"] for tenant in installation.get("/api/iam/v1/tenants", token)["list"]] == ["default"]
        [noted] = installation.get("/api/ecs/v1/audit", token)["list"]
        assert (noted["callerId"], noted["method"], noted["operation"]) == ("system", "CLI", "createToken")
        second = installation.run("serve")
        assert second.returncode == 1
        assert "another coordinator uses" in second.stderr
        assert len(second.stderr.strip().splitlines()) == 1
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=SECONDS)
        assert process.returncode == 0
        assert notifications.recv(64) == b"STOPPING=1"
    events = [json.loads(line) for line in log.splitlines()]
    assert events[-1]["event"] == "coordinator.stopped"
    assert token not in log
    assert {stat.S_IMODE(path.stat().st_mode) for path in (installation.state_dir / "pki").iterdir()} == {0o600}


@contextmanager
def notified(directory: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A socket as systemd gives one, and the environment that names it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(directory / "notify"))
        listener.settimeout(SECONDS)
        yield listener, {"NOTIFY_SOCKET": str(directory / "notify")}


@pytest.mark.parametrize("server", ["REST", "GRPC"])
def test_port_in_use_is_told_in_one_line(installation: Installation, server: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        refused = installation.run("serve", **{f"NODEWRIGHT_COORDINATOR_{server}_LISTEN": address})
    assert refused.returncode == 1
    assert refused.stderr.strip().splitlines()[-1].startswith(f"nodewright-coordinator: cannot listen at {address}")
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LOG_LEVEL", "LOUD", "log_level: "),
        ("REST_LISTEN", "8443", "rest_listen: "),
        ("CPU_ALLOCATION_RATIO", "0", "cpu_allocation_ratio: "),
        ("DEFAULT_ZONE", "elsewhere", "default_zone 'elsewhere' is none of the zones"),
        ("TLS_KEY_FILE", "/key", "tls_certificate_file and tls_key_file belong together"),
        ("NODE_LEASE", "PT6S", "node_lease must be at least twice the heartbeat_interval"),
        ("STATE_DIR", "/proc/nodewright", "state_dir /proc/nodewright: "),
        ("DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:9/none", "database: "),
    ],
)
def test_bad_configuration_is_told_in_one_line(installation: Installation, name: str, value: str, told: str) -> None:
    assert told in refusal(installation.invoke("migrate", **{f"NODEWRIGHT_COORDINATOR_{name}": value}))


def test_configuration_file_that_is_not_there_is_told(installation: Installation) -> None:
    assert "/nowhere.toml" in refusal(installation.run("serve", "--config", "/nowhere.toml"))


def refusal(done: Result | subprocess.CompletedProcess[str]) -> str:
    """The one line that a refused command leaves."""
    assert (done.exit_code if isinstance(done, Result) else done.returncode) == 1, done
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("nodewright-coordinator: ")
    return str(line)


def test_openapi_is_printed_without_touching_anything(installation: Installation) -> None:
    document = json.loads(installation.invoke("openapi").stdout)
    assert document["openapi"].startswith("3.1")
    assert document["paths"]["/api/iam/v1/whoami"]["get"]["operationId"] == "getIdentity"
    assert not installation.state_dir.exists()


def test_token_of_a_tenant_needs_one(installation: Installation) -> None:
    assert "tenantId" in refusal(installation.run("create-token", "--role", "tenant"))
    assert "nobody" in refusal(installation.run("create-token", "--role", "tenant", "--tenant", "nobody"))


def test_scheduler_gets_a_certificate(installation: Installation, tmp_path: Path) -> None:
    made = installation.invoke("create-certificate", "--name", "batch", "--out", f"{tmp_path}/out")
    assert made.exit_code == 0, made.stderr
    authority = x509.load_pem_x509_certificate((tmp_path / "out/ca.crt").read_bytes())
    x509.load_pem_x509_certificate((tmp_path / "out/tls.crt").read_bytes()).verify_directly_issued_by(authority)
    assert stat.S_IMODE((tmp_path / "out/tls.key").stat().st_mode) == 0o600


def test_migrate_makes_the_schema(installation: Installation) -> None:
    for _ in range(2):
        assert installation.invoke("migrate").exit_code == 0
    assert (installation.state_dir / "coordinator.db").exists()


@pytest.mark.postgresql
def test_postgresql_is_migrated_only_when_that_is_asked_for(installation: Installation, postgresql_url: str) -> None:
    with fresh_database(postgresql_url, f"nw_{uuid4().hex[:16]}") as url:
        named = {"NODEWRIGHT_COORDINATOR_DATABASE_URL": url}
        assert "nodewright-coordinator migrate" in refusal(installation.run("create-token", **named))
        assert installation.invoke("migrate", **named).exit_code == 0
        assert installation.run("create-token", **named).stdout.startswith("nwt_")
