"""A host that dies: its highly available instances answer on another one, with their data, and nowhere twice."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.cloud import Cloud
from tests.lab.lab import Lab
from tests.lab.pair import Pair
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("migration")]

TOLERANCE = 30
# Beyond the tolerance and the guest's own boot.
RECOVERY_SECONDS = 15
BOOT_SECONDS = 30


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


def test_what_a_dead_host_ran_answers_on_another_one(pair: Pair) -> None:
    pair.rest.put("/api/ecs/v1/instances/global-ha-config", {"toleranceTime": TOLERANCE})
    traveller = pair.boot(displayName="traveller", haEnabled=True)
    instance, dead, other = traveller.instance, traveller.host, traveller.other
    # FAT hands nothing on for `sync` alone: what the disk's own cache has would go with the host, as it should.
    instance.run(
        "echo kept > /boot/nodewright/marker; sync; dd if=/dev/zero of=/boot/nodewright/last bs=1 count=1 conv=fsync"
    )
    boot_id = instance.boot_id()
    # The node's watchdog and the coordinator have agreed on the tolerance by now, or do with the next heartbeats.
    time.sleep(5)
    dead.end()
    died_at = time.monotonic()
    wait_until(lambda: instance.show()["status"] == "Unknown", "it is not shown as running", 15)
    wait_until(
        lambda: other.domain_state(instance.id) == "running", "it runs elsewhere", TOLERANCE + 2 * RECOVERY_SECONDS
    )
    # Its last heartbeat was a moment before it died.
    assert TOLERANCE - 3 < time.monotonic() - died_at < TOLERANCE + RECOVERY_SECONDS
    instance.wait_for_guest_agent(BOOT_SECONDS)
    assert instance.show()["nodeName"] == other.name
    assert instance.run("cat /boot/nodewright/marker") == "kept"
    assert instance.boot_id() != boot_id
    kinds = [event["kind"] for event in pair.rest.get("/api/ecs/v1/events/list", pageSize=100)["list"]]
    assert {"ha.instance_recovering", "ha.instance_recovered"} <= set(kinds)
