"""Instances that are not deleted, and what belongs to them."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, or_
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from coordinator.domain.instance import InstanceStatus
from coordinator.domain.listing import Comparison, Listing, ListQuery, Ordering
from coordinator.domain.placement import ResourceClass
from coordinator.store.queries.filter import Field, fetch_page, fields
from coordinator.store.queries.recycle import has_recycled
from coordinator.store.tables import (
    CellAllocation,
    Flavor,
    FlavorType,
    Image,
    Instance,
    InstanceLabel,
    Inventory,
    Node,
    Port,
    RecycledInstance,
    ResourcePool,
    Subnet,
    Task,
    Volume,
)

_OF_FLAVOR = (col(Instance.flavor_id), col(Flavor.flavor_id))
_OF_NODE = (col(Instance.node_id), col(Node.id))
_FIELDS = fields(
    id=Field(Instance.id, int),
    ecsId=Instance.ecs_id,
    displayName=Instance.display_name,
    hostName=Instance.host_name,
    description=Instance.description,
    tenantId=Instance.tenant_id,
    departmentId=Instance.department_id,
    resourceGroupId=Instance.resource_group_id,
    status=Field(Instance.status, InstanceStatus),
    az=Instance.zone,
    cpuArch=Instance.architecture,
    osType=Instance.os_type,
    vCpus=Field(Instance.vcpus, int),
    ram=Field(Instance.memory_bytes, int),
    flavorId=Instance.flavor_id,
    flavorTypeId=Instance.flavor_type_id,
    flavorName=Field(Flavor.name, via=_OF_FLAVOR),
    imageId=Instance.image_id,
    nodeId=Instance.node_id,
    nodeName=Field(Node.name, via=_OF_NODE),
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
# In the order of the labels' index.
_FIELDS_OF_LABELLED = _FIELDS | fields(createdAt=Field(InstanceLabel.created_at, datetime))
_NEWEST_FIRST = (Ordering("createdAt", descending=True),)
_VCPUS_OF_NODE = and_(
    col(Inventory.node_id) == col(Instance.node_id), col(Inventory.resource_class) == ResourceClass.VCPU
)


def find_instance(session: Session, ecs_id: str, *, for_update: bool = False) -> Instance | None:
    """The instance with that id, whoever owns it; `for_update` keeps others from changing it meanwhile."""
    statement = select(Instance).where(Instance.ecs_id == ecs_id, col(Instance.deleted_at).is_(None))
    return session.exec(statement.with_for_update() if for_update else statement).first()


def find_number(session: Session, tenant_id: str | None, ecs_id: str) -> int | None:
    """The numeric id of the instance with that id, if it is that tenant's; tenant None: whoever owns it."""
    statement = select(Instance.id).where(Instance.ecs_id == ecs_id, col(Instance.deleted_at).is_(None))
    return session.exec(statement if tenant_id is None else statement.where(Instance.tenant_id == tenant_id)).first()


def list_instances_by_id(session: Session, ecs_ids: Collection[str]) -> Sequence[Instance]:
    """The instances with those ids, whoever owns them; unknown ids are left out."""
    statement = select(Instance).where(col(Instance.ecs_id).in_(ecs_ids), col(Instance.deleted_at).is_(None))
    return session.exec(statement).all()


def lock_tasks_of(session: Session, ecs_ids: Collection[str]) -> None:
    """The operations that work on the instances now are kept from others until the transaction ends."""
    session.exec(
        select(Task.id)
        .join(Instance, col(Instance.task_id) == col(Task.id))
        .where(col(Instance.ecs_id).in_(ecs_ids))
        .order_by(col(Task.id))
        .with_for_update(of=Task)
    ).all()


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


def list_labels(session: Session, instance: Instance) -> Sequence[InstanceLabel]:
    """Labels of one instance, by their keys."""
    statement = select(InstanceLabel).where(InstanceLabel.instance_id == instance.id)
    return session.exec(statement.order_by(col(InstanceLabel.key))).all()


def list_cells(session: Session, consumer_uuid: str) -> Sequence[CellAllocation]:
    """What the consumer has of its node's NUMA cells."""
    statement = select(CellAllocation).where(CellAllocation.consumer_uuid == consumer_uuid)
    return session.exec(statement.order_by(col(CellAllocation.cell))).all()


def get_flavor(session: Session, instance: Instance) -> Flavor:
    """The flavor of the instance, which may be deleted by now."""
    return session.exec(select(Flavor).where(Flavor.flavor_id == instance.flavor_id)).one()


def get_flavor_type(session: Session, instance: Instance) -> FlavorType:
    """The flavor type of the instance, which may be deleted by now."""
    return session.exec(select(FlavorType).where(FlavorType.flavor_type_id == instance.flavor_type_id)).one()


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
    # Further labels, all of which it has; with None, whatever their value.
    labels: tuple[tuple[str, str | None], ...] = ()
    is_locked: bool | None = None
    cpu_ratio: float | None = None
    # What instances count as that have no node.
    cpu_ratio_without_node: float = 1.0
    # A condition that no instance fulfils, such as an address of a kind that there is none of yet.
    excludes_all: bool = False


def list_numbers(session: Session, tenant_id: str | None, narrowing: Narrowing, query: ListQuery) -> Listing[int]:
    """Numeric ids of one tenant's instances; tenant None: of all. An index has them: no row before the page is read.

    Those in the recycle bin are left out, unless the query names the statuses that it wants.
    """
    statement: Any = select(Instance.id).where(col(Instance.deleted_at).is_(None), *_conditions(tenant_id, narrowing))
    if not _names_statuses(query) and has_recycled(session):
        # Not by status, which not every index of lists has.
        statement = statement.where(col(Instance.id).not_in(select(RecycledInstance.instance_id)))
    known, tie_break = _FIELDS, col(Instance.id)
    if narrowing.label:
        statement = _with_label(statement, *narrowing.label)
        known, tie_break = _FIELDS_OF_LABELLED, col(InstanceLabel.instance_id)
    page = fetch_page(session, statement, query, known, tie_break=tie_break, default=_NEWEST_FIRST)
    return Listing(tuple(row.id for row in page.items), page.total)


def _names_statuses(query: ListQuery) -> bool:
    return any(
        condition.field.casefold() == "status" and condition.comparison in (Comparison.EQUAL, Comparison.IN)
        for condition in query.conditions
    )


def _with_label(statement: Any, key: str, value: str) -> Any:
    """Joined, for labels are in the order of lists and the most of what a list has to look at.

    Where `id` is no plain column SQLite looks for the instance by `created_at`: in an index of lists, not among rows.
    """
    is_its = and_(
        col(InstanceLabel.created_at) == col(Instance.created_at),
        col(InstanceLabel.instance_id) == col(Instance.id) + 0,
    )
    labelled = statement.join(InstanceLabel, is_its)
    return labelled.where(col(InstanceLabel.key) == key, col(InstanceLabel.value) == value)


def _conditions(tenant_id: str | None, narrowing: Narrowing) -> list[ColumnElement[bool]]:
    equal = {
        col(Instance.tenant_id): tenant_id,
        col(Instance.rp_id): narrowing.rp_id or None,
        col(Instance.is_locked): narrowing.is_locked,
    }
    conditions = [column == value for column, value in equal.items() if value is not None]
    if narrowing.excludes_all:
        conditions.append(false())
    if narrowing.cpu_ratio is not None:
        of_node = select_columns(col(Inventory.allocation_ratio)).where(_VCPUS_OF_NODE).correlate(Instance)
        ratio = func.coalesce(of_node.scalar_subquery(), narrowing.cpu_ratio_without_node)
        conditions.append(ratio == narrowing.cpu_ratio)
    return [*conditions, *_references(narrowing)]


def _references(narrowing: Narrowing) -> Iterator[ColumnElement[bool]]:
    """Conditions on what instances refer to, and on what refers to them."""
    if narrowing.node_name:
        yield _is_among(Instance.node_id, Node.id, col(Node.name) == narrowing.node_name)
    if narrowing.rp_name:
        yield _is_among(Instance.rp_id, ResourcePool.id, col(ResourcePool.name) == narrowing.rp_name)
    if narrowing.flavor:
        named = or_(col(Flavor.flavor_id) == narrowing.flavor, col(Flavor.name) == narrowing.flavor)
        yield _is_among(Instance.flavor_id, Flavor.flavor_id, named)
    if narrowing.flavor_type:
        wanted = narrowing.flavor_type
        named = or_(col(FlavorType.flavor_type_id) == wanted, col(FlavorType.name) == wanted)
        yield _is_among(Instance.flavor_type_id, FlavorType.flavor_type_id, named)
    for key, value in narrowing.labels:
        of_value = () if value is None else (col(InstanceLabel.value) == value,)
        yield _is_among(Instance.id, InstanceLabel.instance_id, col(InstanceLabel.key) == key, *of_value)
    # All of them must hold for one and the same port.
    of_port = {
        col(Port.vpc_id): narrowing.vpc_id,
        col(Port.subnet_id): narrowing.subnet_id,
        col(Port.ipv4_address): narrowing.private_ip,
        col(Port.security_group_id): narrowing.security_group_id,
    }
    if any(of_port.values()):
        yield _is_among(Instance.id, Port.instance_id, *(column == value for column, value in of_port.items() if value))


def _is_among(column: Any, other: Any, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether the column's value is `other`'s in some row for which the conditions hold."""
    return col(column).in_(select_columns(other).where(*conditions))


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
    # Of custom flavors, whose instances say how many.
    extra_gpus = func.coalesce(col(Instance.options)[("devices", "gpus")].as_integer(), 0)
    instances = (
        select_columns(
            func.count(),
            func.coalesce(func.sum(Instance.vcpus).filter(is_placed), 0),
            func.coalesce(func.sum(Instance.memory_bytes).filter(is_placed), 0),
            func.coalesce(func.sum(Flavor.gpu + extra_gpus).filter(is_placed), 0),
        )
        .join(Flavor, col(Flavor.flavor_id) == col(Instance.flavor_id))
        .where(col(Instance.tenant_id) == tenant_id, col(Instance.deleted_at).is_(None))
    )
    volumes = select_columns(func.count(), func.coalesce(func.sum(Volume.size_gib), 0)).where(
        col(Volume.tenant_id) == tenant_id
    )
    return TenantUse(*session.execute(instances).one(), *session.execute(volumes).one())
