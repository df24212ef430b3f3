"""What nodes are asked for, made from what the database says."""

import pytest

from coordinator.services.password import hash_password, new_vnc_password
from coordinator.tasks.blueprint import dns_label, security_of, traits_of
from protos.agent.v1 import domain_pb2
from tests.builders import a_flavor, a_flavor_type, a_tenant, an_instance


@pytest.mark.parametrize(
    ("architecture", "security_type", "firmware", "tpm", "traits"),
    [
        ("x86", "none", domain_pb2.FIRMWARE_BIOS, domain_pb2.TPM_MODEL_NONE, set()),
        ("x86", "", domain_pb2.FIRMWARE_BIOS, domain_pb2.TPM_MODEL_NONE, set()),
        ("x86", "1.0", domain_pb2.FIRMWARE_BIOS, domain_pb2.TPM_MODEL_1_2, {"vtpm-1.2"}),
        ("x86", "2.0", domain_pb2.FIRMWARE_UEFI, domain_pb2.TPM_MODEL_2_0, {"uefi", "vtpm-2.0"}),
        ("x86", "3.0", domain_pb2.FIRMWARE_UEFI_SECURE_BOOT, domain_pb2.TPM_MODEL_2_0, {"secure-boot", "vtpm-2.0"}),
        ("arm", "none", domain_pb2.FIRMWARE_UEFI, domain_pb2.TPM_MODEL_NONE, {"uefi"}),
    ],
)
def test_a_security_type_decides_firmware_tpm_and_what_the_node_must_offer(
    architecture: str, security_type: str, firmware: int, tpm: int, traits: set[str]
) -> None:
    assert security_of(architecture, security_type) == (firmware, tpm)
    assert traits_of(architecture, security_type) == traits


@pytest.mark.parametrize(
    ("host_name", "label"),
    [
        ("web-1", "web-1"),
        ("Web_Server.eu", "web-server-eu"),
        ("数据库a", "a"),
        ("x" * 80, "x" * 63),
        ("a-" * 32, ("a-" * 32)[:63]),
    ],
)
def test_host_names_become_dns_labels(host_name: str, label: str) -> None:
    instance = an_instance(a_tenant(), a_flavor(a_flavor_type()), host_name=host_name)
    assert dns_label(instance) == label


def test_a_host_name_without_any_letter_dns_knows_gives_way_to_the_id() -> None:
    instance = an_instance(a_tenant(), a_flavor(a_flavor_type()), host_name="数据库")
    assert dns_label(instance) == instance.ecs_id


def test_password_hashes_are_salted_and_no_password_has_none() -> None:
    first, second = hash_password("Admin@123"), hash_password("Admin@123")
    assert first != second
    assert first.split("$")[1] == "6"
    assert hash_password("") == ""


def test_vnc_passwords_are_as_long_as_the_protocol_takes() -> None:
    passwords = {new_vnc_password() for _ in range(20)}
    assert len(passwords) == 20
    assert {len(password) for password in passwords} == {8}
