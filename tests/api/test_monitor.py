"""Counts and capacity of the region."""

from coordinator.domain.instance import InstanceStatus
from coordinator.domain.placement import ResourceClass
from coordinator.runtime import Runtime
from coordinator.store.tables import Allocation, CellAllocation, Inventory
from tests.api.client import Api
from tests.builders import a_flavor, a_flavor_type, a_node, a_tenant, add, an_instance, an_inventory
from tests.database import BOTH_DATABASES

pytestmark = BOTH_DATABASES

MONITOR = "/api/ecs/v1/monitor"


def test_an_empty_region(operator: Api) -> None:
    counts = {"totalCount": 0, "runningCount": 0, "stoppedCount": 0, "errorCount": 0, "otherCount": 0}
    assert operator.ok("GET", f"{MONITOR}/vmcount") == counts
    nothing = {"allocatable": 0, "usage": 0, "remain": 0}
    assert operator.ok("GET", f"{MONITOR}/capacity") == {
        "cpu": {**nothing, "unit": "cores"},
        "ram": {**nothing, "unit": "Gi"},
    }
    assert operator.speaking("zh").ok("GET", f"{MONITOR}/capacity")["cpu"]["unit"] == "核"


def test_every_status_counts_once(operator: Api, runtime: Runtime) -> None:
    tenant, kind = a_tenant(), a_flavor_type()
    flavor = a_flavor(kind)
    instances = [an_instance(tenant, flavor, status=status) for status in InstanceStatus]
    deleted = an_instance(tenant, flavor, status=InstanceStatus.RUNNING, deleted_at=runtime.now())
    with runtime.database.write() as session:
        add(session, tenant, kind, flavor, *instances, deleted)
    assert operator.ok("GET", f"{MONITOR}/vmcount") == {
        # Those in the recycle bin do not count, as in lists.
        "totalCount": len(InstanceStatus) - 1,
        "runningCount": 1,
        "stoppedCount": 1,
        "errorCount": 4,
        "otherCount": len(InstanceStatus) - 7,
    }


def test_capacity_follows_inventories_ratios_and_allocations(operator: Api, runtime: Runtime) -> None:
    near, far = a_node("near"), a_node("far", ready=False)
    vcpus = Inventory(node_id=near.id, resource_class=ResourceClass.VCPU, total=16, reserved=2, allocation_ratio=3.0)
    memory = Inventory(node_id=near.id, resource_class=ResourceClass.MEMORY_MIB, total=64 * 1024, reserved=512)
    taken = [
        Allocation(consumer_uuid=uuid, node_id=near.id, resource_class=name, amount=amount)
        for uuid in ("one", "two")
        for name, amount in ((ResourceClass.VCPU, 4), (ResourceClass.MEMORY_MIB, 1536))
    ]
    with runtime.database.write() as session:
        add(session, near, far, vcpus, memory, *an_inventory(far), *taken)
    capacity = operator.ok("GET", f"{MONITOR}/capacity")
    assert capacity["cpu"] == {"allocatable": 42, "usage": 8, "remain": 34, "unit": "cores"}
    assert capacity["ram"] == {"allocatable": 63, "usage": 3, "remain": 60, "unit": "Gi"}


def test_a_node_that_keeps_more_than_is_left_takes_nothing_from_the_others(operator: Api, runtime: Runtime) -> None:
    """Sixteen CPUs, all of them reserved after four had been pinned."""
    roomy, full = a_node("roomy"), a_node("full")
    vcpus = Inventory(node_id=full.id, resource_class=ResourceClass.VCPU, total=16, reserved=16, allocation_ratio=2.0)
    pinned = CellAllocation(consumer_uuid="one", node_id=full.id, cell=0, vcpus=4, memory_mib=1024, cpus=[0, 1, 2, 3])
    dedicated = Allocation(consumer_uuid="one", node_id=full.id, resource_class=ResourceClass.DEDICATED_VCPU, amount=4)
    with runtime.database.write() as session:
        add(session, roomy, full, *an_inventory(roomy, vcpus=8), vcpus, pinned, dedicated)
    capacity = operator.ok("GET", f"{MONITOR}/capacity")
    assert capacity["cpu"] == {"allocatable": 12, "usage": 4, "remain": 8, "unit": "cores"}
