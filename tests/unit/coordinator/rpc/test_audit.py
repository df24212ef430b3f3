"""What other schedulers do over gRPC is in the audit log, what they are refused too."""

from uuid import uuid4

import grpc
import pytest

from coordinator.domain.listing import ListQuery
from coordinator.services.audit import list_records
from coordinator.store.tables import AuditRecord
from protos.coordinator.v1 import placement_pb2, placement_pb2_grpc
from tests.builders import a_node, add, an_inventory
from tests.unit.coordinator.rpc.conftest import OPERATOR, Cloud


def audited(cloud: Cloud) -> list[AuditRecord]:
    return list(reversed(list_records(cloud.runtime, OPERATOR, ListQuery()).items))


async def test_claims_and_releases_of_schedulers_are_noted(cloud: Cloud) -> None:
    node = a_node()
    with cloud.runtime.database.write() as session:
        add(session, node, *an_inventory(node))
    issued = cloud.runtime.authority.issue_scheduler("slurm")
    consumer = placement_pb2.Consumer(uuid=str(uuid4()), vcpus=1, memory_bytes=1)
    async with cloud.peer_channel(issued.key_pem, issued.certificate_pem) as channel:
        stub = placement_pb2_grpc.PlacementServiceStub(channel)
        await stub.Claim(placement_pb2.ClaimRequest(consumers=[consumer]))
        await stub.Explain(placement_pb2.ExplainRequest(consumers=[consumer]))
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Claim(placement_pb2.ClaimRequest())
        await stub.Release(placement_pb2.ReleaseRequest(consumer_uuids=[consumer.uuid]))
    claim, refused, release = audited(cloud)
    assert (claim.caller_id, claim.caller_name, claim.role) == ("certificate:slurm", "slurm", "scheduler")
    assert (claim.method, claim.operation, claim.status, claim.code) == ("gRPC", "Claim", 0, "Success")
    assert claim.path == "/nodewright.coordinator.v1.PlacementService/Claim"
    assert claim.source_address in {"127.0.0.1", "::1"}
    assert len(claim.body_digest) == 64
    assert (refused.operation, refused.status, refused.code) == ("Claim", 3, "ECS.InvalidParameter")
    assert (release.operation, release.resources) == ("Release", consumer.uuid)
    assert claim.resources == consumer.uuid
    assert len(claim.request_id) == 36


async def test_who_may_not_claim_is_noted(cloud: Cloud) -> None:
    member = await cloud.join()
    async with cloud.peer_channel(member.key_pem, member.certificate_pem) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await placement_pb2_grpc.PlacementServiceStub(channel).Claim(placement_pb2.ClaimRequest())
    [refused] = audited(cloud)
    assert (refused.role, refused.status, refused.code) == ("agent", 7, "ECS.OperationDenied.Identity")
