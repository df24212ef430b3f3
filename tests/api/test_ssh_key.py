"""SSH keys over REST: made, imported, listed and deleted."""

import hashlib
from base64 import b64decode
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key
from httpx import Response

from coordinator.runtime import Runtime
from coordinator.store.queries.tenancy import find_tenant_use
from coordinator.store.tables import AuditRecord, SshKey
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud
from tests.database import BOTH_DATABASES, SQLITE_ONLY

KEYS = "/api/ecs/v1/ssh-key"


def public_line(private: Any = None, comment: str = "") -> str:
    private = private or ed25519.Ed25519PrivateKey.generate()
    line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return f"{line} {comment}".strip()


@pytest.fixture
def order(cloud: Cloud) -> dict[str, Any]:
    return {"name": "laptop", "departmentId": cloud.department.id, "tenantId": cloud.tenant.id}


def create(api: Api, order: dict[str, Any]) -> Response:
    headers = {"authorization": f"Bearer {api.token}", "x-regionid": "region0", "accept-language": "en"}
    answer: Response = api.client.post(KEYS, json=order, headers=headers)
    return answer


@pytest.mark.parametrize(
    ("key_type", "kind"), [(None, ed25519.Ed25519PrivateKey), ("rsa", rsa.RSAPrivateKey)], ids=["default", "rsa"]
)
def test_a_new_key_is_answered_as_a_file_and_only_its_public_half_is_kept(
    customer: Api, cloud: Cloud, order: dict[str, Any], key_type: str | None, kind: type
) -> None:
    answer = create(customer, {**order, "name": "钥匙", **({"keyType": key_type} if key_type else {})})
    assert answer.status_code == 200
    assert answer.headers["content-disposition"].startswith('attachment; filename="sshKey-')
    assert answer.headers["content-type"] == "application/x-pem-file"
    private = load_ssh_private_key(answer.content, None)
    assert isinstance(private, kind)
    [row] = cloud.rows(SshKey)
    assert row.public_key == public_line(private)
    assert row.fingerprint == hashlib.md5(b64decode(row.public_key.split()[1])).hexdigest()
    assert b"PRIVATE" not in str(row.model_dump()).encode()
    [shown] = customer.ok("GET", f"{KEYS}?pageSize=10&pageIndex=1")["SSHKeys"]
    assert (shown["keyPairId"], shown["keyPairName"], shown["ecsNum"]) == (row.id, "钥匙", 0)
    cloud.runtime.audit.flush()
    assert [record.resources for record in cloud.rows(AuditRecord) if record.operation == "createSshKey"] == [row.id]
    assert (answer.headers["x-key-pair-id"], answer.headers["x-key-fingerprint"]) == (row.id, row.fingerprint)


def test_an_rsa_key_has_3072_bits(customer: Api, order: dict[str, Any]) -> None:
    private = load_ssh_private_key(create(customer, {**order, "keyType": "rsa"}).content, None)
    assert isinstance(private, rsa.RSAPrivateKey)
    assert private.key_size == 3072


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 128}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"departmentId": None}, "departmentId"),
        ({"departmentId": "1"}, "departmentId"),
        ({"tenantId": "1"}, "tenantId"),
        ({"resourceGroupId": "1"}, "resourceGroupId"),
        ({"keyType": "dsa"}, "keyType"),
    ],
)
def test_a_key_that_cannot_be_made_is_refused(
    customer: Api, cloud: Cloud, order: dict[str, Any], fields: dict[str, Any], named: str
) -> None:
    answer = create(customer, {**order, **fields})
    assert answer.status_code == 400
    assert named in answer.json()["message"]
    assert cloud.rows(SshKey) == []


def test_the_department_tells_an_operator_s_key_its_tenant(operator: Api, cloud: Cloud, order: dict[str, Any]) -> None:
    answer = operator.ok("POST", f"{KEYS}/import", {**order, "tenantId": "", "idRSAPub": public_line()})
    assert answer["tenantId"] == cloud.tenant.id


def test_an_imported_key_is_kept_in_its_one_form(customer: Api, cloud: Cloud, order: dict[str, Any]) -> None:
    line = public_line()
    made = customer.ok("POST", f"{KEYS}/import", {**order, "idRSAPub": f"  {line}   root @\thome \n"})
    [row] = cloud.rows(SshKey)
    assert row.public_key == f"{line} root @ home"
    assert made == {
        "keyPairId": row.id,
        "name": "laptop",
        "fingerprint": hashlib.md5(b64decode(line.split()[1])).hexdigest(),
        "tenantId": cloud.tenant.id,
        "departmentId": cloud.department.id,
        "resourceGroupId": "",
        "SSHKeyPairs": None,
    }


@pytest.mark.parametrize(
    "private",
    [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())],
    ids=["rsa", "ecdsa"],
)
def test_other_types_are_taken(customer: Api, order: dict[str, Any], private: Any) -> None:
    customer.ok("POST", f"{KEYS}/import", {**order, "idRSAPub": public_line(private)})


@SQLITE_ONLY
@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-rsa " + public_line().split()[1],
        'from="10.0.0.1" ' + public_line(),
        public_line() + "\n" + public_line(),
        public_line(rsa.generate_private_key(65537, 1024)),
        "ssh-dss " + public_line().split()[1],
        public_line(comment="x" * 256),
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "x" * 9000,
    ],
    # The keys are made anew by each process that runs tests, and these must agree on names.
    ids=[
        *("empty", "no key", "short", "other type", "options", "two", "short rsa", "dss", "long comment"),
        *("private", "too long"),
    ],
)
def test_what_is_no_good_key_is_refused(customer: Api, cloud: Cloud, order: dict[str, Any], text: str) -> None:
    answer = customer.refused("POST", f"{KEYS}/import", {**order, "idRSAPub": text})
    assert (answer.code, answer.message.startswith("idRSAPub: ")) == ("ECS.InvalidParameter", True)
    assert cloud.rows(SshKey) == []


def test_names_and_keys_are_unique_in_a_tenant(customer: Api, stranger: Api, order: dict[str, Any]) -> None:
    line = public_line()
    customer.ok("POST", f"{KEYS}/import", {**order, "idRSAPub": line})
    answer = customer.refused("POST", f"{KEYS}/import", {**order, "idRSAPub": public_line()})
    assert (answer.code, "'laptop'" in answer.message) == ("ECS.OperationDenied.Repeat", True)
    answer = customer.refused("POST", f"{KEYS}/import", {**order, "name": "other", "idRSAPub": f"{line} again"})
    assert (answer.code, "fingerprint" in answer.message) == ("ECS.OperationDenied.Repeat", True)
    assert stranger.refused("POST", f"{KEYS}/import", {**order, "idRSAPub": line}).code.endswith("TenantId.NotFound")


def test_importing_again_with_the_same_idempotency_key_answers_the_same(customer: Api, order: dict[str, Any]) -> None:
    body, headers = {**order, "idRSAPub": public_line()}, {"Idempotency-Key": "once"}
    first = customer.ok("POST", f"{KEYS}/import", body, headers=headers)
    assert customer.ok("POST", f"{KEYS}/import", body, headers=headers) == first


def test_a_tenant_has_a_limited_number_of_keys(customer: Api, runtime: Runtime, order: dict[str, Any]) -> None:
    runtime.settings.ssh_keys_per_tenant = 1
    customer.ok("POST", f"{KEYS}/import", {**order, "idRSAPub": public_line()})
    answer = customer.refused("POST", f"{KEYS}/import", {**order, "name": "b", "idRSAPub": public_line()})
    assert answer.code == "ECS.OperationDenied.QuotaExceeded"


@BOTH_DATABASES
def test_keys_are_listed_by_page_name_and_fingerprint(
    customer: Api, stranger: Api, operator: Api, order: dict[str, Any]
) -> None:
    made = [
        customer.ok("POST", f"{KEYS}/import", {**order, "name": name, "idRSAPub": public_line()})
        for name in ("laptop-1", "laptop-2", "desk")
    ]
    listed = customer.ok("GET", f"{KEYS}?pageIndex=1&pageSize=2")
    assert ([key["keyPairName"] for key in listed["SSHKeys"]], listed["count"]) == (["desk", "laptop-2"], 3)
    assert customer.ok("GET", f"{KEYS}?name=laptop")["count"] == 2
    [found] = operator.ok("GET", f"{KEYS}?fingerprint={made[0]['fingerprint'].upper()}")["SSHKeys"]
    assert found["keyPairId"] == made[0]["keyPairId"]
    assert stranger.ok("GET", KEYS) == {"SSHKeys": [], "count": 0}
    for bad in ("pageSize=0", "pageIndex=x", "name=" + "x" * 200, "orderBy=secret", "filter=nothing"):
        customer.refused("GET", f"{KEYS}?{bad}")


def test_all_keys_of_a_deletion_go_or_none(customer: Api, stranger: Api, cloud: Cloud, order: dict[str, Any]) -> None:
    ids = [
        customer.ok("POST", f"{KEYS}/import", {**order, "name": name, "idRSAPub": public_line()})["keyPairId"]
        for name in ("a", "b")
    ]
    for bad in ([*ids, "sshKey-absent"], [], "sshKey", [7]):
        customer.refused("POST", f"{KEYS}/batch-delete", {"keyPairIds": bad})
    assert stranger.refused("POST", f"{KEYS}/batch-delete", {"keyPairIds": ids}).code == "ECS.DBGet.NoData"
    assert len(cloud.rows(SshKey)) == 2
    assert customer.ok("POST", f"{KEYS}/batch-delete", {"keyPairIds": [*ids, ids[0]]}) is None
    assert cloud.rows(SshKey) == []


def test_who_owns_keys_is_not_deleted(customer: Api, operator: Api, cloud: Cloud, order: dict[str, Any]) -> None:
    key = customer.ok("POST", f"{KEYS}/import", {**order, "idRSAPub": public_line()})
    department = f"/api/iam/v1/departments/{cloud.department.id}"
    assert operator.refused("DELETE", department).code == "ECS.OperationDenied.InUse"
    with cloud.runtime.database.read() as session:
        assert find_tenant_use(session, cloud.tenant.id) == "SSH key"
    customer.ok("POST", f"{KEYS}/batch-delete", {"keyPairIds": [key["keyPairId"]]})
    operator.ok("DELETE", department)


@pytest.mark.parametrize("fields", [{"keyPairId": "sshKey-absent"}, {"keyPairName": "absent"}])
def test_an_order_with_an_unknown_key_is_refused(customer: Api, cloud: Cloud, fields: dict[str, str]) -> None:
    answer = customer.refused("POST", INSTANCES, cloud.order(**fields))
    assert (answer.code, "absent" in answer.message) == ("ECS.DBGet.NoData", True)
