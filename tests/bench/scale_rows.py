"""The rows of a large cloud, inserted past the coordinator: the same for the same seed."""

import random
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate, islice
from typing import Any, Final, TypeVar

from sqlalchemy import insert, text
from sqlmodel import Session, SQLModel

from coordinator.domain.clock import utc_now
from coordinator.domain.identifier import Identifiers, Prefix
from coordinator.domain.instance import InstanceStatus, PowerState
from coordinator.domain.placement import ResourceClass
from coordinator.services.credential import TOKEN_PREFIX, hash_token
from coordinator.services.host_fact import apply_facts
from coordinator.store.database import Database
from coordinator.store.tables import (
    Allocation,
    ApiToken,
    Department,
    Flavor,
    Image,
    Instance,
    InstanceLabel,
    Inventory,
    Node,
    PlacementRecord,
    PoolHost,
    Port,
    ResourcePool,
    SecurityGroup,
    Subnet,
    Tenant,
    Volume,
    Vpc,
)
from protos.agent.v1 import host_pb2
from tests.builders import (
    GIB,
    a_department,
    a_flavor,
    a_flavor_type,
    a_security_group,
    a_subnet,
    a_tenant,
    a_vpc,
    add,
    an_image,
)

ZONES: Final = ("AZ0", "AZ1", "AZ2", "AZ3")

_TENANTS: Final = 50
# One of so many instances was deleted: its row stays.
_DELETED_EVERY: Final = 11
_SUBNET_ADDRESSES: Final = 2000
_CHUNK: Final = 5000
_AGE: Final = timedelta(days=730)
_CPUS, _MEMORY_GIB, _STORAGE_GIB = 128, 768, 15_000
_STATUSES: Final = {
    InstanceStatus.RUNNING: 720,
    InstanceStatus.STOPPED: 230,
    InstanceStatus.PAUSED: 20,
    InstanceStatus.UNKNOWN: 20,
    InstanceStatus.ERROR_UNSCHEDULABLE: 5,
    InstanceStatus.ERR_IMAGE_PULL: 5,
}
_HOMELESS: Final = frozenset({InstanceStatus.ERROR_UNSCHEDULABLE, InstanceStatus.ERR_IMAGE_PULL})
_POWER_STATES: Final = {
    InstanceStatus.RUNNING: PowerState.RUNNING,
    InstanceStatus.STOPPED: PowerState.SHUTOFF,
    InstanceStatus.PAUSED: PowerState.PAUSED,
}
_ROLES: Final = ("web", "db", "cache", "queue", "build", "batch", "gateway", "search")
_STAGES: Final = ("prod", "test", "dev")
_TEAMS: Final = ("storage", "network", "billing", "search", "mobile")
_SIZES: Final = ((1, 2), (2, 4), (2, 8), (4, 8), (4, 16), (8, 16), (8, 32))

Item = TypeVar("Item")
Row = dict[str, Any]


@dataclass(frozen=True)
class Cloud:
    """What the bench asks for; tenants from the largest to the smallest."""

    tenants: Sequence[Tenant]
    departments: Sequence[Department]
    flavors: Sequence[Flavor]
    image: Image
    # Of the largest tenant, with free addresses.
    subnet: Subnet
    group: SecurityGroup
    # With about as many instances as any other.
    node: Node
    ecs_ids: Sequence[str]
    tenant_ecs_ids: Sequence[str]
    operator_token: str
    tenant_token: str
    small_tenant_token: str


def fill(database: Database, hosts: int, instances: int, seed: int, agent_port: int) -> Cloud:
    """A cloud in a migrated, empty database; its hosts are ready, each at a loopback address of its own."""
    return _Filling(database, instances, seed).run(hosts, agent_port)


class _Filling:
    """One cloud in the making."""

    def __init__(self, database: Database, instances: int, seed: int) -> None:
        self._database = database
        self._random = random.Random(seed)
        self._identifiers = Identifiers(self._random)
        self._instances = instances
        self._now = utc_now()
        self._tenants = [a_tenant(name=f"tenant-{number:02}", id=self._number()) for number in range(_TENANTS)]
        # The first has about a fifth of everything, the last next to nothing.
        self._tenant_weights = list(accumulate(1 / (number + 1) for number in range(_TENANTS)))

    def run(self, hosts: int, agent_port: int) -> Cloud:
        """Inserts everything."""
        with self._database.write() as session:
            self._add_catalogue(session)
            self._add_networks(session)
            nodes = self._add_hosts(session, hosts, agent_port)
        self._nodes_of = {zone: [node for node in nodes if node["zone"] == zone] for zone in ZONES}
        rows = self._new_instances()
        while chunk := list(islice(rows, _CHUNK)):
            with self._database.write() as session:
                for table in (Instance, InstanceLabel, Volume, Port, Allocation, PlacementRecord):
                    _insert(session, table, [row for belongings in chunk for row in belongings.get(table, ())])
        self._settle_postgresql()
        return self._describe(nodes)

    def _settle_postgresql(self) -> None:
        """New instances are numbered after ours; and what the server does by itself within minutes."""
        if self._database.is_sqlite:
            return
        with self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SELECT setval(pg_get_serial_sequence('instance', 'id'), max(id)) FROM instance"))
            connection.execute(text("VACUUM ANALYZE"))

    def _number(self) -> str:
        return self._identifiers.new_number()

    def _add_catalogue(self, session: Session) -> None:
        self._departments = {
            tenant.id: [a_department(tenant, id=self._number(), name=name) for name in ("research", "sales", "shop")]
            for tenant in self._tenants
        }
        new = self._identifiers.new
        self._types = [
            a_flavor_type(name=name, flavor_type_id=new(Prefix.FLAVOR_TYPE), spec_code=new(Prefix.SPEC_CODE))
            for name in ("general", "compute", "memory", "burstable", "edge")
        ]
        self._flavors = [a_flavor(kind, *size, flavor_id=new(Prefix.FLAVOR)) for kind in self._types for size in _SIZES]
        self._images = [an_image(name=f"linux-{number}", id=new(Prefix.IMAGE)) for number in range(12)]
        departments = [row for rows in self._departments.values() for row in rows]
        add(session, *self._tenants, *departments, *self._types, *self._flavors, *self._images)
        self._tokens = {
            "operator": self._add_token(session, "operator", None),
            "tenant": self._add_token(session, "tenant", self._tenants[0].id),
            "small tenant": self._add_token(session, "tenant", self._tenants[-1].id),
        }

    def _add_token(self, session: Session, role: str, tenant_id: str | None) -> str:
        secret = TOKEN_PREFIX + f"{self._random.getrandbits(256):064x}"
        token_id = self._identifiers.new(Prefix.TOKEN)
        add(session, ApiToken(id=token_id, name="bench", token_hash=hash_token(secret), role=role, tenant_id=tenant_id))
        return secret

    def _add_networks(self, session: Session) -> None:
        """A network for each tenant, with subnets that are filled one after the other."""
        new = self._identifiers.new
        self._vpcs: dict[str, Vpc] = {}
        self._groups: dict[str, SecurityGroup] = {}
        self._subnets: dict[str, list[Subnet]] = {}
        self._port_counts = dict.fromkeys((tenant.id for tenant in self._tenants), 0)
        self._macs = 0
        for tenant in self._tenants:
            self._vpcs[tenant.id] = a_vpc(
                id=new(Prefix.VPC), tenant_id=tenant.id, name=f"of {tenant.name}", cidr="10.0.0.0/8"
            )
            self._groups[tenant.id] = a_security_group(id=new(Prefix.SECURITY_GROUP), tenant_id=tenant.id)
            self._subnets[tenant.id] = []
            add(session, self._vpcs[tenant.id], self._groups[tenant.id])
            for _ in range(2 + int(0.4 * self._instances) // _SUBNET_ADDRESSES):
                self._add_subnet(session, tenant)

    def _add_subnet(self, session: Session, tenant: Tenant) -> None:
        number = len(self._subnets[tenant.id])
        subnet = a_subnet(
            self._vpcs[tenant.id],
            id=self._identifiers.new(Prefix.SUBNET),
            name=f"net-{number}",
            cidr=f"10.{number}.0.0/20",
            gateway_ip=f"10.{number}.0.1",
        )
        self._subnets[tenant.id].append(subnet)
        add(session, subnet)

    def _add_hosts(self, session: Session, hosts: int, agent_port: int) -> list[Row]:
        models = [_describe_host(name) for name in ("AMD EPYC 9654", "AMD EPYC 7763", "Intel(R) Xeon(R) 8480+")]
        nodes = [self._new_host(number, models[number % len(models)], agent_port) for number in range(hosts)]
        _insert(session, Node, nodes)
        totals = {
            ResourceClass.VCPU: (_CPUS, 0, 2.0),
            ResourceClass.MEMORY_MIB: (_MEMORY_GIB * 1024, 4096, 1.0),
            ResourceClass.STORAGE_GIB: (_STORAGE_GIB, 0, 1.0),
        }
        inventories = [
            {"node_id": node["id"], "resource_class": name, "total": total, "reserved": kept, "allocation_ratio": ratio}
            for node in nodes
            for name, (total, kept, ratio) in totals.items()
        ]
        _insert(session, Inventory, inventories)
        self._add_pools(session, nodes)
        return nodes

    def _new_host(self, number: int, model: Node, agent_port: int) -> Row:
        name = f"host-{number:05}"
        return {
            **model.model_dump(include={"architecture", "cpu_model", "agent_version", "traits", "cells"}),
            "id": self._identifiers.new(Prefix.NODE),
            "name": name,
            "machine_uuid": self._identifiers.new_uuid(),
            "zone": ZONES[number % len(ZONES)],
            "generation": number + 1,
            "address": f"127.1.{number >> 8}.{number & 255}:{agent_port}",
            "ready": True,
            "session_id": "bench",
            "facts": model.facts | {"hostname": name},
            "rack": f"rack-{number // 40:03}",
            "switch": f"switch-{number // 400:02}",
        }

    def _add_pools(self, session: Session, nodes: Sequence[Row]) -> None:
        """A twentieth of the hosts is set apart."""
        pools = {
            zone: ResourcePool(
                id=self._identifiers.new(Prefix.RESOURCE_POOL), name=f"pool-{zone}", zone=zone, cpu_allocation_ratio=2
            )
            for zone in ZONES
        }
        add(session, *pools.values())
        members = [
            {"node_id": node["id"], "rp_id": pools[node["zone"]].id, "joined_at": self._now}
            for number, node in enumerate(nodes)
            if number % 20 < 1
        ]
        _insert(session, PoolHost, members)

    def _new_instances(self) -> Iterator[dict[type[SQLModel], list[Row]]]:
        """Each with all rows that belong to it, the oldest first."""
        count = self._instances * _DELETED_EVERY // (_DELETED_EVERY - 1)
        self._living: list[tuple[str, str]] = []
        for number in range(count):
            made_at = self._now - _AGE + _AGE * number / count + timedelta(seconds=self._random.randrange(60))
            yield self._new_instance(number + 1, made_at, is_deleted=number % _DELETED_EVERY == 0)

    def _new_instance(self, number: int, made_at: datetime, *, is_deleted: bool) -> dict[type[SQLModel], list[Row]]:
        tenant = self._choose_tenant()
        flavor = self._random.choice(self._flavors)
        zone = self._random.choice(ZONES)
        status = self._random.choices(list(_STATUSES), list(_STATUSES.values()))[0]
        node = None if is_deleted or status in _HOMELESS else self._random.choice(self._nodes_of[zone])
        name = f"{self._random.choice(_ROLES)}-{self._random.choice(_STAGES)}-{number:06}"
        instance: Row = {
            "id": number,
            "ecs_id": self._identifiers.new(Prefix.INSTANCE),
            "uuid": self._identifiers.new_uuid(),
            "created_at": made_at,
            "updated_at": made_at,
            "deleted_at": made_at + timedelta(hours=9) if is_deleted else None,
            "tenant_id": tenant.id,
            "department_id": self._random.choice(self._departments[tenant.id]).id,
            "display_name": name,
            "host_name": name,
            "zone": zone,
            "architecture": "x86",
            "flavor_id": flavor.flavor_id,
            "flavor_type_id": flavor.flavor_type_id,
            "vcpus": flavor.cpu,
            "memory_bytes": flavor.ram_gib * GIB,
            "image_id": self._random.choice(self._images).id,
            "image_source": "public",
            "node_id": node["id"] if node else None,
            "status": status,
            "power_state": _POWER_STATES.get(status, PowerState.NONE),
            "task_at": made_at,
            "password_hash": "" if is_deleted else "$y$j9T$" + "x" * 66,
            "vnc_password_encrypted": "g" * 100,
            "user_data": "" if is_deleted else "I2Nsb3VkLWNvbmZpZwo=" * 10,
        }
        rows: dict[type[SQLModel], list[Row]] = {Instance: [instance]}
        if not is_deleted:
            self._living.append((instance["ecs_id"], tenant.id))
            rows[InstanceLabel] = self._new_labels(instance)
            rows[Volume] = self._new_volumes(instance)
            rows[Port] = self._new_ports(instance)
        if node:
            rows[Allocation] = _new_allocations(instance, rows[Volume])
            rows[PlacementRecord] = [_new_record(instance, node)]
        return rows

    def _choose_tenant(self) -> Tenant:
        return self._tenants[bisect(self._tenant_weights, self._random.random() * self._tenant_weights[-1])]

    def _new_labels(self, instance: Row) -> list[Row]:
        labels = {"team": self._random.choice(_TEAMS), "stage": self._random.choice(_STAGES)}
        wanted = self._random.choice((0, 0, 1, 2))
        its = {"instance_id": instance["id"], "created_at": instance["created_at"]}
        return [{**its, "key": key, "value": value} for key, value in list(labels.items())[:wanted]]

    def _new_volumes(self, instance: Row) -> list[Row]:
        return [
            {
                "created_at": instance["created_at"],
                "updated_at": instance["created_at"],
                "uuid": self._identifiers.new_uuid(),
                "name": f"{instance['ecs_id']}-{'data' if position else 'os'}-1",
                "tenant_id": instance["tenant_id"],
                "size_gib": self._random.choice((20, 40, 100)),
                "volume_type": self._random.choice(("ssd", "hdd")),
                "status": "inUse",
                "instance_id": instance["id"],
                "node_id": instance["node_id"],
                "image_id": None if position else instance["image_id"],
                "is_os_disk": position == 0,
                "boot_index": 0 if position else 1,
            }
            for position in range(self._random.choice((1, 2, 2, 3)))
        ]

    def _new_ports(self, instance: Row) -> list[Row]:
        return [
            self._new_port(instance, instance["tenant_id"], position)
            for position in range(self._random.choice((1, 1, 2)))
        ]

    def _new_port(self, instance: Row, tenant_id: str, position: int) -> Row:
        number = self._port_counts[tenant_id]
        self._port_counts[tenant_id] += 1
        self._macs += 1
        subnet_number, address = divmod(number, _SUBNET_ADDRESSES)
        high, low = divmod(address + 2, 256)
        subnet = self._subnets[tenant_id][subnet_number]
        return {
            "created_at": instance["created_at"],
            "updated_at": instance["created_at"],
            "id": self._identifiers.new(Prefix.PORT),
            "uuid": self._identifiers.new_uuid(),
            "name": f"{instance['ecs_id']}{position}",
            "vpc_id": subnet.vpc_id,
            "subnet_id": subnet.id,
            "security_group_id": self._groups[tenant_id].id,
            "instance_id": instance["id"],
            "position": position,
            # An octet of their own, away from those that the coordinator draws.
            "mac_address": "52:55:" + ":".join(f"{self._macs >> shift & 255:02x}" for shift in (24, 16, 8, 0)),
            "ipv4_address": f"10.{subnet_number}.{high}.{low}",
            "port_type": "Extend" if position else "Primary",
        }

    def _describe(self, nodes: Sequence[Row]) -> Cloud:
        largest = self._tenants[0].id
        return Cloud(
            tenants=self._tenants,
            departments=self._departments[largest],
            flavors=self._flavors,
            image=self._images[0],
            subnet=self._subnets[largest][self._port_counts[largest] // _SUBNET_ADDRESSES],
            group=self._groups[largest],
            node=Node(**nodes[len(nodes) // 2]),
            ecs_ids=[ecs_id for ecs_id, _ in self._living],
            tenant_ecs_ids=[ecs_id for ecs_id, tenant_id in self._living if tenant_id == largest],
            operator_token=self._tokens["operator"],
            tenant_token=self._tokens["tenant"],
            small_tenant_token=self._tokens["small tenant"],
        )


def _describe_host(cpu_model: str) -> Node:
    """A node with everything that its agent would tell."""
    facts = host_pb2.HostFacts(
        architecture=host_pb2.ARCHITECTURE_X86_64,
        accelerator=host_pb2.ACCELERATOR_KVM,
        memory_bytes=_MEMORY_GIB * GIB,
        operating_system="Debian GNU/Linux 12 (bookworm)",
        kernel_release="6.1.0-28-amd64",
        libvirt_version="9.0.0",
        qemu_version="7.2.9",
        agent_version="1.0.0",
        traits=["kvm", "secure-boot", "uefi", "vtpm-2.0"],
        cpu=host_pb2.CpuFacts(model_name=cpu_model, sockets=2, cores_per_socket=_CPUS // 4, threads_per_core=2),
        numa_nodes=[_describe_cell(number) for number in range(2)],
        disks=[
            host_pb2.BlockDevice(name=f"nvme{number}n1", size_bytes=1_919_313_510_400, serial=f"S{number:012}")
            for number in range(8)
        ],
        nics=[
            host_pb2.NetworkInterface(name=f"eth{number}", mac_address=f"02:00:00:00:00:0{number}", mtu_bytes=1500)
            for number in range(4)
        ],
    )
    node = Node(id="", name="", machine_uuid="")
    apply_facts(node, facts)
    return node


def _describe_cell(number: int) -> host_pb2.NumaNode:
    """A socket; the two threads of a core are numbered half of all CPUs apart."""
    cores = [[cpu, cpu + _CPUS // 2] for cpu in range(number * _CPUS // 4, (number + 1) * _CPUS // 4)]
    return host_pb2.NumaNode(
        id=number,
        cpu_ids=sorted(cpu for core in cores for cpu in core),
        memory_bytes=_MEMORY_GIB // 2 * GIB,
        cores=[host_pb2.CpuCore(cpu_ids=core) for core in cores],
    )


def _new_allocations(instance: Row, volumes: Sequence[Row]) -> list[Row]:
    amounts = {
        ResourceClass.VCPU: instance["vcpus"],
        ResourceClass.MEMORY_MIB: instance["memory_bytes"] // 1024**2,
        ResourceClass.STORAGE_GIB: sum(volume["size_gib"] for volume in volumes),
    }
    holder = {"consumer_uuid": instance["uuid"], "node_id": instance["node_id"]}
    return [{**holder, "resource_class": name, "amount": amount} for name, amount in amounts.items()]


def _new_record(instance: Row, node: Row) -> Row:
    return {
        "instance_id": instance["id"],
        "node_id": node["id"],
        "node_name": node["name"],
        "decided_at": instance["created_at"],
        "host_count": 10_000,
        "rejected": {"zone": 7500, "capacity": 12},
        "scores": {"free_memory": 0.71, "free_vcpu": 0.64, "rack": 0.2},
    }


def _insert(session: Session, table: type[SQLModel], rows: Sequence[Row]) -> None:
    if rows:
        session.connection().execute(insert(table), list(rows))
