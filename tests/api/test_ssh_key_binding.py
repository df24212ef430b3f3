"""SSH keys and the instances that they open, with guest agents that do as the test says."""

import threading
from typing import Any

import grpc
import pytest

from coordinator.services.ssh_key_binding import KeySweep
from coordinator.store.tables import Event, Instance, SshKeyBinding, Task
from tests.api.client import Answer, Api
from tests.api.cloud import INSTANCES, Cloud, finish
from tests.api.test_ssh_key import KEYS, public_line
from tests.database import BOTH_DATABASES, SQLITE_ONLY
from tests.scripted_agent import Refusal, ScriptedAgent
from tests.scripted_guest import ScriptedGuest

LINE = public_line(comment="me@laptop")
_UNAVAILABLE = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "GuestAgentUnavailable")


@pytest.fixture
def guest(agent: ScriptedAgent) -> ScriptedGuest:
    """What answers in every guest."""
    agent.guest = made = ScriptedGuest()
    return made


@pytest.fixture
def key(customer: Api, cloud: Cloud) -> str:
    return import_key(customer, cloud, LINE)


@pytest.fixture
def instance(customer: Api, cloud: Cloud, guest: ScriptedGuest) -> str:
    """A running instance."""
    return cloud.create(customer)


def import_key(api: Api, cloud: Cloud, line: str, name: str = "laptop") -> str:
    body = {"name": name, "departmentId": cloud.department.id, "idRSAPub": line}
    return str(api.ok("POST", f"{KEYS}/import", body)["keyPairId"])


def bind(api: Api, key: str, *ecs_ids: str, password_auth: str = "yes") -> Answer:
    body = {"keyPairId": key, "passwordAuth": password_auth, "ecsIds": list(ecs_ids)}
    answer = api.call("POST", f"{KEYS}/bind", body)
    assert (answer.code, answer.data) == ("Success", None), answer
    return answer


def unbind(api: Api, key: str, *ecs_ids: str) -> Answer:
    answer = api.call("POST", f"{KEYS}/unbind", {"keyPairId": key, "ecsIds": list(ecs_ids)})
    assert (answer.code, answer.data) == ("Success", None), answer
    return answer


def stop(api: Api, ecs_id: str) -> None:
    assert finish(api, api.call("PUT", f"{INSTANCES}/{ecs_id}/stop", {"gracePeriodSeconds": 0}))["state"] == "Succeeded"


def start(api: Api, ecs_id: str) -> None:
    assert finish(api, api.call("PUT", f"{INSTANCES}/{ecs_id}/start"))["state"] == "Succeeded"


def report_guest_agent(cloud: Cloud, status: str = "VmtoolsRunning") -> None:
    for row in cloud.rows(Instance):
        cloud.change(row, vmtools_status=status)


def sweep(api: Api, cloud: Cloud, ecs_id: str) -> dict[str, Any]:
    """What the sweep begins for the instance, once it has ended."""
    assert KeySweep(cloud.runtime)() == [ecs_id]
    tasks = sorted((row.created_at, row.id) for row in cloud.rows(Task) if row.kind == "apply_ssh_keys")
    return finish(api, Answer(200, "", "", None, {"x-operation-id": tasks[-1][1]}))


def instances_of(api: Api, key: str, bound: str = "bound") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.ok("GET", f"{KEYS}/ecs-to-key/{bound}/{key}")
    return found


def test_a_running_guest_gets_a_key_for_root_and_its_default_user(
    customer: Api, cloud: Cloud, guest: ScriptedGuest, key: str, instance: str
) -> None:
    operation = finish(customer, bind(customer, key, instance))
    assert (operation["state"], operation["resourceId"]) == ("Succeeded", instance)
    assert guest.keys == {"root": [LINE], "debian": [LINE]}
    assert guest.password_auth == "yes"
    [shown] = instances_of(customer, key)
    assert shown == {
        "ecsId": instance,
        "ecsName": "web",
        "status": "Running",
        "passwordAuth": "yes",
        "bindState": "bound",
    }
    pairs = customer.ok("GET", f"{INSTANCES}/{instance}")["SSHKeyPairs"]
    assert [(pair["keyPairId"], pair["keyPairName"]) for pair in pairs] == [(key, "laptop")]
    assert customer.ok("GET", KEYS)["SSHKeys"][0]["ecsNum"] == 1


def test_binding_again_changes_whether_passwords_are_taken(
    customer: Api, guest: ScriptedGuest, key: str, instance: str
) -> None:
    finish(customer, bind(customer, key, instance))
    assert "x-operation-id" not in bind(customer, key, instance).headers
    assert finish(customer, bind(customer, key, instance, password_auth="no"))["state"] == "Succeeded"
    assert (guest.password_auth, guest.keys["root"]) == ("no", [LINE])


@BOTH_DATABASES
def test_the_newest_binding_decides_about_passwords_and_the_last_one_takes_the_setting_with_it(
    customer: Api, cloud: Cloud, guest: ScriptedGuest, key: str, instance: str
) -> None:
    other = import_key(customer, cloud, public_line(), "other")
    finish(customer, bind(customer, key, instance, password_auth="no"))
    finish(customer, bind(customer, other, instance, password_auth="yes"))
    assert guest.password_auth == "yes"
    finish(customer, unbind(customer, other, instance))
    assert (guest.password_auth, guest.keys["debian"]) == ("no", [LINE])
    finish(customer, unbind(customer, key, instance))
    assert (guest.password_auth, guest.keys) == ("", {"root": [], "debian": []})
    assert cloud.rows(SshKeyBinding) == []


def test_keys_that_others_put_there_stay(customer: Api, guest: ScriptedGuest, key: str, instance: str) -> None:
    guest.keys["root"] = ["ssh-rsa AAAA somebody"]
    finish(customer, bind(customer, key, instance))
    finish(customer, unbind(customer, key, instance))
    assert guest.keys["root"] == ["ssh-rsa AAAA somebody"]


def test_a_key_goes_whatever_comment_it_has_in_the_guest(
    customer: Api, guest: ScriptedGuest, key: str, instance: str
) -> None:
    guest.keys["root"] = [f"{LINE} elsewhere"]
    finish(customer, bind(customer, key, instance))
    assert guest.keys["root"] == [f"{LINE} elsewhere"]
    finish(customer, unbind(customer, key, instance))
    assert guest.keys["root"] == []


@pytest.mark.parametrize("missing", ["guest-ssh-add-authorized-keys", "guest-exec"])
def test_a_guest_agent_that_lacks_a_command_is_told_by_the_other_one(
    customer: Api, guest: ScriptedGuest, key: str, instance: str, missing: str
) -> None:
    guest.enabled.discard(missing)
    assert finish(customer, bind(customer, key, instance))["state"] == "Succeeded"
    assert guest.keys == {"root": [LINE], "debian": [LINE]}


def test_a_guest_agent_that_can_do_nothing_is_told_of_clearly(
    customer: Api, cloud: Cloud, guest: ScriptedGuest, key: str, instance: str
) -> None:
    guest.enabled -= {"guest-ssh-add-authorized-keys", "guest-exec"}
    error = finish(customer, bind(customer, key, instance))["error"]
    assert error["code"] == "ECS.OperationFailed.ExecCmd"
    assert "guest-ssh-add-authorized-keys" in error["message"]
    assert "guest-exec" in error["message"]
    assert instances_of(customer, key) == []


def test_passwords_that_cannot_be_switched_off_make_the_binding_fail_and_the_key_goes_again(
    customer: Api, cloud: Cloud, guest: ScriptedGuest, key: str, instance: str
) -> None:
    guest.sshd_exit = 3
    operation = finish(customer, bind(customer, key, instance, password_auth="no"))
    assert (operation["state"], "OpenSSH" in operation["error"]["message"]) == ("Failed", True)
    assert instances_of(customer, key) == []
    assert guest.keys["root"] == [LINE]
    report_guest_agent(cloud)
    for row in cloud.rows(SshKeyBinding):
        cloud.change(row, not_before=None)
    assert sweep(customer, cloud, instance)["state"] == "Succeeded"
    assert guest.keys == {"root": [], "debian": []}
    assert cloud.rows(SshKeyBinding) == []
    # Where passwords may be used as before there is nothing to be told.
    assert finish(customer, bind(customer, key, instance))["state"] == "Succeeded"


def test_what_a_guest_says_can_be_stored_whatever_it_is(
    customer: Api, guest: ScriptedGuest, key: str, instance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest, "_run", lambda *_: (1, "a\0b"))
    guest.enabled -= {"guest-ssh-add-authorized-keys"}
    operation = finish(customer, bind(customer, key, instance))
    assert operation["state"] == "Failed"
    assert operation["error"]["message"].endswith("a\ufffdb")


def test_without_a_guest_agent_nothing_is_bound_or_unbound(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, key: str, instance: str
) -> None:
    agent.refusals["run_guest_command"] = _UNAVAILABLE
    operation = finish(customer, bind(customer, key, instance))
    assert (operation["state"], operation["error"]["code"]) == ("Failed", "ECS.OperationDenied.Vmtools")
    assert cloud.rows(SshKeyBinding) == []
    assert customer.ok("GET", f"{INSTANCES}/{instance}")["status"] == "Running"
    agent.refusals.clear()
    finish(customer, bind(customer, key, instance))
    agent.refusals["run_guest_command"] = _UNAVAILABLE
    assert finish(customer, unbind(customer, key, instance))["state"] == "Failed"
    assert [item["bindState"] for item in instances_of(customer, key)] == ["bound"]


def test_a_wish_that_fails_leaves_what_the_guest_was_still_to_be_told(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, guest: ScriptedGuest, key: str, instance: str
) -> None:
    finish(customer, bind(customer, key, instance))
    stop(customer, instance)
    unbind(customer, key, instance)
    start(customer, instance)
    agent.refusals["run_guest_command"] = _UNAVAILABLE
    assert finish(customer, bind(customer, key, instance))["state"] == "Failed"
    [row] = cloud.rows(SshKeyBinding)
    assert (row.state, instances_of(customer, key)) == ("removing", [])
    agent.refusals.clear()
    # The key that was to be forgotten is wanted again.
    assert finish(customer, bind(customer, key, instance))["state"] == "Succeeded"
    assert guest.keys["root"] == [LINE]
    # A change of passwords that fails is none.
    guest.sshd_exit = 3
    assert finish(customer, bind(customer, key, instance, password_auth="no"))["state"] == "Failed"
    [item] = instances_of(customer, key)
    assert (item["passwordAuth"], item["bindState"]) == ("yes", "pending")


def test_a_node_that_does_not_admit_the_command_is_named(
    customer: Api, agent: ScriptedAgent, key: str, instance: str
) -> None:
    agent.refusals["run_guest_command"] = Refusal(
        grpc.StatusCode.PERMISSION_DENIED, "GuestAgentCommandForbidden", "this node does not allow guest-ping"
    )
    error = finish(customer, bind(customer, key, instance))["error"]
    assert error["code"] == "ECS.OperationFailed.ExecCmd"
    assert "guest_commands of the node's agent" in error["message"]


def test_an_instance_that_is_off_is_told_when_its_guest_agent_is_up_again(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, guest: ScriptedGuest, key: str, instance: str
) -> None:
    stop(customer, instance)
    assert "x-operation-id" not in bind(customer, key, instance, password_auth="no").headers
    assert [item["bindState"] for item in instances_of(customer, key)] == ["pending"]
    report_guest_agent(cloud)
    assert KeySweep(cloud.runtime)() == []
    start(customer, instance)
    [spec] = agent.specs.values()
    assert list(spec.cloud_init.ssh_public_keys) == [LINE]
    report_guest_agent(cloud, "VmtoolsNotRunning")
    assert KeySweep(cloud.runtime)() == []
    report_guest_agent(cloud)
    assert sweep(customer, cloud, instance)["state"] == "Succeeded"
    assert (guest.keys["debian"], guest.password_auth) == ([LINE], "no")
    assert [item["bindState"] for item in instances_of(customer, key)] == ["bound"]
    assert KeySweep(cloud.runtime)() == []


def test_a_key_whose_removal_cannot_be_seen_stays_bound(
    customer: Api, guest: ScriptedGuest, key: str, instance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(customer, bind(customer, key, instance))
    said = {"words": "failed to read '/root/.ssh/authorized_keys': Permission denied"}

    def refuse(username: str) -> None:
        raise ValueError(said["words"])

    monkeypatch.setattr(guest, "_ssh_get_authorized_keys", refuse, raising=False)
    operation = finish(customer, unbind(customer, key, instance))
    assert (operation["state"], "Permission denied" in operation["error"]["message"]) == ("Failed", True)
    # Perhaps it is gone for one user and not for the other: the guest is told again.
    assert [item["bindState"] for item in instances_of(customer, key)] == ["pending"]
    said["words"] = "failed to read '/root/.ssh/authorized_keys': Failed to open file: No such file or directory"
    assert finish(customer, unbind(customer, key, instance))["state"] == "Succeeded"


@SQLITE_ONLY
@pytest.mark.parametrize("answer", [None, 7, [], {"keys": 1}, {"supported_commands": [3]}])
def test_a_guest_that_answers_nonsense_fails_the_operation_in_its_own_words(
    customer: Api, guest: ScriptedGuest, key: str, instance: str, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    for name in ("_info", "_ssh_get_authorized_keys"):
        with monkeypatch.context() as patched:
            patched.setattr(guest, name, lambda **_: answer, raising=False)
            error = finish(customer, bind(customer, key, instance))["error"]
        assert (error["code"], "makes no sense" in error["message"]) == ("ECS.OperationFailed.ExecCmd", True)


@BOTH_DATABASES
def test_what_is_unbound_while_the_instance_is_off_is_forgotten_at_once_and_by_the_guest_later(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, guest: ScriptedGuest, key: str, instance: str
) -> None:
    finish(customer, bind(customer, key, instance))
    stop(customer, instance)
    unbind(customer, key, instance)
    assert instances_of(customer, key) == []
    # A guest forgets keys that are not there any more, too.
    customer.ok("POST", f"{KEYS}/batch-delete", {"keyPairIds": [key]})
    start(customer, instance)
    assert list(agent.specs.popitem()[1].cloud_init.ssh_public_keys) == []
    assert guest.keys["root"] == [LINE]
    report_guest_agent(cloud)
    sweep(customer, cloud, instance)
    assert guest.keys == {"root": [], "debian": []}
    assert cloud.rows(SshKeyBinding) == []


def test_a_guest_that_does_not_take_it_is_told_again_ever_more_seldom(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, key: str, instance: str
) -> None:
    stop(customer, instance)
    bind(customer, key, instance)
    start(customer, instance)
    report_guest_agent(cloud)
    agent.refusals["run_guest_command"] = _UNAVAILABLE
    pauses = []
    for _ in range(5):
        assert sweep(customer, cloud, instance)["state"] == "Failed"
        [row] = cloud.rows(SshKeyBinding)
        pauses.append(row.not_before - cloud.runtime.now())
        assert KeySweep(cloud.runtime)() == []
        cloud.change(row, not_before=None)
    assert pauses == sorted(pauses)
    [alarm] = [event for event in cloud.rows(Event) if event.kind == "alarm.ssh_key_not_applied"]
    assert (alarm.resource_id, alarm.tenant_id, alarm.data["keyPairId"]) == (instance, cloud.tenant.id, key)
    assert customer.ok("GET", f"{INSTANCES}/{instance}")["errMessage"] == ""


def test_a_key_that_is_bound_is_not_deleted(customer: Api, key: str, instance: str) -> None:
    finish(customer, bind(customer, key, instance))
    answer = customer.refused("POST", f"{KEYS}/batch-delete", {"keyPairIds": [key]})
    assert (answer.code, instance in answer.message) == ("ECS.OperationDenied.InUse", True)


def test_deleting_an_instance_sets_its_keys_free(customer: Api, cloud: Cloud, key: str, instance: str) -> None:
    finish(customer, bind(customer, key, instance))
    finish(customer, customer.call("DELETE", f"{INSTANCES}/{instance}"))
    assert cloud.rows(SshKeyBinding) == []
    customer.ok("POST", f"{KEYS}/batch-delete", {"keyPairIds": [key]})


@pytest.mark.parametrize("field", ["KeyPairId", "keyPairId", "keyPairName"])
def test_a_new_instance_gets_a_stored_key_with_its_seed(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, guest: ScriptedGuest, key: str, field: str
) -> None:
    inline = public_line()
    ecs_id = cloud.create(
        customer, **{field: "laptop" if field == "keyPairName" else key}, sshPublicKeys=[inline, LINE]
    )
    [spec] = agent.specs.values()
    assert list(spec.cloud_init.ssh_public_keys) == [inline, LINE]
    assert [item["ecsId"] for item in instances_of(customer, key)] == [ecs_id]
    assert guest.sent == []
    # It opens the instance no more, though the order named it as well.
    finish(customer, unbind(customer, key, ecs_id))
    [row] = cloud.rows(Instance)
    assert row.ssh_public_keys == [inline]


def test_several_instances_are_bound_together_or_not_at_all(
    customer: Api, cloud: Cloud, guest: ScriptedGuest, key: str, instance: str
) -> None:
    second, paused = cloud.create(customer, displayName="b"), cloud.create(customer, displayName="c")
    finish(customer, customer.call("PUT", f"{INSTANCES}/{paused}/suspend"))
    body = {"keyPairId": key, "passwordAuth": "no", "ecsIds": [instance, second, paused]}
    answer = customer.refused("POST", f"{KEYS}/bind", body)
    assert (answer.code, paused in answer.message) == ("ECS.InvalidParameter.Status.NotSupported", True)
    assert cloud.rows(SshKeyBinding) == []
    operations = bind(customer, key, instance, second).headers["x-operation-id"].split(",")
    assert len(operations) == 2
    resources = set()
    for operation_id in operations:
        operation = finish(customer, Answer(200, "", "", None, {"x-operation-id": operation_id}))
        assert operation["state"] == "Succeeded"
        resources.add(operation["resourceId"])
    assert resources == {instance, second}


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"keyPairId": "sshKey-absent"}, "ECS.DBGet.NoData"),
        ({"keyPairId": None}, "ECS.InvalidParameter"),
        ({"ecsIds": ["ecs-absent"]}, "ECS.DBGet.NoData"),
        ({"ecsIds": []}, "ECS.InvalidParameter"),
        ({"ecsIds": None}, "ECS.InvalidParameter"),
        ({"passwordAuth": "maybe"}, "ECS.InvalidParameter"),
        ({"passwordAuth": None}, "ECS.InvalidParameter"),
    ],
)
def test_a_binding_that_makes_no_sense_is_refused(
    customer: Api, cloud: Cloud, key: str, instance: str, fields: dict[str, Any], code: str
) -> None:
    body = {"keyPairId": key, "passwordAuth": "no", "ecsIds": [instance], **fields}
    assert customer.refused("POST", f"{KEYS}/bind", body).code == code
    assert cloud.rows(SshKeyBinding) == []


def test_an_instance_takes_no_key_while_locked_busy_or_with_windows(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, key: str, instance: str
) -> None:
    body = {"keyPairId": key, "passwordAuth": "no", "ecsIds": [instance]}
    customer.ok("PUT", f"{INSTANCES}/{instance}/lock", {"isLock": True})
    assert "locked" in customer.refused("POST", f"{KEYS}/bind", body).message
    customer.ok("PUT", f"{INSTANCES}/{instance}/lock", {"isLock": False})
    agent.gates["ensure_paused"] = gate = threading.Event()
    suspended = customer.call("PUT", f"{INSTANCES}/{instance}/suspend")
    assert "while operation" in customer.refused("POST", f"{KEYS}/bind", body).message
    gate.set()
    finish(customer, suspended)
    [row] = cloud.rows(Instance)
    cloud.change(row, os_type="windows")
    assert "Windows" in customer.refused("POST", f"{KEYS}/bind", body).message


def test_what_is_not_bound_cannot_be_unbound(customer: Api, key: str, instance: str) -> None:
    for body in (
        {"keyPairId": key, "ecsIds": [instance]},
        {"keyPairId": key, "ecsIds": ["ecs-absent"]},
        {"keyPairId": "sshKey-absent", "ecsIds": [instance]},
    ):
        assert customer.refused("POST", f"{KEYS}/unbind", body).code == "ECS.DBGet.NoData"
    customer.refused("POST", f"{KEYS}/unbind", {"keyPairId": key})


def test_nothing_is_bound_across_tenants(
    customer: Api, stranger: Api, operator: Api, cloud: Cloud, key: str, instance: str
) -> None:
    body = {"keyPairId": key, "passwordAuth": "no", "ecsIds": [instance]}
    assert stranger.refused("POST", f"{KEYS}/bind", body).code == "ECS.DBGet.NoData"
    foreign = operator.ok("POST", "/api/iam/v1/tenants", {"name": "another"})["tenantId"]
    department = operator.ok("POST", "/api/iam/v1/departments", {"tenantId": foreign, "name": "d"})["departmentId"]
    order = {"name": "foreign", "departmentId": department, "idRSAPub": public_line()}
    theirs = operator.ok("POST", f"{KEYS}/import", order)["keyPairId"]
    answer = operator.refused("POST", f"{KEYS}/bind", {**body, "keyPairId": theirs})
    assert (answer.code, "different tenants" in answer.message) == ("ECS.InvalidParameter", True)


@BOTH_DATABASES
def test_both_directions_are_listed_for_who_may_see_them(
    customer: Api, stranger: Api, auditor: Api, cloud: Cloud, key: str, instance: str
) -> None:
    other_key, other = import_key(customer, cloud, public_line(), "other"), cloud.create(customer, displayName="b")
    finish(customer, bind(customer, key, instance))
    assert [item["ecsId"] for item in instances_of(auditor, key)] == [instance]
    [unbound] = instances_of(customer, key, "unbound")
    assert (unbound["ecsId"], unbound["bindState"]) == (other, "")
    [bound] = customer.ok("GET", f"{KEYS}/key-to-ecs/bound/{instance}")
    assert (bound["keyPairId"], bound["ecsNum"]) == (key, 1)
    assert [it["keyPairId"] for it in customer.ok("GET", f"{KEYS}/key-to-ecs/unbound/{instance}")] == [other_key]
    for path in (
        f"ecs-to-key/bound/{key}",
        f"key-to-ecs/bound/{instance}",
    ):
        assert stranger.refused("GET", f"{KEYS}/{path}").code == "ECS.DBGet.NoData"
    for path in ("ecs-to-key/bound/sshKey-absent", "key-to-ecs/unbound/ecs-absent", f"ecs-to-key/perhaps/{key}"):
        customer.refused("GET", f"{KEYS}/{path}")
