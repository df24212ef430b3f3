"""Clones of a guest that runs and of one that is off, from REST to what is inside them."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.cloud import INSTANCES, Cloud, Instance
from tests.lab.waiting import wait_until
from tests.scenario.leftover import find_leftovers

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("storage")]

MIB = 1024**2
# SSH host keys are not among them: the demo guest makes new ones at each boot.
IDENTITY = "cat /etc/machine-id; hostname; cat /sys/class/net/eth0/address"


@pytest.fixture
def source(cloud: Cloud) -> Iterator[Instance]:
    """An instance with a data disk beside its system disk."""
    body: dict[str, Any] = cloud.instance_body()
    data = {"volumeSize": 1, "volumeType": "hdd", "deleteOnTermination": True}
    instance = cloud.create_instance(displayName="original", volumes=[*body["volumes"], data])
    instance.wait_for_status("Running")
    instance.wait_for_guest_agent()
    yield instance
    if instance.exists():
        instance.succeed(instance.delete())


def clone(cloud: Cloud, source: Instance, name: str) -> Instance:
    """Another instance with the same disks, once it runs."""
    body: dict[str, Any] = cloud.instance_body(displayName=name)
    body = {key: value for key, value in body.items() if key not in ("volumes", "image")}
    cloud.rest.get(f"{source.path}/check-clone", tenantId=body["tenantId"])
    order = {**body, "sourceEcsId": source.id, "isClone": True}
    answer = cloud.rest.request("POST", f"{source.path}/clone", json=order)
    made = Instance(cloud, answer.json()["data"]["ecsId"])
    assert made.path.startswith(INSTANCES)
    made.succeed(answer.headers["x-operation-id"], 180)
    made.wait_for_guest_agent()
    return made


def data_disk(instance: Instance) -> str:
    """The guest's name of the data disk."""
    uuid = instance.show()["blockDeviceMappings"][1]["volumeUuid"]
    serial = uuid.removeprefix("volume-").replace("-", "")[:20]
    return "/dev/" + instance.run(f"grep -l {serial} /sys/block/vd*/serial").split("/")[3]


def sums(instance: Instance) -> str:
    """Of the pattern on the data disk and of that in the system disk's file system."""
    disk = data_disk(instance)
    # Not what the guest remembers: what is on the disk.
    instance.run("sync; echo 3 > /proc/sys/vm/drop_caches")
    return instance.run(f"head -c {24 * MIB} {disk} | sha256sum; sha256sum < /boot/pattern")


def overwrite(instance: Instance) -> None:
    instance.run(f"dd if=/dev/zero of={data_disk(instance)} bs=1M count=8 conv=fsync; echo new > /boot/pattern; sync")


@pytest.mark.timeout(600)  # three boots
def test_clones_differ_in_identity_alone_and_live_without_their_source(cloud: Cloud, source: Instance) -> None:
    disk = data_disk(source)
    source.run(
        f"head -c {24 * MIB} /dev/urandom > /tmp/p; dd if=/tmp/p of={disk} bs=1M conv=fsync;"
        "head -c 65536 /dev/urandom > /boot/pattern; sync"
    )
    written, boot_id, identity = sums(source), source.boot_id(), source.run(IDENTITY).split()
    first = clone(cloud, source, "of-a-running-one")
    assert source.boot_id() == boot_id
    overwrite(source)
    changed = sums(source)
    assert sums(first) == written != changed
    seen = [identity, first.run(IDENTITY).split()]
    overwrite(first)
    assert sums(source) == changed
    traces = first.traces()
    first.succeed(first.delete())
    assert not find_leftovers(cloud, *traces)

    source.succeed(source.power("stop", gracePeriodSeconds=0))
    second, traces = clone(cloud, source, "of-one-that-is-off"), source.traces()
    assert source.show()["status"] == "Stopped"
    seen.append(second.run(IDENTITY).split())
    assert [len(set(values)) for values in zip(*seen, strict=True)] == [3, 3, 3]
    assert [names[1] for names in seen] == ["original", "of-a-running-one", "of-one-that-is-off"]
    source.succeed(source.delete())
    wait_until(lambda: not find_leftovers(cloud, *traces), "nothing is left of the source")
    assert sums(second) == changed
    traces = second.traces()
    second.succeed(second.delete())
    assert not find_leftovers(cloud, *traces)
