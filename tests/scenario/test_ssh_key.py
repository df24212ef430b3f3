"""SSH keys, passwords and host names in a real guest, through its guest agent."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.lab.cloud import Cloud, Instance
from tests.lab.waiting import wait_until
from tests.scenario.test_recovery import commits, killed_agent, killed_coordinator

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("lab")]

KEYS = "/api/ecs/v1/ssh-key"
ROOT, DEMO = "/root/.ssh/authorized_keys", "/home/demo/.ssh/authorized_keys"
DROP_IN = "/etc/ssh/sshd_config.d/00-nodewright.conf"
# The demo guest has dropbear: this goes by the drop-in as OpenSSH's sshd does.
SSHD = f"#!/bin/sh\n[ $1 = -t ] && exit 0\ncat {DROP_IN}\n"


@pytest.fixture
def line() -> str:
    """A public key."""
    public = Ed25519PrivateKey.generate().public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() + " scenario"


@pytest.fixture
def key(cloud: Cloud, line: str) -> Iterator[str]:
    """The same, kept in the cloud."""
    tenant = cloud.instance_body()
    owner = {"tenantId": tenant["tenantId"], "departmentId": tenant["departmentId"]}
    key_id = cloud.rest.post(f"{KEYS}/import", {"name": line[-60:], "idRSAPub": line, **owner})["keyPairId"]
    yield key_id
    cloud.rest.post(f"{KEYS}/batch-delete", {"keyPairIds": [key_id]})


def finish(cloud: Cloud, guest: Instance, method: str, path: str, body: object) -> Any:
    """The operation of a call, once it has ended."""
    return guest.finish(cloud.rest.request(method, path, json=body).headers["x-operation-id"])


def is_at_rest(cloud: Cloud, guest: Instance) -> bool:
    """Whether no operation works on the guest."""
    operations = cloud.rest.get("/api/ecs/v1/operations", pageSize=100)["operations"]
    return all(it["state"] not in ("Pending", "Running") for it in operations if it["resourceId"] == guest.id)


def bind(cloud: Cloud, guest: Instance, key: str, password_auth: str) -> Any:
    """What the operations come to."""
    body = {"keyPairId": key, "passwordAuth": password_auth, "ecsIds": [guest.id]}
    return finish(cloud, guest, "POST", f"{KEYS}/bind", body)


def unbind(cloud: Cloud, guest: Instance, key: str) -> Any:
    return finish(cloud, guest, "POST", f"{KEYS}/unbind", {"keyPairId": key, "ecsIds": [guest.id]})


def bindings(cloud: Cloud, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cloud.rest.get(f"{KEYS}/ecs-to-key/bound/{key}")
    return found


def keys_in(guest: Instance) -> tuple[str, str]:
    """What root and the default user admit."""
    return guest.run(f"cat {ROOT} 2>/dev/null || true"), guest.run(f"cat {DEMO} 2>/dev/null || true")


def test_a_key_reaches_a_running_guest_and_leaves_it(cloud: Cloud, guest: Instance, key: str, line: str) -> None:
    assert bind(cloud, guest, key, "yes")["state"] == "Succeeded"
    assert keys_in(guest) == (line, line)
    assert guest.run(f"stat -c '%a %U' {DEMO}") == "600 demo"
    assert unbind(cloud, guest, key)["state"] == "Succeeded"
    assert keys_in(guest) == ("", "")


def test_passwords_are_switched_off_with_sshd_or_the_binding_fails(
    cloud: Cloud, guest: Instance, key: str, line: str
) -> None:
    operation = bind(cloud, guest, key, "no")
    assert (operation["state"], "OpenSSH" in operation["error"]["message"]) == ("Failed", True)
    assert bindings(cloud, key) == []
    wait_until(lambda: keys_in(guest) == ("", "") and is_at_rest(cloud, guest), "the key is gone again")
    encoded = base64.b64encode(SSHD.encode()).decode()
    guest.run(f"echo {encoded} | base64 -d > /usr/sbin/sshd; chmod 755 /usr/sbin/sshd")
    try:
        assert bind(cloud, guest, key, "no")["state"] == "Succeeded"
        assert "PasswordAuthentication no" in guest.run(f"cat {DROP_IN}")
        assert unbind(cloud, guest, key)["state"] == "Succeeded"
        assert guest.run(f"ls {DROP_IN} 2>/dev/null || echo absent") == "absent"
    finally:
        guest.run("rm -f /usr/sbin/sshd")


def test_a_guest_that_was_off_gets_its_key_after_its_next_start(
    cloud: Cloud, guest: Instance, key: str, line: str
) -> None:
    guest.succeed(guest.power("stop", gracePeriodSeconds=0))
    body = {"keyPairId": key, "passwordAuth": "yes", "ecsIds": [guest.id]}
    cloud.rest.post(f"{KEYS}/bind", body)
    assert bindings(cloud, key)[0]["bindState"] == "pending"
    guest.succeed(guest.power("start"))
    guest.wait_for_guest_agent()
    # The node tells when its probe has found the guest agent.
    wait_until(lambda: bindings(cloud, key)[0]["bindState"] == "bound", "the guest was told")
    assert keys_in(guest) == (line, line)
    assert unbind(cloud, guest, key)["state"] == "Succeeded"


def test_a_new_guest_has_a_stored_key(cloud: Cloud, key: str, line: str) -> None:
    instance = cloud.create_instance(keyPairId=key)
    instance.wait_for_status("Running")
    instance.wait_for_guest_agent()
    wait_until(lambda: keys_in(instance) == (line, line), "the seed brought the key")
    assert [pair["keyPairId"] for pair in instance.show()["SSHKeyPairs"]] == [key]
    instance.succeed(instance.delete())


def test_passwords_and_host_names_are_changed(cloud: Cloud, guest: Instance) -> None:
    cloud.rest.post(f"{guest.path}/reset-password", {"user": "root", "password": "Other,1234"})
    shadow = guest.run("grep ^root: /etc/shadow").split(":")[1]
    assert guest.run(f"mkpasswd -m sha512 -S {shadow.split('$')[2]} Other,1234") == shadow
    renamed = finish(cloud, guest, "PUT", f"{guest.path}/reset-hostname", {"hostname": "renamed"})
    assert renamed["state"] == "Succeeded"
    assert guest.run("hostname; cat /etc/hostname").split() == ["renamed", "renamed"]
    finish(cloud, guest, "POST", f"{guest.path}/reset-password", {"password": "screen12"})
    assert "passwd='screen12'" in cloud.host.virsh("dumpxml", "--security-info", guest.id)
    guest.succeed(guest.power("restart", gracePeriodSeconds=0))
    guest.wait_for_guest_agent()
    assert guest.run("hostname") == "renamed"


# Before a commit is as after the one before.
@pytest.mark.parametrize("point", commits("apply_ssh_keys")[1::2])
def test_binding_survives_a_killed_coordinator(cloud: Cloud, guest: Instance, key: str, line: str, point: str) -> None:
    with killed_coordinator(cloud, point):
        cloud.rest.post(f"{KEYS}/bind", {"keyPairId": key, "passwordAuth": "yes", "ecsIds": [guest.id]})
    wait_until(lambda: [it["bindState"] for it in bindings(cloud, key)] == ["bound"], "the key is bound")
    assert keys_in(guest) == (line, line)
    wait_until(lambda: guest.show()["status"] == "Running" and is_at_rest(cloud, guest), "the guest is known to run")
    assert unbind(cloud, guest, key)["state"] == "Succeeded"
    assert keys_in(guest) == ("", "")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_binding_survives_a_killed_agent(cloud: Cloud, guest: Instance, key: str, line: str, moment: str) -> None:
    with killed_agent(cloud, moment, "GuestService/RunCommand"):
        cloud.rest.post(f"{KEYS}/bind", {"keyPairId": key, "passwordAuth": "yes", "ecsIds": [guest.id]})
    wait_until(lambda: [it["bindState"] for it in bindings(cloud, key)] == ["bound"], "the key is bound")
    assert keys_in(guest) == (line, line)
    wait_until(lambda: guest.show()["status"] == "Running" and is_at_rest(cloud, guest), "the guest is known to run")
    assert unbind(cloud, guest, key)["state"] == "Succeeded"
