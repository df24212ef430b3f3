"""Keys of encrypted volumes: told to the node that has the volume, and to nobody else."""

import grpc
import pytest
from cryptography.fernet import Fernet

from coordinator.domain.migration import MigrationNetwork, MigrationState, MigrationType
from coordinator.secret import SecretBox, SecretKeyInvalid
from coordinator.services.volume_key import check_keys, make_key
from coordinator.store.tables import Migration, Tenant, Volume
from protos.coordinator.v1 import volume_key_pb2, volume_key_pb2_grpc
from tests.builders import a_flavor, a_flavor_type, a_tenant, a_volume, add, an_instance
from tests.unit.coordinator.rpc.conftest import Cloud, Member


async def ask(cloud: Cloud, member: Member, volume: Volume) -> str:
    """The passphrase; the status when it is refused."""
    async with cloud.peer_channel(member.key_pem, member.certificate_pem) as channel:
        request = volume_key_pb2.GetVolumeKeyRequest(volume_uuid=volume.uuid)
        try:
            return (await volume_key_pb2_grpc.VolumeKeyServiceStub(channel).Get(request, timeout=60)).passphrase
        except grpc.aio.AioRpcError as error:
            return str(error.code())


async def test_only_nodes_that_have_make_or_receive_the_volume_get_its_key(cloud: Cloud) -> None:
    runtime = cloud.runtime
    here = await cloud.join()
    there = await cloud.join(machine_uuid="4c4c4544-0002", hostname="host-b")
    key = make_key(runtime, "ssd", always=True)
    assert make_key(runtime, "ssd") == ""
    tenant: Tenant = a_tenant()
    flavor_type = a_flavor_type()
    flavor = a_flavor(flavor_type)
    new, mine, plain = (
        a_volume(tenant, encryption_key=key, node_id=node_id) for node_id in (None, here.node_id, here.node_id)
    )
    plain.encryption_key = ""
    with runtime.database.write() as session:
        add(session, tenant, flavor_type, flavor, new, mine, plain)
        instance = an_instance(tenant, flavor, node_id=here.node_id)
        add(session, instance)
        mine.instance_id = instance.id
        add(session, mine)
    passphrase = await ask(cloud, here, mine)
    assert len(passphrase) > 40
    assert passphrase not in key
    refused = str(grpc.StatusCode.NOT_FOUND)
    # Nobody's, and nowhere: unless it is being made.
    assert await ask(cloud, here, new) == refused
    with runtime.database.write() as session:
        new.status = "creating"
        add(session, new)
    assert await ask(cloud, here, new) == passphrase
    assert await ask(cloud, there, mine) == await ask(cloud, here, plain) == refused
    move = Migration(
        id="move-1",
        instance_id=instance.id or 0,
        type=MigrationType.LIVE,
        state=MigrationState.RUNNING,
        source_node_id=here.node_id,
        target_node_id=there.node_id,
        network=MigrationNetwork.MANAGE,
        operation_id="op-1",
        created_at=runtime.now(),
        options={},
    )
    with runtime.database.write() as session:
        add(session, move)
    assert await ask(cloud, there, mine) == passphrase
    with runtime.database.write() as session:
        move.state = MigrationState.FAILED
        add(session, move)
    assert await ask(cloud, there, mine) == refused
    check_keys(runtime)
    runtime.secrets = SecretBox(Fernet.generate_key())
    assert await ask(cloud, here, mine) == str(grpc.StatusCode.FAILED_PRECONDITION)
    with pytest.raises(SecretKeyInvalid, match="put that back"):
        check_keys(runtime)
