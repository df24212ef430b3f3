"""The placement service as another scheduler sees it: real gRPC, mutual TLS, both databases."""

from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import grpc
import pytest
from sqlmodel import select

from coordinator.pki import COORDINATOR_NAME, Authority, CoordinatorIdentity
from coordinator.placement.cache import HostCache
from coordinator.placement.claim import claim
from coordinator.rpc.interceptor import ErrorInterceptor, RoleInterceptor
from coordinator.rpc.placement import PlacementServicer
from coordinator.store.database import Database
from coordinator.store.tables.node import Allocation, Node
from protos.agent.v1 import host_pb2
from protos.coordinator.v1 import placement_pb2, placement_pb2_grpc
from tests.builders import a_consumer, a_node, a_request, add, an_inventory

GIB = 1024**3
# In the type stubs only, hence the quotes.
Stub: TypeAlias = "placement_pb2_grpc.PlacementServiceAsyncStub"


@pytest.fixture
def node(database: Database) -> Node:
    added = a_node("node-a")
    with database.write() as session:
        add(session, added, *an_inventory(added, vcpus=4, memory_gib=8, storage_gib=100))
    return added


@pytest.fixture
async def placement(database: Database, tmp_path: Path, node: Node) -> AsyncIterator[Stub]:
    """A stub with a scheduler's certificate."""
    authority = Authority.open(tmp_path / "pki")
    identity = CoordinatorIdentity(authority, tmp_path / "pki", ["localhost"])
    server = grpc.aio.server(interceptors=(ErrorInterceptor(), RoleInterceptor()))
    placement_pb2_grpc.add_PlacementServiceServicer_to_server(PlacementServicer(database, HostCache(database)), server)
    trust = grpc.ssl_server_credentials(
        [(identity.key_pem, identity.cert_pem)], root_certificates=authority.pem, require_client_auth=True
    )
    port = server.add_secure_port("127.0.0.1:0", trust)
    await server.start()
    issued = authority.issue_scheduler("other")
    credentials = grpc.ssl_channel_credentials(authority.pem, issued.key_pem, issued.certificate_pem)
    options = (("grpc.ssl_target_name_override", COORDINATOR_NAME),)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        yield placement_pb2_grpc.PlacementServiceStub(channel)
    await server.stop(0)


def consumer(
    vcpus: int = 1, memory_bytes: int = GIB, storage_bytes: int = GIB, **fields: Any
) -> placement_pb2.Consumer:
    return placement_pb2.Consumer(
        **{"uuid": str(uuid4()), "vcpus": vcpus, "memory_bytes": memory_bytes, "storage_bytes": storage_bytes, **fields}
    )


async def refusal_of(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), raised.value.details() or ""


def allocations(database: Database) -> list[Allocation]:
    with database.read() as session:
        return list(session.exec(select(Allocation)))


async def test_a_claim_is_answered_with_hosts_and_can_be_repeated(
    placement: Stub, database: Database, node: Node
) -> None:
    request = placement_pb2.ClaimRequest(consumers=[consumer(), consumer()])
    first, second = await placement.Claim(request), await placement.Claim(request)
    assert first == second
    assert [(one.consumer_uuid, one.node_name) for one in first.placements] == [
        (one.uuid, node.name) for one in request.consumers
    ]
    rows = allocations(database)
    assert len(rows) == 6
    assert all(row.external for row in rows)


async def test_amounts_are_rounded_up_to_whole_units(placement: Stub, database: Database) -> None:
    await placement.Claim(placement_pb2.ClaimRequest(consumers=[consumer(memory_bytes=1, storage_bytes=GIB + 1)]))
    assert {row.resource_class: row.amount for row in allocations(database)} == {
        "VCPU": 1,
        "MEMORY_MIB": 1,
        "STORAGE_GIB": 2,
    }


async def test_no_room_is_explained(placement: Stub, database: Database) -> None:
    request = placement_pb2.ClaimRequest(consumers=[consumer(memory_bytes=9 * GIB)])
    assert await refusal_of(placement.Claim(request)) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "0/1 hosts: 1 too little memory (wanted 9 GiB, at most 8 GiB free)",
    )
    assert allocations(database) == []


async def test_other_resources_for_the_same_consumer_are_refused(
    placement: Stub,
) -> None:
    taken = consumer()
    await placement.Claim(placement_pb2.ClaimRequest(consumers=[taken]))
    changed = placement_pb2.ClaimRequest(consumers=[consumer(uuid=taken.uuid, vcpus=2)])
    assert (await refusal_of(placement.Claim(changed)))[0] is grpc.StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (placement_pb2.ClaimRequest(), "consumers"),
        (placement_pb2.ClaimRequest(consumers=[consumer(vcpus=0)]), "consumers"),
        (placement_pb2.ClaimRequest(consumers=[consumer(memory_bytes=0)]), "consumers"),
        (placement_pb2.ClaimRequest(consumers=[consumer(uuid="ABC")]), "consumers.uuid"),
        (
            placement_pb2.ClaimRequest(consumers=[consumer(uuid="0" * 8 + "-0000" * 3 + "-" + "0" * 12)] * 2),
            "consumers",
        ),
        (
            placement_pb2.ClaimRequest(
                consumers=[consumer()],
                requirements=placement_pb2.Requirements(architecture=77),  # type: ignore[arg-type]
            ),
            "requirements.architecture",
        ),
        (
            placement_pb2.ClaimRequest(
                consumers=[consumer()],
                requirements=placement_pb2.Requirements(traits=map(str, range(65))),
            ),
            "requirements.traits",
        ),
        (
            placement_pb2.ClaimRequest(
                consumers=[consumer()], requirements=placement_pb2.Requirements(pool_ids=["p" * 256])
            ),
            "requirements.pool_ids",
        ),
        (
            placement_pb2.ClaimRequest(consumers=[consumer(devices=[placement_pb2.DeviceWish(count=1)])]),
            "consumers.devices.kind",
        ),
        (
            placement_pb2.ClaimRequest(
                consumers=[consumer(devices=[placement_pb2.DeviceWish(kind="gpu", milli=1001)])]
            ),
            "consumers.devices",
        ),
    ],
)
async def test_senseless_claims_are_refused_by_field(
    placement: Stub, request_: placement_pb2.ClaimRequest, field: str
) -> None:
    status, details = await refusal_of(placement.Claim(request_))
    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith(f"{field}: ")


async def test_release_frees_and_may_be_repeated(placement: Stub, database: Database) -> None:
    taken = consumer()
    await placement.Claim(placement_pb2.ClaimRequest(consumers=[taken]))
    for _ in range(2):
        await placement.Release(placement_pb2.ReleaseRequest(consumer_uuids=[taken.uuid]))
        assert allocations(database) == []


async def test_too_many_releases_at_once_are_refused(placement: Stub) -> None:
    uuids = [str(uuid4()) for _ in range(1001)]
    refused = await refusal_of(placement.Release(placement_pb2.ReleaseRequest(consumer_uuids=uuids)))
    assert refused[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_allocation_of_an_instance_is_not_released(placement: Stub, database: Database) -> None:
    instance = a_consumer(vcpus=1)
    with database.write() as session:
        claim(session, HostCache(database), a_request(instance))
    refused = await refusal_of(placement.Release(placement_pb2.ReleaseRequest(consumer_uuids=[instance.uuid])))
    assert refused[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert len(allocations(database)) == 3


async def test_explain_tells_each_hosts_reason_and_changes_nothing(
    placement: Stub, database: Database, node: Node
) -> None:
    requirements = placement_pb2.Requirements(architecture=host_pb2.ARCHITECTURE_X86_64)
    fits = await placement.Explain(placement_pb2.ExplainRequest(consumers=[consumer()], requirements=requirements))
    assert [one.node_id for one in fits.placements] == [node.id]
    assert [one.accepted for one in fits.hosts] == [True]
    requirements.architecture = host_pb2.ARCHITECTURE_AARCH64
    misfits = await placement.Explain(placement_pb2.ExplainRequest(consumers=[consumer()], requirements=requirements))
    [verdict] = misfits.hosts
    assert (verdict.accepted, verdict.filter, verdict.reason) == (
        False,
        "architecture",
        "other architecture: wanted arm, available x86",
    )
    assert list(misfits.placements) == []
    assert misfits.summary == "0/1 hosts: 1 other architecture"
    assert allocations(database) == []
