"""Rows and values for tests: every builder gives a valid one, and takes what the test cares about."""

from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import uuid4

from sqlmodel import Session, SQLModel

from coordinator.domain.device import WHOLE_MILLI, Device, DeviceKind, DeviceType, DeviceWish
from coordinator.domain.identifier import Identifiers, Prefix
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.placement import Capacity, Consumer, HostView, PlacementRequest, ResourceClass
from coordinator.scheduler.gpu.request import GpuRequest
from coordinator.store.tables.flavor import Flavor, FlavorType
from coordinator.store.tables.image import Image
from coordinator.store.tables.instance import Instance
from coordinator.store.tables.network import Port, SecurityGroup, Subnet, Vpc
from coordinator.store.tables.node import Inventory, Node
from coordinator.store.tables.tenancy import Department, Tenant
from coordinator.store.tables.volume import Volume

GIB = 1024**3

_identifiers = Identifiers()
# Each new node looks changed to a snapshot that was made before.
_generations = count(1000, 1000)


@dataclass(frozen=True)
class Pem:
    """A certificate, its key and its authority."""

    ca_pem: bytes = b""
    cert_pem: bytes = b""
    key_pem: bytes = b""


def credentials() -> Pem:
    """Credentials that no server accepts."""
    return Pem()


def add(session: Session, *rows: SQLModel) -> None:
    """Inserts rows in the given order, so that each finds what it refers to."""
    for row in rows:
        session.add(row)
        session.flush()


def a_node(name: str = "node-a", **columns: Any) -> Node:
    """A node that is ready for instances; `an_inventory` says what it offers."""
    node_id = _identifiers.new(Prefix.NODE)
    return Node(
        **{
            "id": node_id,
            "name": name,
            "machine_uuid": str(uuid4()),
            "zone": "AZ0",
            "generation": next(_generations),
            "address": "192.0.2.1:8446",
            "architecture": "x86",
            "cpu_model": "EPYC",
            "ready": True,
            "traits": ["uefi"],
            **columns,
        }
    )


def an_inventory(node: Node, vcpus: int = 16, memory_gib: int = 64, storage_gib: int = 1000) -> list[Inventory]:
    """Capacity of a node in all counted classes, nothing reserved, nothing overcommitted."""
    totals = {
        ResourceClass.VCPU: vcpus,
        ResourceClass.MEMORY_MIB: memory_gib * 1024,
        ResourceClass.STORAGE_GIB: storage_gib,
    }
    return [Inventory(node_id=node.id, resource_class=name, total=total) for name, total in totals.items()]


def a_tenant(**columns: Any) -> Tenant:
    """A tenant without quotas."""
    tenant_id = _identifiers.new_number()
    return Tenant(**{"id": tenant_id, "name": f"tenant-{tenant_id}", **columns})


def a_department(tenant: Tenant, **columns: Any) -> Department:
    """A department of `tenant`."""
    return Department(**{"id": _identifiers.new_number(), "tenant_id": tenant.id, "name": "engineering", **columns})


def a_flavor_type(**columns: Any) -> FlavorType:
    """A family of plain virtual machines."""
    flavor_type_id = _identifiers.new(Prefix.FLAVOR_TYPE)
    return FlavorType(
        **{
            "flavor_type_id": flavor_type_id,
            "spec_code": _identifiers.new(Prefix.SPEC_CODE),
            "name": f"general-{flavor_type_id}",
            "arch_type": "x86",
            "cpu_model": "",
            "vcpu_type": "custom",
            "device_type": "normal",
            **columns,
        }
    )


def a_flavor(flavor_type: FlavorType, vcpus: int = 2, memory_gib: int = 4, **columns: Any) -> Flavor:
    """A size within `flavor_type`."""
    return Flavor(
        **{
            "flavor_id": _identifiers.new(Prefix.FLAVOR),
            "flavor_type_id": flavor_type.flavor_type_id,
            "name": f"{vcpus}c{memory_gib}g",
            "cpu": vcpus,
            "ram_gib": memory_gib,
            **columns,
        }
    )


def an_image(**columns: Any) -> Image:
    """A public image that is ready for use."""
    return Image(
        **{
            "id": _identifiers.new(Prefix.IMAGE),
            "name": "demo",
            "visibility": "public",
            "format": "qcow2",
            "cpu_arch": "x86",
            "status": "Active",
            "size_bytes": 16 * 1024**2,
            "virtual_size_bytes": GIB,
            "sha256": "0" * 64,
            **columns,
        }
    )


def an_instance(
    tenant: Tenant, flavor: Flavor, vcpus: int = 2, memory_gib: int = 4, node: Node | None = None, **columns: Any
) -> Instance:
    """A stopped instance, on `node` if one is given."""
    return Instance(
        **{
            "ecs_id": _identifiers.new(Prefix.INSTANCE),
            "uuid": str(uuid4()),
            "tenant_id": tenant.id,
            "department_id": "",
            "display_name": "web",
            "host_name": "web",
            "zone": "AZ0",
            "architecture": "x86",
            "flavor_id": flavor.flavor_id,
            "flavor_type_id": flavor.flavor_type_id,
            "vcpus": vcpus,
            "memory_bytes": memory_gib * GIB,
            "node_id": node.id if node else None,
            "status": InstanceStatus.STOPPED,
            **columns,
        }
    )


def a_volume(tenant: Tenant, instance: Instance | None = None, size_gib: int = 10, **columns: Any) -> Volume:
    """A volume, in use by `instance` if one is given."""
    return Volume(
        **{
            "uuid": str(uuid4()),
            "name": "disk",
            "tenant_id": tenant.id,
            "size_gib": size_gib,
            "volume_type": "hdd",
            "status": "inUse" if instance else "available",
            "instance_id": instance.id if instance else None,
            "node_id": instance.node_id if instance else None,
            **columns,
        }
    )


def a_vpc(**columns: Any) -> Vpc:
    """A network that everybody may use."""
    return Vpc(**{"id": _identifiers.new(Prefix.VPC), "name": "default", "cidr": "10.80.0.0/16", **columns})


def a_subnet(vpc: Vpc, **columns: Any) -> Subnet:
    """A range of addresses in `vpc`."""
    return Subnet(
        **{
            "id": _identifiers.new(Prefix.SUBNET),
            "name": "default",
            "vpc_id": vpc.id,
            "cidr": "10.80.0.0/24",
            "gateway_ip": "10.80.0.1",
            **columns,
        }
    )


def a_security_group(**columns: Any) -> SecurityGroup:
    """A group that lets everything pass."""
    return SecurityGroup(**{"id": _identifiers.new(Prefix.SECURITY_GROUP), "name": "default", **columns})


def a_port(subnet: Subnet, group: SecurityGroup, instance: Instance | None = None, **columns: Any) -> Port:
    """A network interface in `subnet`."""
    return Port(
        **{
            "id": _identifiers.new(Prefix.PORT),
            "uuid": str(uuid4()),
            "name": "eth0",
            "vpc_id": subnet.vpc_id,
            "subnet_id": subnet.id,
            "security_group_id": group.id,
            "instance_id": instance.id if instance else None,
            "mac_address": _identifiers.new_mac(),
            "ipv4_address": "10.80.0.2",
            **columns,
        }
    )


def resources(vcpus: int = 2, memory_gib: float = 4, storage_gib: int = 10) -> dict[ResourceClass, int]:
    """Amounts in the units of the classes."""
    return {
        ResourceClass.VCPU: vcpus,
        ResourceClass.MEMORY_MIB: int(memory_gib * 1024),
        ResourceClass.STORAGE_GIB: storage_gib,
    }


def a_host(
    name: str = "node-a",
    vcpus: int = 16,
    memory_gib: int = 64,
    storage_gib: int = 1000,
    used: dict[ResourceClass, int] | None = None,
    **fields: Any,
) -> HostView:
    """A host as the scheduler sees it, empty unless `used` is given."""
    totals = resources(vcpus, memory_gib, storage_gib)
    taken = used or {}
    return HostView(
        **{
            "node_id": f"id-of-{name}",
            "name": name,
            "generation": 0,
            "zone": "AZ0",
            "architecture": "x86",
            "cpu_model": "EPYC",
            "ready": True,
            "schedulable": True,
            "traits": frozenset({"uefi"}),
            "capacities": {name: Capacity(total, 0, 1.0, taken.get(name, 0)) for name, total in totals.items()},
            **fields,
        }
    )


def a_consumer(
    vcpus: int = 2, memory_gib: float = 4, storage_gib: int = 10, uuid: str = "", devices: tuple[DeviceWish, ...] = ()
) -> Consumer:
    """Who takes resources."""
    return Consumer(uuid or str(uuid4()), resources(vcpus, memory_gib, storage_gib), devices)


def a_request(*consumers: Consumer, **fields: Any) -> PlacementRequest:
    """Consumers (one by default) to be placed on any host."""
    return PlacementRequest(consumers=consumers or (a_consumer(),), **fields)


def gpus(count: int, model: str = "L40S", cells: int = 1, used_milli: int = 0) -> tuple[Device, ...]:
    """GPUs of a host that can be shared, the first ones attached to its first cell."""
    kind = DeviceType(DeviceKind.GPU, frozenset({("model", model)}), shareable=True)
    return tuple(Device(f"gpu-{number}", kind, number * cells // count, used_milli) for number in range(count))


def a_gpu_wish(count: int = 1, milli: int = WHOLE_MILLI, *models: str) -> DeviceWish:
    """GPUs, whole ones unless `milli` says otherwise."""
    return DeviceWish(DeviceKind.GPU, count, milli, {"model": frozenset(models)} if models else {})


def a_gpu_request(
    gpu_count: int = 1, gpu_milli: int = WHOLE_MILLI, vcpus: int = 4, memory_mib: int = 1024, *models: str
) -> GpuRequest:
    """A request for GPUs; without any when `gpu_count` is 0."""
    return GpuRequest(vcpus, memory_mib, a_gpu_wish(gpu_count, gpu_milli, *models) if gpu_count else None)
