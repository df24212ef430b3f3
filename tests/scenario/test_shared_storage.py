"""Guests whose disks both nodes see: nothing is copied, and nothing is removed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.cloud import Cloud
from tests.lab.lab import Lab
from tests.lab.pair import Pair
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("migration")]


@pytest.fixture(scope="module")
def pair(demo_image: Path) -> Iterator[Pair]:
    lab = Lab()
    try:
        yield Pair(lab, demo_image, shares_storage=True)
    finally:
        lab.stop()


@pytest.fixture(scope="module", autouse=True)
def cloud(pair: Pair) -> Cloud:
    """So that a failed test shows the logs of this lab."""
    return pair.cloud


def test_a_guest_on_shared_storage_keeps_its_disk_where_it_is(pair: Pair) -> None:
    storage_ids = {node["storageId"] for node in pair.rest.get("/api/ecs/v1/nodes")["list"]}
    assert len(storage_ids) == 1
    traveller = pair.boot(displayName="traveller")
    instance = traveller.instance
    instance.run("dd if=/dev/urandom of=/boot/nodewright/data bs=1M count=8; sync")
    digest = instance.run("sha256sum /boot/nodewright/data")
    boot_id = instance.boot_id()
    for _ in range(2):
        source, target = traveller.host, traveller.other
        instance.succeed(traveller.migrate(target))
        wait_until(lambda: pair.differences() == [], "all agrees")
        assert pair.copies(instance) == {target.name: "running"}
        assert source.domain_state(instance.id) == "absent"
    assert instance.run("echo 3 > /proc/sys/vm/drop_caches; sha256sum /boot/nodewright/data") == digest
    assert instance.boot_id() == boot_id
    instance.succeed(instance.power("stop", gracePeriodSeconds=1))
    instance.succeed(instance.power("start"))
    instance.wait_for_guest_agent()
    assert instance.run("sha256sum /boot/nodewright/data") == digest
    instance.succeed(instance.delete())
    wait_until(lambda: not list((pair.cloud.lab.directory / "shared").glob("*.qcow2")), "the disk is gone")
