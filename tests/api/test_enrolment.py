"""Enrolment over REST."""

import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.api.client import Api
from tests.database import SQLITE_ONLY

TOKENS = "/api/ecs/v1/nodes/enrolment-tokens"
AUTHORITY = "/api/ecs/v1/enrolment-authority"


def test_authority_is_told_to_everybody_and_matches_the_token(anybody: Api, operator: Api) -> None:
    told = anybody.client.get(AUTHORITY).json()["data"]
    certificate = x509.load_pem_x509_certificate(told["caPem"].encode())
    fingerprint = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
    made = operator.ok("POST", TOKENS)
    assert made["token"].partition(".")[2] == fingerprint
    assert told["joinAddress"].endswith(":8445")
    assert told["grpcAddress"].endswith(":8444")


def test_token_is_shown_once_with_the_command_to_use_it(operator: Api) -> None:
    made = operator.ok("POST", TOKENS, {"validForSeconds": "600"})
    assert made["joinCommand"].startswith("nodewright-agent join --coordinator https://")
    assert made["joinCommand"].endswith(f"--token {made['token']}")
    listed = operator.ok("GET", TOKENS)
    assert listed["totalCount"] == 1
    assert listed["list"][0]["tokenId"] == made["tokenId"]
    assert listed["list"][0]["nodeId"] is None
    assert made["token"] not in str(listed)


def test_withdrawn_token_is_gone(operator: Api) -> None:
    made = operator.ok("POST", TOKENS)
    operator.ok("DELETE", f"{TOKENS}/{made['tokenId']}")
    assert operator.ok("GET", TOKENS)["totalCount"] == 0
    assert operator.refused("DELETE", f"{TOKENS}/{made['tokenId']}").code == "ECS.DBGet.NoData"


@SQLITE_ONLY
@pytest.mark.parametrize("seconds", [0, -1, 30 * 24 * 3600 + 1, "soon"])
def test_bad_life_names_the_field(operator: Api, seconds: object) -> None:
    assert operator.refused("POST", TOKENS, {"validForSeconds": seconds}).message.startswith("validForSeconds:")


def test_tenants_do_not_enrol(customer: Api) -> None:
    assert customer.refused("POST", TOKENS).code == "ECS.OperationDenied.Identity"
    assert customer.refused("GET", TOKENS).code == "ECS.OperationDenied.Identity"
