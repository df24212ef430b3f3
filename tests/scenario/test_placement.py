"""What placement promises, on a real guest: CPUs of its own, and an explanation that agrees with the hypervisor."""

import os
import re
from collections.abc import Iterator

import pytest

from tests.lab.cloud import INSTANCES, Cloud, Instance

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.xdist_group("lab"),
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs a CPU to dedicate and one for the others"),
]


@pytest.fixture(scope="module")
def dedicated(cloud: Cloud) -> Iterator[Instance]:
    """A running instance with a core of its own."""
    flavor_id = cloud.create_flavor(isDedicatedCPU=True, vNuma=True)
    instance = cloud.create_instance(displayName="dedicated", flavorId=flavor_id)
    instance.wait_for_status("Running")
    yield instance
    instance.succeed(instance.delete())


def pins_of(cloud: Cloud, ecs_id: str) -> list[str]:
    """The host CPUs of each vCPU, as libvirt tells them."""
    return re.findall(r"^ *\d+ +(\S+)$", cloud.host.virsh("vcpupin", ecs_id), flags=re.MULTILINE)


def test_the_hypervisor_pins_what_the_claim_assigned(cloud: Cloud, dedicated: Instance) -> None:
    told = cloud.rest.get(f"{INSTANCES}/{dedicated.id}/placement")
    [cell] = told["cells"]
    assert cell["vcpus"] == 1
    assert pins_of(cloud, dedicated.id) == [str(cell["cpus"][0])]
    assert told["nodeName"] == cloud.node(cloud.host)["name"]


def test_others_float_over_the_remaining_cpus(cloud: Cloud, dedicated: Instance, guest: Instance) -> None:
    [cell] = cloud.rest.get(f"{INSTANCES}/{dedicated.id}/placement")["cells"]
    # Those of vCPUs that it may be given later as well.
    for floating in pins_of(cloud, guest.id):
        assert str(cell["cpus"][0]) not in floating.split(",")


def test_dedicated_cpus_are_not_promised_to_others(cloud: Cloud, dedicated: Instance) -> None:
    capacity = cloud.rest.get("/api/ecs/v1/monitor/capacity")["cpu"]
    explained = cloud.rest.post(f"{INSTANCES}/explain-placement", cloud.instance_body(cpus=1, ecsCount=50))
    assert not explained["placeable"]
    assert explained["hosts"][0]["filter"] == "capacity"
    assert capacity["remain"] < 50


def test_nothing_differs_from_what_is_there(cloud: Cloud, dedicated: Instance, guest: Instance) -> None:
    assert cloud.rest.get("/api/ecs/v1/placement/differences") == []
