"""Instances that are not deleted, and what belongs to them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import ColumnElement, and_, exists, false, func, or_
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.domain.placement import ResourceClass
from coordinator.store.queries.filter import Field, Statement, fetch_rows_of, fields
from coordinator.store.tables import (
    CellAllocation,
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
    ResourcePool,
    SecurityGroup,
    Subnet,
    Task,
    Tenant,
    Volume,
    Vpc,
)

Item = TypeVar("Item")

_FIELDS = fields(
    id=Field(Instance.id, int),
    ecsId=Instance.ecs_id,
    displayName=Instance.display_name,
    hostName=Instance.host_name,
    description=Instance.description,
    tenantId=Instance.tenant_id,
    departmentId=Instance.department_id,
    resourceGroupId=Instance.resource_group_id,
    status=Field(Instance.status, ignore_case=True),
    az=Instance.zone,
    cpuArch=Instance.architecture,
    osType=Instance.os_type,
    vCpus=Field(Instance.vcpus, int),
    ram=Field(Instance.memory_bytes, int),
    flavorId=Instance.flavor_id,
    flavorTypeId=Instance.flavor_type_id,
    flavorName=Flavor.name,
    imageId=Instance.image_id,
    nodeId=Instance.node_id,
    nodeName=Node.name,
    billingMode=Instance.billing_mode,
    vcpuType=Instance.vcpu_type,
    rpId=Instance.rp_id,
    hgId=Instance.hg_id,
    deploymentSet=Instance.deployment_set,
    taskAt=Instance.task_at,
    isLock=Field(Instance.is_locked, bool),
    createdAt=Field(Instance.created_at, datetime),
    updatedAt=Field(Instance.updated_at, datetime),
)
_NEWEST_FIRST = (Ordering("createdAt", descending=True),)
_FLAVOR_NAMES = (col(Flavor.flavor_id), col(Flavor.name))
_FLAVOR_TYPE_NAMES = (col(FlavorType.flavor_type_id), col(FlavorType.name))


def find_instance(session: Session, ecs_id: str, *, for_update: bool = False) -> Instance | None:
    """The instance with that id, whoever owns it; `for_update` keeps others from changing it meanwhile."""
    statement = select(Instance).where(Instance.ecs_id == ecs_id, col(Instance.deleted_at).is_(None))
    return session.exec(statement.with_for_update() if for_update else statement).first()


def list_instances_by_id(session: Session, ecs_ids: Collection[str]) -> Sequence[Instance]:
    """The instances with those ids, whoever owns them; unknown ids are left out."""
    statement = select(Instance).where(col(Instance.ecs_id).in_(ecs_ids), col(Instance.deleted_at).is_(None))
    return session.exec(statement).all()


def lock_instances(session: Session, ecs_ids: Collection[str]) -> dict[str, Instance]:
    """The instances with those ids, by id, kept from others until the transaction ends; unknown ids are left out."""
    statement = (
        select(Instance)
        .where(col(Instance.ecs_id).in_(ecs_ids), col(Instance.deleted_at).is_(None))
        # In one order everywhere, so that two callers cannot wait for each other.
        .order_by(col(Instance.id))
        .with_for_update()
    )
    return {instance.ecs_id: instance for instance in session.exec(statement)}


def list_volumes(session: Session, instance: Instance) -> Sequence[Volume]:
    """Volumes of one instance, the system disk first."""
    statement = (
        select(Volume)
        .where(Volume.instance_id == instance.id)
        .order_by(col(Volume.is_os_disk).desc(), col(Volume.id).asc())
    )
    return session.exec(statement).all()


def list_ports(session: Session, instance: Instance) -> Sequence[tuple[Port, Subnet]]:
    """Ports of one instance in their order, each with its subnet."""
    statement = (
        select(Port, Subnet)
        .join(Subnet, col(Subnet.id) == col(Port.subnet_id))
        .where(Port.instance_id == instance.id)
        .order_by(col(Port.position).asc())
    )
    return session.exec(statement).all()


def list_cells(session: Session, instance: Instance) -> Sequence[CellAllocation]:
    """What the instance has of its node's NUMA cells."""
    statement = select(CellAllocation).where(CellAllocation.consumer_uuid == instance.uuid)
    return session.exec(statement.order_by(col(CellAllocation.cell))).all()


def get_flavor_type(session: Session, instance: Instance) -> FlavorType:
    """The flavor type of the instance, which may be deleted by now."""
    return session.exec(select(FlavorType).where(FlavorType.flavor_type_id == instance.flavor_type_id)).one()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The rows that an instance refers to."""

    flavor: Flavor
    flavor_type: FlavorType
    tenant: Tenant
    department: Department | None
    resource_group: ResourceGroup | None
    node: Node | None
    image: Image | None
    task: Task | None
    host_group: HostGroup | None
    # vCPUs for each CPU of the node.
    cpu_ratio: float | None


@dataclass(frozen=True, slots=True)
class PortPlace:
    """A port and where it is plugged in."""

    port: Port
    subnet: Subnet
    vpc: Vpc
    security_group: SecurityGroup


_SURROUNDINGS = (
    Flavor,
    FlavorType,
    Tenant,
    Department,
    ResourceGroup,
    Node,
    Image,
    Task,
    HostGroup,
    Inventory.allocation_ratio,
)
_VCPUS_OF_NODE = and_(
    col(Inventory.node_id) == col(Instance.node_id), col(Inventory.resource_class) == ResourceClass.VCPU
)


def read_surroundings(session: Session, instance_ids: Collection[int]) -> dict[int, Surroundings]:
    """What instances refer to, by the instance's numeric id."""
    statement: Statement = (
        select_columns(Instance.id, *_SURROUNDINGS)  # type: ignore[call-overload]
        .join(Flavor, col(Flavor.flavor_id) == col(Instance.flavor_id))
        .join(FlavorType, col(FlavorType.flavor_type_id) == col(Instance.flavor_type_id))
        .join(Tenant, col(Tenant.id) == col(Instance.tenant_id))
        .outerjoin(Department, col(Department.id) == col(Instance.department_id))
        .outerjoin(ResourceGroup, col(ResourceGroup.id) == col(Instance.resource_group_id))
        .outerjoin(Node, col(Node.id) == col(Instance.node_id))
        .outerjoin(Image, col(Image.id) == col(Instance.image_id))
        .outerjoin(Task, col(Task.id) == col(Instance.task_id))
        .outerjoin(HostGroup, col(HostGroup.id) == col(Instance.hg_id))
        .outerjoin(Inventory, _VCPUS_OF_NODE)
        .where(col(Instance.id).in_(instance_ids))
    )
    return {row[0]: Surroundings(*row[1:]) for row in session.execute(statement)}


def list_volumes_of(session: Session, instance_ids: Collection[int]) -> dict[int, list[Volume]]:
    """Volumes by the instance's numeric id, the system disk first."""
    statement = (
        select(Volume)
        .where(col(Volume.instance_id).in_(instance_ids))
        .order_by(col(Volume.is_os_disk).desc(), col(Volume.id).asc())
    )
    return _by_instance((volume.instance_id, volume) for volume in session.exec(statement))


def list_ports_of(session: Session, instance_ids: Collection[int]) -> dict[int, list[PortPlace]]:
    """Ports by the instance's numeric id, in their order."""
    statement = (
        select(Port, Subnet, Vpc, SecurityGroup)
        .join(Subnet, col(Subnet.id) == col(Port.subnet_id))
        .join(Vpc, col(Vpc.id) == col(Port.vpc_id))
        .join(SecurityGroup, col(SecurityGroup.id) == col(Port.security_group_id))
        .where(col(Port.instance_id).in_(instance_ids))
        .order_by(col(Port.position).asc())
    )
    return _by_instance((row[0].instance_id, PortPlace(*row)) for row in session.exec(statement))


def list_labels_of(session: Session, instance_ids: Collection[int]) -> dict[int, list[InstanceLabel]]:
    """Labels by the instance's numeric id, by key."""
    statement = (
        select(InstanceLabel)
        .where(col(InstanceLabel.instance_id).in_(instance_ids))
        .order_by(col(InstanceLabel.key).asc())
    )
    return _by_instance((label.instance_id, label) for label in session.exec(statement))


def _by_instance(pairs: Iterable[tuple[int | None, Item]]) -> dict[int, list[Item]]:
    grouped: dict[int, list[Item]] = {}
    for instance_id, item in pairs:
        if instance_id is not None:
            grouped.setdefault(instance_id, []).append(item)
    return grouped


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What else a list of instances can be narrowed by; empty and None mean no condition."""

    vpc_id: str = ""
    subnet_id: str = ""
    private_ip: str = ""
    security_group_id: str = ""
    flavor_type: str = ""
    flavor: str = ""
    rp_id: str = ""
    rp_name: str = ""
    node_name: str = ""
    label: tuple[str, str] | None = None
    is_locked: bool | None = None
    cpu_ratio: float | None = None
    # What instances count as that have no node.
    cpu_ratio_without_node: float = 1.0
    # A condition that no instance fulfils, such as an address of a kind that there is none of yet.
    excludes_all: bool = False


def list_instances(
    session: Session, tenant_id: str | None, narrowing: Narrowing, query: ListQuery
) -> Listing[Instance]:
    """Instances of one tenant; tenant None: of all."""
    statement = (
        select(Instance)
        .join(Flavor, col(Flavor.flavor_id) == col(Instance.flavor_id))
        .join(FlavorType, col(FlavorType.flavor_type_id) == col(Instance.flavor_type_id))
        .outerjoin(Node, col(Node.id) == col(Instance.node_id))
        .where(col(Instance.deleted_at).is_(None), *_conditions(tenant_id, narrowing))
    )
    return fetch_rows_of(
        session,
        statement,
        query,
        _FIELDS,
        tie_break=col(Instance.id),
        default=(Ordering("createdAt", descending=True),),
    )


def _conditions(tenant_id: str | None, narrowing: Narrowing) -> list[ColumnElement[bool]]:
    equal = {
        col(Instance.tenant_id): tenant_id,
        col(Instance.rp_id): narrowing.rp_id or None,
        col(Instance.is_locked): narrowing.is_locked,
        col(Node.name): narrowing.node_name or None,
    }
    conditions = [column == value for column, value in equal.items() if value is not None]
    if narrowing.excludes_all:
        conditions.append(false())
    if narrowing.cpu_ratio is not None:
        of_node = select_columns(col(Inventory.allocation_ratio)).where(_VCPUS_OF_NODE).correlate(Instance)
        ratio = func.coalesce(of_node.scalar_subquery(), narrowing.cpu_ratio_without_node)
        conditions.append(ratio == narrowing.cpu_ratio)
    if narrowing.rp_name:
        named = select_columns(col(ResourcePool.id)).where(col(ResourcePool.name) == narrowing.rp_name)
        conditions.append(col(Instance.rp_id).in_(named))
    if narrowing.flavor_type:
        conditions.append(or_(*(column == narrowing.flavor_type for column in _FLAVOR_TYPE_NAMES)))
    if narrowing.flavor:
        conditions.append(or_(*(column == narrowing.flavor for column in _FLAVOR_NAMES)))
    if narrowing.label:
        key, value = narrowing.label
        conditions.append(
            exists().where(
                col(InstanceLabel.instance_id) == col(Instance.id),
                col(InstanceLabel.key) == key,
                col(InstanceLabel.value) == value,
            )
        )
    return conditions + _port_conditions(narrowing)


def _port_conditions(narrowing: Narrowing) -> list[ColumnElement[bool]]:
    """All of them must hold for one and the same port."""
    wanted = {
        col(Port.vpc_id): narrowing.vpc_id,
        col(Port.subnet_id): narrowing.subnet_id,
        col(Port.ipv4_address): narrowing.private_ip,
        col(Port.security_group_id): narrowing.security_group_id,
    }
    conditions = [column == value for column, value in wanted.items() if value]
    return [exists().where(col(Port.instance_id) == col(Instance.id), *conditions)] if conditions else []


def is_zone_of_node(session: Session, zone: str) -> bool:
    """Whether some node says that it lies in `zone`."""
    return session.exec(select(Node.id).where(Node.zone == zone)).first() is not None


def find_image_by_source(session: Session, url: str) -> Image | None:
    """The newest image that was registered from `url`."""
    statement = select(Image).where(Image.source_url == url, col(Image.deleted_at).is_(None))
    return session.exec(statement.order_by(col(Image.created_at).desc())).first()


@dataclass(frozen=True, slots=True)
class TenantUse:
    """What a tenant's instances and volumes take; an instance without a host has no vCPUs, memory and GPUs."""

    instances: int
    vcpus: int
    memory_bytes: int
    gpus: int
    volumes: int
    storage_gib: int


def read_tenant_use(session: Session, tenant_id: str) -> TenantUse:
    """What the tenant uses now."""
    is_placed = col(Instance.node_id).is_not(None)
    instances = (
        select_columns(
            func.count(),
            func.coalesce(func.sum(Instance.vcpus).filter(is_placed), 0),
            func.coalesce(func.sum(Instance.memory_bytes).filter(is_placed), 0),
            func.coalesce(func.sum(Flavor.gpu).filter(is_placed), 0),
        )
        .join(Flavor, col(Flavor.flavor_id) == col(Instance.flavor_id))
        .where(col(Instance.tenant_id) == tenant_id, col(Instance.deleted_at).is_(None))
    )
    volumes = select_columns(func.count(), func.coalesce(func.sum(Volume.size_gib), 0)).where(
        col(Volume.tenant_id) == tenant_id
    )
    return TenantUse(*session.execute(instances).one(), *session.execute(volumes).one())
