"""SSH keys, passwords and host names on the command line."""

from pathlib import Path

import pytest

from tests.unit.nwctl.builders import DEPARTMENT_ID, INSTANCE_ID, TENANT_ID
from tests.unit.nwctl.conftest import Nwctl, data_of
from tests.unit.nwctl.standin import Reply, StandIn

KEYS = "/api/ecs/v1/ssh-key"
KEY_ID = "sshKey-" + "a" * 14
KEY = {"keyPairId": KEY_ID, "keyPairName": "laptop", "fingerprint": "f" * 32, "ecsNum": 1}
PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"
OWNER = {"tenantId": TENANT_ID, "departmentId": DEPARTMENT_ID, "resourceGroupId": ""}


@pytest.fixture
def cloud(coordinator: StandIn) -> StandIn:
    """A coordinator with one key, and a tenant that asks."""
    whoami = {"role": "tenant", "tenantId": TENANT_ID, "departmentId": DEPARTMENT_ID}
    coordinator.on("GET", "/api/iam/v1/whoami", whoami)
    coordinator.on("GET", KEYS, {"SSHKeys": [KEY], "count": 1})
    return coordinator


def test_a_new_private_key_goes_to_a_file_of_its_owner_alone(cloud: StandIn, nwctl: Nwctl, tmp_path: Path) -> None:
    cloud.on("POST", KEYS, Reply(text=PRIVATE, headers={"x-key-pair-id": KEY_ID}))
    file = tmp_path / "laptop.pem"
    made = nwctl("ssh-key", "create", "laptop", "--type", "rsa", "--file", str(file))
    assert (made.exit_code, KEY_ID in made.stderr, made.stdout) == (0, True, "")
    assert (file.read_text(), file.stat().st_mode & 0o777) == (PRIVATE, 0o600)
    [request] = cloud.asked("POST", KEYS)
    assert request.body == {"name": "laptop", **OWNER, "keyType": "rsa"}
    # What is there is never overwritten, and nothing is asked for.
    assert nwctl("ssh-key", "create", "laptop", "--file", str(file)).exit_code == 2
    assert len(cloud.asked("POST", KEYS)) == 1


def test_without_a_file_it_is_all_of_the_standard_output(cloud: StandIn, nwctl: Nwctl) -> None:
    cloud.on("POST", KEYS, Reply(text=PRIVATE))
    assert nwctl("ssh-key", "create", "laptop").stdout == PRIVATE


def test_a_refused_creation_leaves_no_file(cloud: StandIn, nwctl: Nwctl, tmp_path: Path) -> None:
    cloud.on("POST", KEYS, Reply(status=400, code="ECS.OperationDenied.Repeat", message="taken"))
    file = tmp_path / "laptop.pem"
    made = nwctl("ssh-key", "create", "laptop", "--file", str(file))
    assert (made.exit_code, "taken" in made.stderr, file.exists()) == (1, True, False)


def test_a_key_is_imported_from_its_file(cloud: StandIn, nwctl: Nwctl, tmp_path: Path) -> None:
    cloud.on("POST", f"{KEYS}/import", KEY)
    file = tmp_path / "id.pub"
    file.write_text("ssh-ed25519 AAAA me\n")
    assert data_of(nwctl("ssh-key", "import", "laptop", str(file), "--json")) == KEY
    [request] = cloud.asked("POST", f"{KEYS}/import")
    assert request.body == {"name": "laptop", **OWNER, "idRSAPub": "ssh-ed25519 AAAA me"}
    assert request.headers["idempotency-key"]


def test_a_key_is_bound_unbound_and_deleted_by_name(cloud: StandIn, nwctl: Nwctl) -> None:
    for leaf in ("bind", "unbind", "batch-delete"):
        cloud.on("POST", f"{KEYS}/{leaf}")
    assert nwctl("ssh-key", "bind", "laptop", INSTANCE_ID, "--password-auth", "no").exit_code == 0
    assert nwctl("ssh-key", "unbind", KEY_ID, INSTANCE_ID).exit_code == 0
    assert nwctl("ssh-key", "delete", "laptop").exit_code == 0
    named = {"keyPairId": KEY_ID, "ecsIds": [INSTANCE_ID]}
    assert cloud.asked("POST", f"{KEYS}/bind")[0].body == {**named, "passwordAuth": "no"}
    assert cloud.asked("POST", f"{KEYS}/unbind")[0].body == named
    assert cloud.asked("POST", f"{KEYS}/batch-delete")[0].body == {"keyPairIds": [KEY_ID]}
    assert nwctl("ssh-key", "bind", "laptop", INSTANCE_ID, "--password-auth", "maybe").exit_code == 2


def test_the_instances_of_a_key_are_listed(cloud: StandIn, nwctl: Nwctl) -> None:
    cloud.on("GET", f"{KEYS}/ecs-to-key/bound/{KEY_ID}", [{"ecsId": INSTANCE_ID, "bindState": "pending"}])
    shown = nwctl("ssh-key", "instances", "laptop").stdout
    assert INSTANCE_ID in shown
    assert "pending" in shown


def test_a_password_comes_from_standard_input(coordinator: StandIn, nwctl: Nwctl) -> None:
    path = f"/api/ecs/v1/instances/{INSTANCE_ID}/reset-password"
    coordinator.on("POST", path)
    assert nwctl("instance", "reset-password", INSTANCE_ID, "--user", "ada", stdin="Secret,1234\n").exit_code == 0
    assert nwctl("instance", "reset-password", INSTANCE_ID, "--vnc", stdin="screen12\n").exit_code == 0
    assert [request.body for request in coordinator.asked("POST", path)] == [
        {"user": "ada", "password": "Secret,1234"},
        {"user": "", "password": "screen12"},
    ]


def test_a_host_name_is_set(coordinator: StandIn, nwctl: Nwctl) -> None:
    path = f"/api/ecs/v1/instances/{INSTANCE_ID}/reset-hostname"
    coordinator.on("PUT", path)
    assert nwctl("instance", "set-hostname", INSTANCE_ID, "web-1").exit_code == 0
    assert coordinator.asked("PUT", path)[0].body == {"hostname": "web-1"}
