"""Everything loses its power at once: what ran comes up again by itself, with its data; what was off stays off."""

import time
from typing import Any

import pytest

from tests.lab.cloud import Cloud, Instance
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("lab")]

ADDRESS = "ip -4 -o address show dev eth0 | awk '{print $4}'"
BOOT_SECONDS = 90
# Longer than a sweep takes to notice what is to be started.
QUIET_SECONDS = 6


def kinds_of(cloud: Cloud, instance: Instance) -> list[str]:
    """What was told of the instance, the newest first."""
    events = cloud.rest.get("/api/ecs/v1/events/list", resource=instance.id, pageSize=100)["list"]
    return [event["kind"] for event in events]


def node_events(cloud: Cloud) -> list[dict[str, Any]]:
    """What was told of reboots."""
    events = cloud.rest.get("/api/ecs/v1/events/list", kind="node.rebooted", pageSize=100)["list"]
    return [event["data"] for event in events]


def lose_power(cloud: Cloud) -> None:
    """Host and coordinator are killed and started, the coordinator first."""
    cloud.host.end()
    cloud.lab.coordinator.kill()
    cloud.lab.coordinator.start()
    cloud.lab.boot(cloud.host)
    cloud.host.start_agent()


def test_what_ran_runs_again_and_what_was_off_stays_off(cloud: Cloud) -> None:
    # The key of an encrypted disk is not on the node: it has to ask for it anew.
    disk = {"isOsDisk": True, "bootIndex": 1, "volumeSize": 1, "volumeType": "essd", "deleteOnTermination": True}
    ran, off = (cloud.create_instance(displayName=name, volumes=[disk]) for name in ("ran", "off"))
    for instance in (ran, off):
        instance.wait_for_status("Running")
    off.succeed(off.power("stop", gracePeriodSeconds=0))
    ran.wait_for_guest_agent()
    ran.run(
        "echo kept > /boot/nodewright/marker; sync; dd if=/dev/zero of=/boot/nodewright/last bs=1 count=1 conv=fsync"
    )
    boot_id, address = ran.boot_id(), wait_until(lambda: ran.run(ADDRESS), "it has an address")
    holdings, reboots = cloud.holdings(), len(node_events(cloud))

    lose_power(cloud)

    wait_until(lambda: "instance.started_again" in kinds_of(cloud, ran), "it is started again", BOOT_SECONDS)
    ran.wait_for_status("Running")
    ran.wait_for_guest_agent()
    assert ran.run("cat /boot/nodewright/marker") == "kept"
    assert ran.boot_id() != boot_id
    wait_until(lambda: ran.run(ADDRESS) == address, "it has its address again")
    assert ran.show()["errMessage"] == ""
    assert off.show()["status"] == "Stopped"
    assert cloud.host.domain_state(off.id) == "shut off"
    assert not {"instance.interrupted", "instance.started_again"} & set(kinds_of(cloud, off))
    assert cloud.holdings() == holdings
    assert cloud.rest.get("/api/ecs/v1/placement/differences") == []
    assert [told["interrupted"] for told in node_events(cloud)[: -reboots or None]] == [1]

    # libvirt alone is restarted, and a guest is gone: that is no reboot of the node.
    cloud.host.libvirtd.stop()
    cloud.host.namespace.run("pkill", "-KILL", "qemu-system")
    cloud.host.start_libvirtd()
    wait_until(lambda: ran.show()["status"] == "Stopped", "the end of the guest is told")
    time.sleep(QUIET_SECONDS)
    assert cloud.host.domain_state(ran.id) == "shut off"

    for instance in (ran, off):
        instance.succeed(instance.delete())
