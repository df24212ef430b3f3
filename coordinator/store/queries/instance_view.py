"""What is shown beside instances: what they refer to, and what belongs to them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from sqlalchemy import BindParameter, and_, bindparam, exists
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from coordinator.domain.placement import ResourceClass
from coordinator.domain.ssh_key import WANTED_STATES
from coordinator.domain.volume import VolumeBackend
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
    IsoAttachment,
    Node,
    Port,
    RecycledInstance,
    ResourceGroup,
    SecurityGroup,
    SnapshotPolicy,
    SnapshotPolicyBinding,
    SshKey,
    SshKeyBinding,
    Subnet,
    Task,
    Tenant,
    Volume,
    VolumeAttachment,
    Vpc,
)

Item = TypeVar("Item", "VolumeRow", "PortPlace", "LabelRow", "KeyRow")


class InstanceRow(NamedTuple):
    """An instance as lists tell of it, and what the rows tell that it refers to; never a secret of its."""

    id: int
    ecs_id: str
    created_at: datetime
    updated_at: datetime
    tenant_id: str
    department_id: str
    resource_group_id: str
    display_name: str
    host_name: str
    description: str
    zone: str
    architecture: str
    os_type: str
    flavor_id: str
    flavor_type_id: str
    vcpus: int
    memory_bytes: int
    huge_page_bytes: int
    vcpu_type: str
    image_id: str | None
    image_source: str
    status: str
    task_at: datetime | None
    error_message: str
    is_locked: bool
    vmtools_status: str
    vmtools_version: str
    vmtools_probed_at: datetime | None
    monitor_version: int
    vnc_password_enabled: bool
    billing_mode: str
    order_no: str
    rp_id: str
    hg_id: str
    deployment_set: str
    ha_enabled: bool
    options: Mapping[str, Any]
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
    # Since when it is in the recycle bin, and until when.
    recycled_at: datetime | None
    purge_at: datetime | None
    # The snapshot policy that it is bound to.
    policy_id: str | None
    policy_name: str | None
    has_iso: bool


class VolumeRow(NamedTuple):
    """A disk of an instance."""

    instance_id: int
    id: int
    uuid: str
    created_at: datetime
    updated_at: datetime
    name: str
    tenant_id: str
    size_gib: int
    volume_type: str
    status: str
    image_id: str | None
    is_os_disk: bool
    disk_bus: str
    volume_mode: str
    boot_index: int
    delete_on_termination: bool
    multi_attach: bool
    storage_pool_id: str | None
    backend: VolumeBackend


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


class LabelRow(NamedTuple):
    """A label of an instance."""

    instance_id: int
    key: str
    value: str


class KeyRow(NamedTuple):
    """An SSH key that is bound to an instance."""

    instance_id: int
    id: str
    name: str
    fingerprint: str


class Referring(Protocol):
    """An instance, as far as it tells what belongs to it: a stored one, or a row of a list."""

    @property
    def id(self) -> int | None: ...
    @property
    def flavor_id(self) -> str: ...
    @property
    def flavor_type_id(self) -> str: ...
    @property
    def image_id(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The rows that instances refer to, and what refers to them: each row once, however many instances share it."""

    # By the instance's numeric id; the system disk first.
    volumes: Mapping[int, Sequence[VolumeRow]]
    # In their order.
    ports: Mapping[int, Sequence[PortPlace]]
    # By key.
    labels: Mapping[int, Sequence[LabelRow]]
    # In the order in which they were bound.
    keys: Mapping[int, Sequence[KeyRow]]
    # By their own ids.
    flavors: Mapping[str, Flavor]
    flavor_types: Mapping[str, FlavorType]
    images: Mapping[str, Image]


_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
# Statements are made once, here: making one takes longer than executing it.
# What an InstanceRow has from elsewhere than the instance's own columns.
_REFERRED: Mapping[str, Any] = {
    "tenant_name": Tenant.name,
    "department_name": Department.name,
    "resource_group_name": ResourceGroup.name,
    "node_name": Node.name,
    "host_group_name": HostGroup.name,
    "task_kind": Task.kind,
    "task_attempts": Task.attempts,
    "task_message": Task.message,
    "cpu_ratio": Inventory.allocation_ratio,
    "recycled_at": RecycledInstance.recycled_at,
    "purge_at": RecycledInstance.purge_at,
    "policy_id": SnapshotPolicy.policy_id,
    "policy_name": SnapshotPolicy.name,
    "has_iso": exists().where(col(IsoAttachment.instance_id) == col(Instance.id)),
}
_INSTANCES: Statement = (
    select_columns(*(_REFERRED[name] if name in _REFERRED else getattr(Instance, name) for name in InstanceRow._fields))
    .select_from(Instance)
    .join(Tenant, col(Tenant.id) == col(Instance.tenant_id))
    .outerjoin(Department, col(Department.id) == col(Instance.department_id))
    .outerjoin(ResourceGroup, col(ResourceGroup.id) == col(Instance.resource_group_id))
    .outerjoin(Node, col(Node.id) == col(Instance.node_id))
    .outerjoin(Task, col(Task.id) == col(Instance.task_id))
    .outerjoin(RecycledInstance, col(RecycledInstance.instance_id) == col(Instance.id))
    .outerjoin(SnapshotPolicyBinding, col(SnapshotPolicyBinding.instance_id) == col(Instance.id))
    .outerjoin(SnapshotPolicy, col(SnapshotPolicy.id) == col(SnapshotPolicyBinding.policy_id))
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
# What the instance's own share of a volume tells, and not the volume.
_COLUMNS_OF_SHARED: Final = dict.fromkeys(("instance_id", "status", "delete_on_termination"), VolumeAttachment)
_VOLUMES: Statement = (
    select_columns(*(getattr(Volume, name) for name in VolumeRow._fields))
    .where(col(Volume.instance_id).in_(_IDS))
    .order_by(col(Volume.is_os_disk).desc(), col(Volume.id).asc())
)
_SHARED_VOLUMES: Statement = (
    select_columns(*(getattr(_COLUMNS_OF_SHARED.get(name, Volume), name) for name in VolumeRow._fields))
    .join(VolumeAttachment, col(VolumeAttachment.volume_id) == col(Volume.id))
    .where(col(VolumeAttachment.instance_id).in_(_IDS))
    .order_by(col(VolumeAttachment.id).asc())
)
_LABELS: Statement = (
    select_columns(*(getattr(InstanceLabel, name) for name in LabelRow._fields))
    .where(col(InstanceLabel.instance_id).in_(_IDS))
    .order_by(col(InstanceLabel.key).asc())
)
_KEYS: Statement = (
    select_columns(SshKeyBinding.instance_id, SshKey.id, SshKey.name, SshKey.fingerprint)  # type: ignore[call-overload]
    .join(SshKey, col(SshKey.id) == col(SshKeyBinding.ssh_key_id))
    .where(col(SshKeyBinding.instance_id).in_(_IDS), col(SshKeyBinding.state).in_(WANTED_STATES))
    .order_by(col(SshKeyBinding.id).asc())
)
_FLAVORS = select(Flavor).where(col(Flavor.flavor_id).in_(_IDS))
_FLAVOR_TYPES = select(FlavorType).where(col(FlavorType.flavor_type_id).in_(_IDS))
_IMAGES = select(Image).where(col(Image.id).in_(_IDS))


def read_instances(session: Session, numbers: Sequence[int]) -> list[InstanceRow]:
    """The instances with those numeric ids in their order, deleted ones included; unknown ids are left out."""
    rows = {row.id: row for row in (InstanceRow(*row) for row in session.execute(_INSTANCES, {"ids": numbers}))}
    return [rows[number] for number in numbers if number in rows]


def read_surroundings(session: Session, instances: Sequence[Referring]) -> Surroundings:
    """What belongs to instances, in as many queries for fifty as for one."""
    ids = {"ids": [instance.id for instance in instances]}
    flavor_ids = {"ids": list({instance.flavor_id for instance in instances})}
    flavor_type_ids = {"ids": list({instance.flavor_type_id for instance in instances})}
    image_ids = {"ids": list({instance.image_id for instance in instances if instance.image_id})}
    return Surroundings(
        volumes=_by_instance(
            VolumeRow(*row) for statement in (_VOLUMES, _SHARED_VOLUMES) for row in session.execute(statement, ids)
        ),
        ports=_by_instance(PortPlace(*row) for row in session.execute(_PORTS, ids)),
        labels=_by_instance(LabelRow(*row) for row in session.execute(_LABELS, ids)),
        keys=_by_instance(KeyRow(*row) for row in session.execute(_KEYS, ids)),
        flavors={row.flavor_id: row for row in session.scalars(_FLAVORS, flavor_ids)},
        flavor_types={row.flavor_type_id: row for row in session.scalars(_FLAVOR_TYPES, flavor_type_ids)},
        images={row.id: row for row in session.scalars(_IMAGES, image_ids)} if image_ids["ids"] else {},
    )


def _by_instance(rows: Iterable[Item]) -> dict[int, list[Item]]:
    grouped: dict[int, list[Item]] = {}
    for row in rows:
        grouped.setdefault(row.instance_id, []).append(row)
    return grouped
