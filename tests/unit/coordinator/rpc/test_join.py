"""How machines become nodes: real TLS, real gRPC, both databases."""

from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from sqlmodel import select

from coordinator.domain.clock import utc_now
from coordinator.pki import Authority
from coordinator.services.enrolment import create_enrolment_token, delete_enrolment_token
from coordinator.store.tables import EnrolmentToken, Node
from protos.coordinator.v1 import join_pb2, join_pb2_grpc
from tests.certificate import a_key_and_request
from tests.unit.coordinator.rpc.conftest import OPERATOR, Cloud, code_of


async def test_machine_with_a_token_becomes_a_node(cloud: Cloud) -> None:
    member = await cloud.join(hostname="host-a", machine_uuid="4c4c4544-0001")
    with cloud.runtime.database.read() as session:
        node = session.get_one(Node, member.node_id)
    assert (node.name, node.machine_uuid, node.ready) == ("host-a", "4c4c4544-0001", False)
    certificate = x509.load_pem_x509_certificate(member.certificate_pem)
    certificate.verify_directly_issued_by(cloud.runtime.authority.certificate)


async def test_token_is_stored_as_a_hash_only(cloud: Cloud) -> None:
    token = cloud.enrolment_token()
    with cloud.runtime.database.read() as session:
        row = session.exec(select(EnrolmentToken)).one()
    assert token not in str(row.model_dump())
    assert token.partition(".")[2] == cloud.runtime.authority.fingerprint


async def test_token_counts_once(cloud: Cloud) -> None:
    token = cloud.enrolment_token()
    await cloud.join(token)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await cloud.join(token, machine_uuid="4c4c4544-0002")
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert code_of(caught.value) == "ECS.OperationDenied.AuthFail"
    with cloud.runtime.database.read() as session:
        assert len(session.exec(select(Node)).all()) == 1


async def test_machine_that_lost_the_answer_asks_again_with_the_same_key(cloud: Cloud) -> None:
    token, machine = cloud.enrolment_token(), a_key_and_request()
    first = await cloud.join(token, machine)
    assert (await cloud.join(token, machine)).node_id == first.node_id


async def test_machine_that_joins_anew_stays_the_same_node(cloud: Cloud) -> None:
    first = await cloud.join(machine_uuid="4c4c4544-0001")
    other = await cloud.join(machine_uuid="4c4c4544-0002")
    again = await cloud.join(machine_uuid="4c4c4544-0001")
    assert again.node_id == first.node_id != other.node_id


@pytest.mark.parametrize("spoil", ["unknown", "expired", "withdrawn"])
async def test_bad_token_is_refused_and_leaves_nothing(cloud: Cloud, spoil: str) -> None:
    made = create_enrolment_token(cloud.runtime, OPERATOR)
    token = made.secret
    if spoil == "unknown":
        token = f"nwe_{'A' * 43}.{cloud.runtime.authority.fingerprint}"
    elif spoil == "expired":
        cloud.runtime.now = lambda: utc_now() + timedelta(hours=1, seconds=1)
    else:
        delete_enrolment_token(cloud.runtime, OPERATOR, made.row.id)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await cloud.join(token)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with cloud.runtime.database.read() as session:
        assert len(session.exec(select(Node)).all()) == 0


@pytest.mark.parametrize(
    ("field", "value"), [("certificate_request_pem", "nonsense"), ("hostname", ""), ("machine_uuid", "a\nb")]
)
async def test_bad_request_names_the_field_and_spares_the_token(cloud: Cloud, field: str, value: str) -> None:
    token = cloud.enrolment_token()
    good = {
        "token": token,
        "certificate_request_pem": a_key_and_request().request_pem.decode(),
        "hostname": "host-a",
        "machine_uuid": "4c4c4544-0001",
    }
    bad = join_pb2.JoinRequest(**{**good, field: value})
    async with cloud.join_channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await join_pb2_grpc.JoinServiceStub(channel).Join(bad, timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field.replace("_", "") in (caught.value.details() or "").lower().replace("_", "")
    assert (await cloud.join(token)).node_id


async def test_guessing_is_held_back(cloud: Cloud) -> None:
    codes = []
    for _ in range(12):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await cloud.join("nwe_guess.0")
        codes.append(caught.value.code())
    assert codes == [grpc.StatusCode.UNAUTHENTICATED] * 10 + [grpc.StatusCode.RESOURCE_EXHAUSTED] * 2


async def test_machine_does_not_talk_to_another_authority(cloud: Cloud, tmp_path: Path) -> None:
    stranger = Authority.open(tmp_path / "stranger")
    options = (("grpc.ssl_target_name_override", "coordinator.nodewright.internal"),)
    trust = grpc.ssl_channel_credentials(stranger.pem)
    async with grpc.aio.secure_channel(f"127.0.0.1:{cloud.servers.join_port}", trust, options) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await join_pb2_grpc.JoinServiceStub(channel).Join(join_pb2.JoinRequest(), timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
