"""Instances that become something else under their guests: larger, smaller, asleep, another system."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.cloud import Cloud, Instance
from tests.lab.rest import RestError
from tests.lab.waiting import wait_until
from tests.scenario.leftover import find_leftovers

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("storage"), pytest.mark.timeout(600)]

# Where the image does not reach: a guest's own bytes.
_OFFSET_MIB = 600
_PATTERN_MIB = 8


@pytest.fixture
def changing(cloud: Cloud) -> Iterator[Instance]:
    """An instance with room to grow, which is gone afterwards without a trace."""
    before = cloud.holdings()
    flavor_id = cloud.create_flavor(cpu=1, ram=2)
    instance = cloud.create_instance(displayName="changing", flavorId=flavor_id, memory={"amount": "2Gi"})
    instance.wait_for_status("Running")
    instance.wait_for_guest_agent()
    traces = instance.traces()
    yield instance
    instance.succeed(instance.delete())
    assert find_leftovers(cloud, *traces) == []
    assert cloud.holdings() == before


def _resize(cloud: Cloud, instance: Instance, cpus: int, ram: int) -> str:
    body = {"cpus": cpus, "memory": {"amount": f"{ram}Gi"}, "flavorId": cloud.create_flavor(cpu=cpus, ram=ram)}
    return str(cloud.rest.request("PATCH", instance.path, json=body).headers["x-operation-id"])


def _begin_counting(instance: Instance) -> None:
    """A process in the guest that counts, in its memory alone."""
    instance.run(
        "(i=0; while true; do i=$((i+1)); echo $i > /run/count; sleep 0.2; done) > /dev/null 2>&1 & echo $! > /run/pid"
    )


def _read_count(instance: Instance) -> int:
    """How far it is; fails when it is gone."""
    return int(instance.run("kill -0 $(cat /run/pid) && cat /run/count"))


def _write_pattern(instance: Instance) -> str:
    """The checksum of what is written to the system disk, past the image."""
    instance.run(
        f"dd if=/dev/urandom of=/run/p bs=1M count={_PATTERN_MIB} 2>/dev/null; "
        f"dd if=/run/p of=/dev/vda bs=1M seek={_OFFSET_MIB} conv=notrunc,fsync 2>/dev/null"
    )
    return _read_pattern(instance)


def _read_pattern(instance: Instance) -> str:
    return instance.run(
        f"dd if=/dev/vda bs=1M skip={_OFFSET_MIB} count={_PATTERN_MIB} iflag=direct 2>/dev/null | sha256sum"
    )


def _memory_mib(instance: Instance) -> int:
    return int(instance.run("grep MemTotal /proc/meminfo").split()[1]) // 1024


def _boot_id(instance: Instance) -> str:
    return instance.run("cat /proc/sys/kernel/random/boot_id")


def _held(cloud: Cloud) -> Any:
    return cloud.rest.get("/api/ecs/v1/monitor/capacity")


def test_a_guest_grows_while_it_runs_and_shrinks_by_a_restart(cloud: Cloud, changing: Instance) -> None:
    pattern, boot = _write_pattern(changing), _boot_id(changing)
    _begin_counting(changing)
    small = _memory_mib(changing)
    assert changing.run("nproc") == "1"
    changing.succeed(_resize(cloud, changing, 2, 3))
    assert (changing.run("nproc"), _boot_id(changing)) == ("2", boot)
    assert _memory_mib(changing) - small > 900
    counted = _read_count(changing)
    wait_until(lambda: _read_count(changing) > counted, "it counts on")
    shown = changing.show()
    assert (shown["status"], shown["vCpus"], shown["ram"]) == ("Running", 2, 3 * 1024**3)
    changing.succeed(_resize(cloud, changing, 1, 2), timeout_seconds=180)
    changing.wait_for_guest_agent()
    assert (changing.run("nproc"), _memory_mib(changing)) == ("1", small)
    assert _boot_id(changing) != boot
    assert _read_pattern(changing) == pattern
    assert cloud.rest.get("/api/ecs/v1/placement/differences") == []


def test_a_hibernated_guest_goes_on_after_its_node_was_rebooted(cloud: Cloud, changing: Instance) -> None:
    pattern, boot = _write_pattern(changing), _boot_id(changing)
    _begin_counting(changing)
    pid = changing.run("cat /run/pid")
    changing.succeed(changing.power("hibernate"), timeout_seconds=180)
    changing.wait_for_status("Hibernated")
    assert cloud.host.domain_state(changing.id) == "shut off"
    with pytest.raises(RestError, match=r"Status\.NotSupported"):
        cloud.rest.request("POST", f"{changing.path}/live-migrate", json={"nodeName": "host2"})
    cloud.host.end()
    cloud.lab.boot(cloud.host)
    cloud.host.start_agent()
    cloud.wait_for_sign_of_life(cloud.host)
    changing.wait_for_status("Hibernated")
    changing.succeed(changing.power("start"), timeout_seconds=180)
    changing.wait_for_guest_agent()
    assert (_boot_id(changing), changing.run("cat /run/pid")) == (boot, pid)
    counted = _read_count(changing)
    wait_until(lambda: _read_count(changing) > counted, "it counts on")
    assert _read_pattern(changing) == pattern
    wait_until(lambda: abs(int(changing.run("date +%s")) - time.time()) < 5, "its clock is right")


def test_hibernating_can_be_cancelled_and_what_was_saved_be_given_up(cloud: Cloud, changing: Instance) -> None:
    boot = _boot_id(changing)
    operation = changing.power("hibernate")
    cloud.rest.request("DELETE", f"/api/ecs/v1/operations/{operation}")
    assert changing.finish(operation)["state"] == "Canceled"
    changing.wait_for_status("Running")
    assert _boot_id(changing) == boot
    changing.succeed(changing.power("hibernate"), timeout_seconds=180)
    changing.succeed(changing.power("stop", gracePeriodSeconds=0))
    changing.wait_for_status("Stopped")
    changing.succeed(changing.power("start"))
    changing.wait_for_guest_agent()
    assert _boot_id(changing) != boot


def test_another_system_keeps_the_identity(cloud: Cloud, changing: Instance, demo_image: Path) -> None:
    identity, pattern = _identity(changing), _write_pattern(changing)
    right = cloud.register_image(demo_image, name="second demo")
    changing.succeed(_change_os(cloud, changing, right), timeout_seconds=240)
    shown = changing.show()
    assert (shown["status"], shown["imageId"]) == ("Running", right)
    assert _identity(changing) == identity
    assert _read_pattern(changing) != pattern


def test_a_system_that_does_not_boot_gives_way_to_the_old_one(cloud: Cloud, changing: Instance, tmp_path: Path) -> None:
    pattern, blank = _write_pattern(changing), tmp_path / "blank.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", blank, "64M"], check=True)
    operation = _change_os(cloud, changing, cloud.register_image(blank, name="blank"))
    assert changing.finish(operation, timeout_seconds=240)["state"] == "Failed"
    assert changing.show()["imageId"] == cloud.image_id
    changing.wait_for_guest_agent()
    assert _read_pattern(changing) == pattern


def _identity(instance: Instance) -> str:
    """Its names and addresses, as the guest knows them."""
    return instance.run("hostname; cat /sys/class/net/eth0/address; ip -4 -o addr show eth0 | awk '{print $4}'")


def _change_os(cloud: Cloud, instance: Instance, image_id: str) -> str:
    request = cloud.rest.request("POST", f"{instance.path}/change-os", json={"imageId": image_id})
    return str(request.headers["x-operation-id"])
