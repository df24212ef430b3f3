"""Instances with host CPUs of their own, NUMA cells and huge pages: what is promised is what the node is asked for."""

from typing import Any

import pytest

from coordinator.placement.claim import release
from coordinator.runtime import Runtime
from coordinator.store.queries.placement import advance_generations
from coordinator.store.tables import Allocation, CellAllocation, Instance, Node, Tenant
from coordinator.tasks.blueprint import domain_spec, read_blueprint
from protos.agent.v1 import domain_pb2
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud, stock
from tests.database import BOTH_DATABASES

GIB = 1024**3


@pytest.fixture
def cloud(runtime: Runtime, tenant: Tenant) -> Cloud:
    """Its host has two cells of four cores with two threads each."""
    cloud = stock(runtime, tenant)
    cores = [[[8 * cell + 2 * core, 8 * cell + 2 * core + 1] for core in range(4)] for cell in range(2)]
    cells = [
        {"id": cell, "cores": cores[cell], "memory_mib": 32 * 1024, "huge_pages_mib": {"2048": 8192}}
        for cell in range(2)
    ]
    with cloud.runtime.database.write() as session:
        session.get_one(Node, cloud.node.id).cells = cells
        advance_generations(session, [cloud.node.id])
    return cloud


def spec_of(cloud: Cloud, ecs_id: str) -> domain_pb2.DomainSpec:
    """What the node is asked to define."""
    with cloud.runtime.database.read() as session:
        return domain_spec(read_blueprint(session, {"ecsId": ecs_id}), cloud.runtime)


def order(cloud: Cloud, customer: Api, **columns: Any) -> domain_pb2.DomainSpec:
    """An instance of a flavor type with these promises."""
    cloud.change(cloud.flavor_type, **columns)
    return spec_of(cloud, customer.ok("POST", INSTANCES, cloud.order())["ecsId"])


def test_an_ordinary_instance_floats(customer: Api, cloud: Cloud) -> None:
    spec = order(cloud, customer)
    assert (list(spec.cells), spec.memory_locked, spec.has_virtual_numa) == ([], False, False)
    assert cloud.rows(CellAllocation) == []


def test_dedicated_cpus_are_pinned(customer: Api, cloud: Cloud) -> None:
    first = order(cloud, customer, is_dedicated_cpu=True)
    second = order(cloud, customer, is_dedicated_cpu=True)
    assert [list(cell.pinned_cpu_ids) for cell in first.cells] == [[0, 1]]
    assert [list(cell.pinned_cpu_ids) for cell in second.cells] == [[2, 3]]
    assert (first.cells[0].vcpus, first.cells[0].memory_bytes) == (2, 4 * GIB)
    amounts = {row.resource_class for row in cloud.rows(Allocation)}
    assert amounts == {"DEDICATED_VCPU", "MEMORY_MIB", "STORAGE_GIB"}


def test_one_vcpu_has_a_core_and_the_other_thread_idles(customer: Api, cloud: Cloud) -> None:
    cloud.change(cloud.flavor_type, is_dedicated_cpu=True)
    body = cloud.order(flavorId=cloud.custom_flavor.flavor_id, cpus=1)
    spec = spec_of(cloud, customer.ok("POST", INSTANCES, body)["ecsId"])
    assert [list(cell.pinned_cpu_ids) for cell in spec.cells] == [[0]]
    [share] = cloud.rows(CellAllocation)
    assert share.cpus == [0, 1]


def test_a_virtual_numa_topology_is_that_of_the_host(customer: Api, cloud: Cloud) -> None:
    cloud.change(cloud.flavor_type, v_numa=True)
    body = cloud.order(flavorId=cloud.custom_flavor.flavor_id, cpus=12, memory={"amount": "40Gi"})
    spec = spec_of(cloud, customer.ok("POST", INSTANCES, body)["ecsId"])
    assert spec.has_virtual_numa
    assert [(cell.host_cell, cell.vcpus, cell.memory_bytes) for cell in spec.cells] == [
        (0, 6, 20 * GIB),
        (1, 6, 20 * GIB),
    ]


def test_dedicated_memory_is_locked(customer: Api, cloud: Cloud) -> None:
    spec = order(cloud, customer, is_dedicated_mem=True)
    assert (spec.memory_locked, list(spec.cells)) == (True, [])


@BOTH_DATABASES
def test_huge_pages_come_from_one_cell_and_not_from_memory(customer: Api, cloud: Cloud) -> None:
    answer = customer.ok("POST", INSTANCES, cloud.order(memory={"amount": "4Gi", "hugePage": "2Mi"}))
    spec = spec_of(cloud, answer["ecsId"])
    assert answer["hugePageSize"] == str(2 * 1024**2)
    assert (spec.huge_page_bytes, [cell.memory_bytes for cell in spec.cells]) == (2 * 1024**2, [4 * GIB])
    assert {row.resource_class for row in cloud.rows(Allocation)} == {"VCPU", "STORAGE_GIB"}


@BOTH_DATABASES
def test_pages_that_no_host_has_are_told(customer: Api, cloud: Cloud) -> None:
    answer = customer.ok("POST", INSTANCES, cloud.order(memory={"amount": "4Gi", "hugePage": "1Gi"}))
    assert answer["status"] == "ErrorUnschedulable"
    assert "no NUMA cells that fit" in answer["errMessage"]
    assert "pages of 1 GiB" in answer["errMessage"]


def test_a_deleted_instance_gives_its_cpus_back(customer: Api, cloud: Cloud) -> None:
    order(cloud, customer, is_dedicated_cpu=True)
    [row] = cloud.rows(Instance)
    with cloud.runtime.database.write() as session:
        release(session, [row.uuid])
    assert cloud.rows(CellAllocation) == cloud.rows(Allocation) == []


@BOTH_DATABASES
def test_capacity_counts_dedicated_cpus_and_huge_pages(customer: Api, operator: Api, cloud: Cloud) -> None:
    before = operator.ok("GET", "/api/ecs/v1/monitor/capacity")
    order(cloud, customer, is_dedicated_cpu=True)
    cloud.change(cloud.flavor_type, is_dedicated_cpu=False)
    customer.ok("POST", INSTANCES, cloud.order(memory={"amount": "4Gi", "hugePage": "2Mi"}))
    after = operator.ok("GET", "/api/ecs/v1/monitor/capacity")
    # 16 GiB are set aside as huge pages.
    assert before["ram"]["allocatable"] == after["ram"]["allocatable"] == 64 + 16
    assert (after["cpu"]["usage"] - before["cpu"]["usage"], after["ram"]["usage"] - before["ram"]["usage"]) == (4, 8)
    assert (before["cpu"]["remain"] - after["cpu"]["remain"]) == 4
