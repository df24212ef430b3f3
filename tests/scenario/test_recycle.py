"""The recycle bin with a real guest: back it comes as it was, and when it goes for good nothing is left."""

from collections.abc import Iterator

import pytest

from tests.lab.cloud import INSTANCES, Cloud, Instance
from tests.lab.rest import RestError
from tests.lab.waiting import wait_until
from tests.scenario.leftover import find_leftovers
from tests.scenario.test_recovery import killed_agent, killed_coordinator

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("storage")]

CONFIG = f"{INSTANCES}/recycle-config"
RECYCLE = "/api/ecs/v1/recycle"
BIN = f"{RECYCLE}/instances"
SNAPSHOTS = "/api/ecs/v1/snapshot"
MIB = 1024**2
# Of the data disk, to its own end: nothing boots from it.
WRITE = "dd if=/dev/urandom of=/tmp/p bs=1M count=4; dd if=/tmp/p of={disk} bs=1M conv=fsync; sha256sum < /tmp/p"
READ = f"head -c {4 * MIB} {{disk}} | sha256sum"


@pytest.fixture
def kept(cloud: Cloud) -> Iterator[Instance]:
    """A running instance with a data disk, while the bin is on."""
    cloud.rest.put(CONFIG, {"enable": True, "freezeTime": 1})
    disk = {"isOsDisk": False, "volumeSize": 1, "volumeType": "hdd", "deleteOnTermination": True}
    disks = [disk | {"isOsDisk": True, "bootIndex": 1}, disk]
    instance = cloud.create_instance(displayName="to be kept", volumes=disks)
    instance.wait_for_status("Running")
    instance.wait_for_guest_agent()
    yield instance
    cloud.rest.put(CONFIG, {"enable": False, "freezeTime": 1})
    if instance.exists():
        instance.succeed(purge(cloud, instance) if is_in_bin(cloud, instance) else instance.delete())


def is_in_bin(cloud: Cloud, instance: Instance) -> bool:
    try:
        return bool(cloud.rest.get(f"{BIN}/{instance.id}")["status"] == "SoftDeleted")
    except RestError:
        return False


def purge(cloud: Cloud, instance: Instance) -> str:
    """Asks for the end of what is in the bin; the operation's id."""
    return cloud.rest.request("DELETE", f"{BIN}/{instance.id}").headers["x-operation-id"]


def find_data_disk(instance: Instance) -> str:
    """The guest's name of its data disk, by its serial."""
    [uuid] = [it["volumeUuid"] for it in instance.show()["blockDeviceMappings"] if not it["isOSDisk"]]
    serial = uuid.removeprefix("volume-").replace("-", "")[:20]
    return "/dev/" + instance.run(f"grep -l {serial} /sys/block/vd*/serial").split("/")[3]


def restore(cloud: Cloud, instance: Instance) -> None:
    """Takes it out of the bin, and boots it."""
    cloud.rest.request("PUT", f"{BIN}/{instance.id}")
    assert instance.show()["status"] == "Stopped"
    instance.succeed(instance.power("start"))
    instance.wait_for_guest_agent()


def test_a_guest_comes_back_whole_and_leaves_nothing_when_it_goes(cloud: Cloud, kept: Instance) -> None:
    written = kept.run(WRITE.format(disk=find_data_disk(kept)))
    before, holdings = kept.show(), cloud.holdings()
    address, traces = kept.run("ip -4 -o addr show eth0"), kept.traces()
    kept.succeed(kept.delete(), timeout_seconds=180)
    assert cloud.host.domain_state(kept.id) == "shut off"
    assert (is_in_bin(cloud, kept), cloud.find_instances("to be kept")) == (True, [])
    # What it has nobody else can have meanwhile, and nobody starts it.
    assert cloud.holdings() == holdings
    assert cloud.rest.get("/api/ecs/v1/placement/differences") == []
    with pytest.raises(RestError, match=r"Status\.NotSupported"):
        kept.power("start")

    restore(cloud, kept)
    assert kept.run(READ.format(disk=find_data_disk(kept))) == written
    assert kept.run("ip -4 -o addr show eth0") == address
    after = kept.show()
    for name in ("networkMappings", "nodeName", "flavorId", "SSHKeyPairs"):
        assert after[name] == before[name]

    kept.succeed(kept.delete(), timeout_seconds=180)
    kept.succeed(purge(cloud, kept))
    assert (kept.exists(), find_leftovers(cloud, *traces)) == (False, [])


def test_the_way_into_the_bin_survives_kills(cloud: Cloud, kept: Instance) -> None:
    written = kept.run(WRITE.format(disk=find_data_disk(kept)))
    # The guest is off, and nobody knows it yet.
    with killed_coordinator(cloud, "recycle_instance.stop.result.before"):
        kept.delete()
    wait_until(lambda: is_in_bin(cloud, kept), "it is in the bin", timeout_seconds=180)
    restore(cloud, kept)
    with killed_agent(cloud, "after", "DomainService/EnsureStopped"):
        kept.delete()
    wait_until(lambda: is_in_bin(cloud, kept), "it is in the bin", timeout_seconds=180)
    restore(cloud, kept)
    assert kept.run(READ.format(disk=find_data_disk(kept))) == written


def test_snapshots_come_back_from_the_bin_and_so_does_their_instance(cloud: Cloud, kept: Instance) -> None:
    disk = find_data_disk(kept)
    before = kept.run(WRITE.format(disk=disk))
    body = {"ecsId": kept.id, "snapshotName": "kept"}
    kept.succeed(cloud.rest.request("POST", SNAPSHOTS, json=body).headers["x-operation-id"])
    [snapshot] = cloud.rest.get(SNAPSHOTS, ecsid=kept.id)["ecsSnapshots"]
    after = kept.run(WRITE.format(disk=disk))
    path, in_bin = f"{SNAPSHOTS}/{snapshot['ecsSnapshotId']}", f"{RECYCLE}/snapshot/{snapshot['ecsSnapshotId']}"
    # Deleted, it is kept with its data; restored, it is what the instance can be put back to.
    assert "x-operation-id" not in cloud.rest.request("DELETE", path).headers
    with pytest.raises(RestError, match="NoData"):
        cloud.rest.get(path)
    [listed] = cloud.rest.get(RECYCLE, ecsId=kept.id)["list"]
    assert (listed["instanceId"], listed["associatedEcsId"]) == (snapshot["ecsSnapshotId"], kept.id)
    assert kept.run(READ.format(disk=disk)) == after
    cloud.rest.request("PUT", in_bin)
    # The instance takes it along into the bin, and back.
    kept.succeed(kept.delete(), timeout_seconds=180)
    cloud.rest.request("PUT", f"{BIN}/{kept.id}")
    kept.succeed(cloud.rest.request("POST", f"{path}/rollback").headers["x-operation-id"])
    kept.succeed(kept.power("start"))
    kept.wait_for_guest_agent()
    assert kept.run(READ.format(disk=find_data_disk(kept))) == before != after

    traces = kept.traces()
    cloud.rest.request("DELETE", path)
    kept.succeed(cloud.rest.request("DELETE", in_bin).headers["x-operation-id"])
    assert kept.run(READ.format(disk=find_data_disk(kept))) == before
    kept.succeed(kept.delete(), timeout_seconds=180)
    kept.succeed(purge(cloud, kept))
    assert find_leftovers(cloud, *traces, snapshot["ecsSnapshotId"]) == []
