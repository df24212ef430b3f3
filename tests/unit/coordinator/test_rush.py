"""Sixty-four clients at once, at whole coordinators: exactly as many instances as there is room for, and none lost."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import func, select

from coordinator.domain.placement import ResourceClass
from coordinator.store.database import Database
from coordinator.store.queries.placement import advance_generations
from coordinator.store.tables import (
    Allocation,
    Department,
    Device,
    DeviceAllocation,
    Flavor,
    Image,
    Instance,
    Node,
    Task,
    Tenant,
)
from tests.api.cloud import a_network, an_os_disk
from tests.builders import (
    a_department,
    a_flavor,
    a_flavor_type,
    a_node,
    a_tenant,
    add,
    an_image,
    an_inventory,
)
from tests.database import ENGINES, database_url
from tests.installation import Installation

CLIENTS = 64
# Room for 20 instances of two vCPUs.
NODES, VCPUS = 4, 10


@dataclass
class Rush:
    """Coordinators that share a database, and what is ordered from them."""

    coordinators: Sequence[Installation]
    token: str
    database: Database
    order: dict[str, Any]

    def create(self, number: int, count: int) -> list[str]:
        """The statuses of what one client got; none where all was refused."""
        body = {**self.order, "displayName": f"rush-{number}", "ecsCount": count}
        at = self.coordinators[number % len(self.coordinators)]
        answer = at.call("/api/ecs/v1/instances/batch-create", self.token, body)
        if answer["code"] == "ECS.OperationFailed.Unschedulable":
            return []
        assert answer["code"] == "Success", answer
        return [one["status"] for one in answer["data"]]

    def run(self, count: int) -> list[list[str]]:
        with ThreadPoolExecutor(CLIENTS) as pool:
            return list(pool.map(lambda number: self.create(number, count), range(CLIENTS)))

    def add_gpus(self, count: int) -> None:
        """So many on each node, and a flavor that has one of them is what is ordered from now on."""
        kind = a_flavor_type(device_type="gpu", gpu_type="10de1eb8")
        flavor = a_flavor(kind, gpu=1)
        attributes = {"vendor": "10de", "product": "1eb8", "mode": "passthrough"}
        with self.database.write() as session:
            nodes = session.exec(select(Node.id)).all()
            add(session, kind, flavor)
            for node_id in nodes:
                ids = [f"0000:{number:02x}:00.0" for number in range(count)]
                add(session, *(Device(node_id=node_id, id=it, kind="gpu", attributes=attributes) for it in ids))
            advance_generations(session, nodes)
        self.order = {**self.order, "flavorId": flavor.flavor_id}

    def given_devices(self) -> list[tuple[str, str]]:
        with self.database.read() as session:
            return [(row.node_id, row.device_id) for row in session.exec(select(DeviceAllocation))]

    def vcpus_by_node(self) -> list[int]:
        with self.database.read() as session:
            rows = session.exec(
                select(func.sum(Allocation.amount))
                .where(Allocation.resource_class == ResourceClass.VCPU)
                .group_by(Allocation.node_id)
            )
            return sorted(map(int, rows))

    def count(self, table: type[Instance] | type[Task]) -> int:
        with self.database.read() as session:
            return int(session.exec(select(func.count()).select_from(table)).one())


@pytest.fixture(params=ENGINES)
def rush(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rush]:
    """One coordinator on SQLite, two on PostgreSQL. Their nodes answer to nobody: nothing ends meanwhile."""
    first, second = Installation(tmp_path), Installation(tmp_path)
    with ExitStack() as stack:
        url = stack.enter_context(database_url(request.param, tmp_path, request))
        environment = {
            "NODEWRIGHT_COORDINATOR_DATABASE_URL": url,
            "NODEWRIGHT_COORDINATOR_NODE_LEASE": "PT1H",
            # Nobody reads the log, which must not fill the pipe.
            "NODEWRIGHT_COORDINATOR_LOG_LEVEL": "ERROR",
        }
        first.environment |= environment
        second.environment |= environment
        assert first.run("migrate").returncode == 0
        database = Database(url)
        stack.callback(database.close)
        token, order = fill(first, database)
        coordinators = [first] if request.param == "sqlite" else [first, second]
        for installation in coordinators:
            process = stack.enter_context(installation.serving())
            installation.wait_until_ready(process)
        yield Rush(coordinators, token, database, order)


def fill(installation: Installation, database: Database) -> tuple[str, dict[str, Any]]:
    """Nodes and what an order refers to; answers a tenant's token and the order."""
    tenant, kind, image = a_tenant(), a_flavor_type(), an_image()
    department, flavor = a_department(tenant), a_flavor(kind)
    with database.write() as session:
        add(session, tenant, department, kind, flavor, image)
        for number in range(NODES):
            node = a_node(f"node-{number}", address="127.0.0.1:1")
            add(session, node, *an_inventory(node, vcpus=VCPUS))
    made = installation.run("create-token", "--role", "tenant", "--tenant", tenant.id)
    return made.stdout.strip(), order_of(tenant, department, flavor, image)


def order_of(tenant: Tenant, department: Department, flavor: Flavor, image: Image) -> dict[str, Any]:
    return {
        "tenantId": tenant.id,
        "departmentId": department.id,
        "region": "region0",
        "az": "AZ0",
        "archType": "x86",
        "flavorId": flavor.flavor_id,
        "cpus": flavor.cpu,
        "memory": {"amount": f"{flavor.ram_gib}Gi"},
        "image": {"imageUid": image.id},
        "volumes": [an_os_disk()],
        "networks": [a_network()],
        "secGroupList": ["sg-" + "0" * 20],
    }


def test_single_instances_are_placed_until_the_room_is_used_up(rush: Rush) -> None:
    got = Counter(status for statuses in rush.run(1) for status in statuses)
    assert got == {"Provisioning": NODES * VCPUS // 2, "ErrorUnschedulable": CLIENTS - NODES * VCPUS // 2}
    assert rush.vcpus_by_node() == [VCPUS] * NODES
    assert (rush.count(Instance), rush.count(Task)) == (CLIENTS, NODES * VCPUS // 2)


def test_batches_are_placed_whole_or_not_at_all(rush: Rush) -> None:
    got = rush.run(3)
    placed = [statuses for statuses in got if statuses]
    # Six batches of three are 18 of 20; a seventh has no room, whoever comes when.
    assert placed == [["Provisioning"] * 3] * 6
    assert sum(rush.vcpus_by_node()) == 6 * 3 * 2
    assert max(rush.vcpus_by_node()) <= VCPUS
    assert (rush.count(Instance), rush.count(Task)) == (18, 18)


def test_no_device_is_given_twice(rush: Rush) -> None:
    rush.add_gpus(3)
    got = Counter(status for statuses in rush.run(1) for status in statuses)
    assert got == {"Provisioning": NODES * 3, "ErrorUnschedulable": CLIENTS - NODES * 3}
    given = rush.given_devices()
    assert len(given) == len(set(given)) == NODES * 3
