"""A cloud of one node for tests of instances: a catalogue, an image, a tenant's orders, and waiting for operations."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, SQLModel, select

from coordinator.domain.unit import GIB
from coordinator.runtime import Runtime
from coordinator.services.node_report import Registration, register_node
from coordinator.store.tables import Allocation, Department, Flavor, FlavorType, Image, Node, Port, Tenant, Volume
from protos.agent.v1 import domain_pb2, host_pb2
from protos.coordinator.v1 import node_pb2
from tests.api.client import Answer, Api
from tests.builders import a_department, a_flavor, a_flavor_type, a_node, add, an_image, an_inventory

INSTANCES = "/api/ecs/v1/instances"
OPERATIONS = "/api/ecs/v1/operations"
_FINISHED = {"Succeeded", "Failed", "Canceled", "NeedsOperator"}
_MOST_LOOKS = 500


@dataclass(frozen=True)
class Cloud:
    """The rows that orders refer to."""

    runtime: Runtime
    tenant: Tenant
    department: Department
    flavor_type: FlavorType
    flavor: Flavor
    custom_flavor: Flavor
    image: Image
    node: Node

    def order(self, **fields: Any) -> dict[str, Any]:
        """The body of a call that creates an instance; fields of None are left out."""
        body = {
            "tenantId": self.tenant.id,
            "departmentId": self.department.id,
            "region": "region0",
            "az": "AZ0",
            "displayName": "web",
            "archType": "x86",
            "flavorId": self.flavor.flavor_id,
            "cpus": 2,
            "memory": {"amount": "4Gi"},
            "image": {"imageUid": self.image.id},
            "volumes": [an_os_disk()],
            "networks": [a_network()],
            "secGroupList": ["sg-" + "0" * 20],
            **fields,
        }
        return {name: value for name, value in body.items() if value is not None}

    def create(self, api: Api, **fields: Any) -> str:
        """Creates an instance and waits until it runs; answers its id."""
        answer = api.call("POST", INSTANCES, self.order(**fields))
        assert answer.code == "Success", answer
        assert finish(api, answer)["state"] == "Succeeded"
        return str(answer.data["ecsId"])

    def rows(self, table: type[SQLModel]) -> list[Any]:
        """All rows of a table."""
        with self.runtime.database.read() as session:
            return list(session.exec(select(table)).all())

    def holds_nothing(self) -> bool:
        """Whether no instance holds anything: no allocation, volume or port."""
        return not any(self.rows(table) for table in (Allocation, Volume, Port))

    def change(self, row: SQLModel, **columns: Any) -> None:
        """Changes columns of a row."""
        with self.runtime.database.write() as session:
            stored = session.merge(row)
            for name, value in columns.items():
                setattr(stored, name, value)


def an_os_disk(**fields: Any) -> dict[str, Any]:
    """A system disk that goes with its instance."""
    return {
        "isOsDisk": True,
        "volumeSize": 20,
        "volumeType": "ssd",
        "deleteOnTermination": True,
        "bootIndex": 1,
        **fields,
    }


def a_network(**fields: Any) -> dict[str, Any]:
    """A primary interface in the default subnet."""
    return {
        "vpcId": "vpc-" + "0" * 20,
        "subnetId": "snet-" + "0" * 20,
        "portType": "Primary",
        "ipType": "dhcp",
        "networkType": "Geneve",
        **fields,
    }


def stock(runtime: Runtime, tenant: Tenant) -> Cloud:
    """Stores a node with capacity and everything that an order refers to."""
    flavor_type, node = a_flavor_type(), a_node()
    cloud = Cloud(
        runtime=runtime,
        tenant=tenant,
        department=a_department(tenant),
        flavor_type=flavor_type,
        flavor=a_flavor(flavor_type),
        custom_flavor=a_flavor(flavor_type, name="custom", is_custom=True),
        image=an_image(),
        node=node,
    )
    with runtime.database.write() as session:
        _store(session, cloud)
    return cloud


def _store(session: Session, cloud: Cloud) -> None:
    add(session, cloud.department, cloud.flavor_type, cloud.flavor, cloud.custom_flavor, cloud.image, cloud.node)
    add(session, *an_inventory(cloud.node))


def register(
    runtime: Runtime, node: Node, boot_id: str, domains: Iterable[domain_pb2.Domain], ended: Sequence[str] = ()
) -> None:
    """The node's agent tells everything, in that run of the node's kernel."""
    with runtime.database.read() as session:
        address = session.get_one(Node, node.id).address
    registration = Registration(
        session_id="a-session",
        address=address,
        zone="AZ0",
        facts=host_pb2.HostFacts(
            hostname=node.name, architecture=host_pb2.ARCHITECTURE_X86_64, traits=["uefi"], boot_id=boot_id
        ),
        inventory=host_pb2.HostInventory(vcpus=16, memory_bytes=64 * GIB, storage_bytes=1000 * GIB),
        domains=list(domains),
        self_fence=node_pb2.SelfFence(),
        ended_domains=ended,
    )
    register_node(runtime, node.id, registration)


def finish(api: Api, answer: Answer) -> dict[str, Any]:
    """The last operation that `answer` names, once it has ended."""
    operation_id = answer.headers["x-operation-id"].split(",")[-1]
    operation: dict[str, Any] = {}
    # Pauses are counted, not time: a machine that stands still for a while has not waited.
    for _ in range(_MOST_LOOKS):
        operation = api.ok("GET", f"{OPERATIONS}/{operation_id}")
        if operation["state"] in _FINISHED:
            return operation
        time.sleep(0.02)
    raise AssertionError(operation)
