"""Flavors and flavor types that are not deleted, and how much they are used."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ScalarSelect, Text, and_, cast, func, or_
from sqlalchemy import select as select_columns
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.store.queries.filter import Field, Statement, fetch_page, fields
from coordinator.store.queries.resource_pool import read_pools
from coordinator.store.tables import Flavor, FlavorType, Instance, ResourcePool


@dataclass(frozen=True, slots=True)
class FlavorTypeUse:
    """A flavor type, how many flavors it has, how many instances use them, and its pools."""

    flavor_type: FlavorType
    flavor_count: int
    instance_count: int
    # That it is bound to, in the order in which they were named.
    pools: tuple[ResourcePool, ...] = ()


@dataclass(frozen=True, slots=True)
class FlavorUse:
    """A flavor, how many instances use it, and its type."""

    flavor: Flavor
    instance_count: int
    type_use: FlavorTypeUse


_TYPE_FIELDS = fields(
    flavorTypeId=FlavorType.flavor_type_id,
    specCode=FlavorType.spec_code,
    name=FlavorType.name,
    archType=FlavorType.arch_type,
    cpuModel=FlavorType.cpu_model,
    vcpuType=FlavorType.vcpu_type,
    az=FlavorType.az,
    deviceType=Field(FlavorType.device_type, ignore_case=True),
    securityType=FlavorType.security_type,
    gpuType=Field(FlavorType.gpu_type, ignore_case=True),
    localDiskType=FlavorType.local_disk_type,
    useSriov=Field(FlavorType.sriov, bool),
    deptAvailable=Field(FlavorType.dept_available, bool),
    rpIds=Field(cast(FlavorType.rp_ids, Text)),
    createdAt=Field(FlavorType.created_at, datetime),
    createAt=Field(FlavorType.created_at, datetime),
)

_FIELDS = fields(
    flavorId=Flavor.flavor_id,
    name=Flavor.name,
    cpu=Field(Flavor.cpu, int),
    ram=Field(Flavor.ram_gib, int),
    gpu=Field(Flavor.gpu, int),
    vgpuTypeId=Flavor.vgpu_type_id,
    vgpuTypeName=Flavor.vgpu_type_name,
    vgpuDisplayName=Flavor.vgpu_display_name,
    vgpuMemory=Flavor.vgpu_memory_gib,
    localDisk=Field(Flavor.local_disk, int),
    useElasticityLocalSysDisk=Flavor.use_elasticity_local_sys_disk,
    elasticityLocalSysDiskSize=Flavor.elasticity_local_sys_disk_size_gib,
    elasticityLocalDataDiskNum=Flavor.elasticity_local_data_disk_num,
    elasticityLocalDataDiskSize=Flavor.elasticity_local_data_disk_size_gib,
    intranetBWMax=Flavor.intranet_bw_max_gbps,
    sriov=Flavor.sriov,
    isCustom=Field(Flavor.is_custom, bool),
    deptAvailable=Field(Flavor.dept_available, bool),
    createdAt=Field(Flavor.created_at, datetime),
    createAt=Field(Flavor.created_at, datetime),
    flavorTypeId=Flavor.flavor_type_id,
    flavorType=FlavorType.name,
    specCode=FlavorType.spec_code,
    archType=FlavorType.arch_type,
    deviceType=Field(FlavorType.device_type, ignore_case=True),
    az=FlavorType.az,
)

_NEWEST_FIRST = (Ordering("createdAt", descending=True),)


def find_flavor(session: Session, flavor_id: str, *, for_update: bool = False) -> Flavor | None:
    """The flavor with that id; `for_update` keeps others from changing it until the transaction ends."""
    statement = select(Flavor).where(Flavor.flavor_id == flavor_id, col(Flavor.deleted_at).is_(None))
    return session.exec(statement.with_for_update() if for_update else statement).first()


def find_flavor_with_type(session: Session, flavor_id: str) -> tuple[Flavor, FlavorType] | None:
    """The flavor with that id, and its type."""
    statement = (
        select(Flavor, FlavorType)
        .join(FlavorType, col(FlavorType.flavor_type_id) == col(Flavor.flavor_type_id))
        .where(Flavor.flavor_id == flavor_id, col(Flavor.deleted_at).is_(None))
    )
    return session.exec(statement).first()


def list_flavors_for(
    session: Session, architecture: str, zone: str, cpu_count: int, ram_gib: int | None
) -> Sequence[tuple[Flavor, FlavorType]]:
    """Flavors that instances of that size may have there, the oldest first: those of just that size, then custom ones.

    Memory of None is no whole number of GiB, which custom flavors alone admit.
    """
    has_size = and_(col(Flavor.cpu) == cpu_count, col(Flavor.ram_gib) == ram_gib, col(Flavor.is_custom).is_(False))
    statement = (
        select(Flavor, FlavorType)
        .join(FlavorType, col(FlavorType.flavor_type_id) == col(Flavor.flavor_type_id))
        .where(
            or_(has_size, col(Flavor.is_custom)),
            col(Flavor.deleted_at).is_(None),
            FlavorType.arch_type == architecture,
            col(FlavorType.az).in_(("", zone)),
        )
        .order_by(col(Flavor.is_custom), col(Flavor.id))
    )
    return session.exec(statement).all()


def find_flavor_type(session: Session, flavor_type_id: str, *, for_update: bool = False) -> FlavorType | None:
    """The flavor type with that id; `for_update` keeps others from changing it until the transaction ends."""
    statement = select(FlavorType).where(
        FlavorType.flavor_type_id == flavor_type_id, col(FlavorType.deleted_at).is_(None)
    )
    return session.exec(statement.with_for_update() if for_update else statement).first()


def list_flavors_of_type(session: Session, flavor_type_id: str) -> list[Flavor]:
    """All flavors of one type."""
    statement = select(Flavor).where(Flavor.flavor_type_id == flavor_type_id, col(Flavor.deleted_at).is_(None))
    return list(session.exec(statement))


def count_instances_of_flavor(session: Session, flavor_id: str) -> int:
    """Instances that use the flavor."""
    return session.exec(
        select(func.count()).where(Instance.flavor_id == flavor_id, col(Instance.deleted_at).is_(None))
    ).one()


def count_instances_of_type(session: Session, flavor_type_id: str) -> int:
    """Instances that use any flavor of the type."""
    return session.exec(
        select(func.count()).where(Instance.flavor_type_id == flavor_type_id, col(Instance.deleted_at).is_(None))
    ).one()


def get_flavor_use(session: Session, flavor_id: str) -> FlavorUse:
    """The flavor with its counts; it must exist."""
    return _flavor_uses(session, [session.execute(_flavors().where(col(Flavor.flavor_id) == flavor_id)).one()])[0]


def get_flavor_type_use(session: Session, flavor_type_id: str) -> FlavorTypeUse:
    """The flavor type with its counts; it must exist."""
    statement = _flavor_types().where(col(FlavorType.flavor_type_id) == flavor_type_id)
    return _type_uses(session, [session.execute(statement).one()])[0]


def list_flavors(session: Session, query: ListQuery) -> Listing[FlavorUse]:
    """Flavors with their types and counts, in one query."""
    page = fetch_page(session, _flavors(), query, _FIELDS, tie_break=col(Flavor.id), default=_NEWEST_FIRST)
    return Listing(tuple(_flavor_uses(session, page.items)), page.total)


def list_flavor_types(session: Session, query: ListQuery) -> Listing[FlavorTypeUse]:
    """Flavor types with their counts, in one query."""
    page = fetch_page(
        session, _flavor_types(), query, _TYPE_FIELDS, tie_break=col(FlavorType.id), default=_NEWEST_FIRST
    )
    return Listing(tuple(_type_uses(session, page.items)), page.total)


def _flavors() -> Statement:
    statement: Any = (
        select_columns(Flavor, _instances_of_flavor(), FlavorType, _flavors_of_type(), _instances_of_type())
        .join(FlavorType, col(FlavorType.flavor_type_id) == col(Flavor.flavor_type_id))
        .where(col(Flavor.deleted_at).is_(None))
    )
    return statement  # type: ignore[no-any-return]


def _flavor_types() -> Statement:
    statement: Any = select_columns(FlavorType, _flavors_of_type(), _instances_of_type()).where(
        col(FlavorType.deleted_at).is_(None)
    )
    return statement  # type: ignore[no-any-return]


def _flavor_uses(session: Session, rows: Sequence[Any]) -> list[FlavorUse]:
    types = _type_uses(session, [row[2:] for row in rows])
    return [FlavorUse(row[0], row[1], type_use) for row, type_use in zip(rows, types, strict=True)]


def _type_uses(session: Session, rows: Sequence[Any]) -> list[FlavorTypeUse]:
    pools = read_pools(session, {rp_id for row in rows for rp_id in row[0].rp_ids})
    return [
        FlavorTypeUse(kind, flavors, instances, tuple(pools[rp_id] for rp_id in kind.rp_ids if rp_id in pools))
        for kind, flavors, instances in rows
    ]


def _instances_of_flavor() -> ScalarSelect[int]:
    matching = (col(Instance.flavor_id) == col(Flavor.flavor_id), col(Instance.deleted_at).is_(None))
    return select_columns(func.count()).where(*matching).correlate(Flavor).scalar_subquery()


def _flavors_of_type() -> ScalarSelect[int]:
    counted = aliased(Flavor)
    matching = (col(counted.flavor_type_id) == FlavorType.flavor_type_id, col(counted.deleted_at).is_(None))
    return select_columns(func.count()).where(*matching).correlate(FlavorType).scalar_subquery()


def _instances_of_type() -> ScalarSelect[int]:
    counted = aliased(Instance)
    matching = (col(counted.flavor_type_id) == FlavorType.flavor_type_id, col(counted.deleted_at).is_(None))
    return select_columns(func.count()).where(*matching).correlate(FlavorType).scalar_subquery()
