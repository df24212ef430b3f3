"""What is shown beside instances: what they refer to, and what belongs to them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import BindParameter, and_, bindparam
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from coordinator.domain.placement import ResourceClass
from coordinator.store.queries.filter import Statement
from coordinator.store.tables import (
    Department,
    Flavor,
    FlavorType,
    HostGroup,
    Image,
    Instance,
    InstanceLabel,
    Inventory,
    Node,
    Port,
    ResourceGroup,
    SecurityGroup,
    Subnet,
    Task,
    Tenant,
    Volume,
    Vpc,
)

Item = TypeVar("Item")


class Around(NamedTuple):
    """What other rows tell about an instance."""

    instance_id: int
    tenant_name: str
    department_name: str | None
    resource_group_name: str | None
    node_name: str | None
    host_group_name: str | None
    task_kind: str | None
    task_attempts: int | None
    task_message: str | None
    # vCPUs for each CPU of the node.
    cpu_ratio: float | None


class PortPlace(NamedTuple):
    """A port and where it is plugged in."""

    instance_id: int
    port_id: str
    port_name: str
    uuid: str
    port_type: str
    network_type: str
    ipv4_address: str
    mac_address: str
    vpc_id: str
    vpc_name: str
    subnet_id: str
    subnet_name: str
    subnet_cidr: str
    dns_ips: str
    security_group_id: str
    security_group_name: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The rows that instances refer to, and what refers to them: each row once, however many instances share it."""

    # By the instance's numeric id.
    around: Mapping[int, Around]
    # The system disk first.
    volumes: Mapping[int, Sequence[Volume]]
    # In their order.
    ports: Mapping[int, Sequence[PortPlace]]
    # By key.
    labels: Mapping[int, Sequence[InstanceLabel]]
    # By their own ids.
    flavors: Mapping[str, Flavor]
    flavor_types: Mapping[str, FlavorType]
    images: Mapping[str, Image]


_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
# Statements are made once, here: making one takes longer than executing it.
_AROUND: Statement = (
    select_columns(  # type: ignore[call-overload]
        Instance.id,
        Tenant.name,
        Department.name,
        ResourceGroup.name,
        Node.name,
        HostGroup.name,
        Task.kind,
        Task.attempts,
        Task.message,
        Inventory.allocation_ratio,
    )
    .join(Tenant, col(Tenant.id) == col(Instance.tenant_id))
    .outerjoin(Department, col(Department.id) == col(Instance.department_id))
    .outerjoin(ResourceGroup, col(ResourceGroup.id) == col(Instance.resource_group_id))
    .outerjoin(Node, col(Node.id) == col(Instance.node_id))
    .outerjoin(Task, col(Task.id) == col(Instance.task_id))
    .outerjoin(HostGroup, col(HostGroup.id) == col(Instance.hg_id))
    .outerjoin(
        Inventory,
        and_(col(Inventory.node_id) == col(Node.id), col(Inventory.resource_class) == ResourceClass.VCPU),
    )
    .where(col(Instance.id).in_(_IDS))
)
_PORTS: Statement = (
    select_columns(  # type: ignore[call-overload]
        Port.instance_id,
        Port.id,
        Port.name,
        Port.uuid,
        Port.port_type,
        Port.network_type,
        Port.ipv4_address,
        Port.mac_address,
        Vpc.id,
        Vpc.name,
        Subnet.id,
        Subnet.name,
        Subnet.cidr,
        Subnet.dns_ips,
        SecurityGroup.id,
        SecurityGroup.name,
    )
    .join(Subnet, col(Subnet.id) == col(Port.subnet_id))
    .join(Vpc, col(Vpc.id) == col(Port.vpc_id))
    .join(SecurityGroup, col(SecurityGroup.id) == col(Port.security_group_id))
    .where(col(Port.instance_id).in_(_IDS))
    .order_by(col(Port.position).asc())
)
_VOLUMES = (
    select(Volume)
    .where(col(Volume.instance_id).in_(_IDS))
    .order_by(col(Volume.is_os_disk).desc(), col(Volume.id).asc())
)
_LABELS = select(InstanceLabel).where(col(InstanceLabel.instance_id).in_(_IDS)).order_by(col(InstanceLabel.key).asc())
_FLAVORS = select(Flavor).where(col(Flavor.flavor_id).in_(_IDS))
_FLAVOR_TYPES = select(FlavorType).where(col(FlavorType.flavor_type_id).in_(_IDS))
_IMAGES = select(Image).where(col(Image.id).in_(_IDS))


def read_surroundings(session: Session, instances: Sequence[Instance]) -> Surroundings:
    """What belongs to instances, in as many queries for fifty as for one."""
    ids = {"ids": [instance.id for instance in instances]}
    flavor_ids = {"ids": list({instance.flavor_id for instance in instances})}
    flavor_type_ids = {"ids": list({instance.flavor_type_id for instance in instances})}
    image_ids = {"ids": list({instance.image_id for instance in instances if instance.image_id})}
    return Surroundings(
        around={row[0]: Around(*row) for row in session.execute(_AROUND, ids)},
        volumes=_by_instance((volume.instance_id, volume) for volume in session.scalars(_VOLUMES, ids)),
        ports=_by_instance((row[0], PortPlace(*row)) for row in session.execute(_PORTS, ids)),
        labels=_by_instance((label.instance_id, label) for label in session.scalars(_LABELS, ids)),
        flavors={row.flavor_id: row for row in session.scalars(_FLAVORS, flavor_ids)},
        flavor_types={row.flavor_type_id: row for row in session.scalars(_FLAVOR_TYPES, flavor_type_ids)},
        images={row.id: row for row in session.scalars(_IMAGES, image_ids)} if image_ids["ids"] else {},
    )


def _by_instance(pairs: Iterable[tuple[int | None, Item]]) -> dict[int, list[Item]]:
    grouped: dict[int, list[Item]] = {}
    for instance_id, item in pairs:
        if instance_id is not None:
            grouped.setdefault(instance_id, []).append(item)
    return grouped
