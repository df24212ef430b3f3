"""Questions about VPCs, subnets, security groups and ports."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, or_, true
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import Select, SelectOfScalar

from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.store.queries.filter import Field, fetch_page, fetch_rows_of, fields
from coordinator.store.tables import Instance, Port, SecurityGroup, Subnet, Vpc

_NEWEST_LAST = (Ordering("createdAt"),)

_VPC_FIELDS = fields(vpcId=Vpc.id, name=Vpc.name, cidr=Vpc.cidr, createdAt=Vpc.created_at)
_SUBNET_FIELDS = fields(
    subnetId=Subnet.id, name=Subnet.name, vpcId=Subnet.vpc_id, cidr=Subnet.cidr, createdAt=Subnet.created_at
)
_GROUP_FIELDS = fields(securityGroupId=SecurityGroup.id, name=SecurityGroup.name, createdAt=SecurityGroup.created_at)
_PORT_FIELDS = fields(
    portId=Port.id,
    name=Port.name,
    vpcId=Port.vpc_id,
    subnetId=Port.subnet_id,
    ecsId=Field(Instance.ecs_id, via=(col(Port.instance_id), col(Instance.id))),
    macAddress=Port.mac_address,
    ipAddress=Port.ipv4_address,
    createdAt=Port.created_at,
)


def find_default_subnet(session: Session) -> Subnet | None:
    """The subnet for instances that name none."""
    return session.exec(select(Subnet).where(col(Subnet.is_default))).first()


def find_default_security_group(session: Session) -> SecurityGroup | None:
    """The security group for ports that name none."""
    return session.exec(select(SecurityGroup).where(col(SecurityGroup.is_default))).first()


def find_vpc(session: Session, vpc_id: str, tenant_id: str | None) -> Vpc | None:
    """The VPC, if that tenant may use it; tenant None may use all."""
    return session.exec(select(Vpc).where(Vpc.id == vpc_id, _usable(Vpc.tenant_id, tenant_id))).first()


def find_subnet(session: Session, subnet_id: str, tenant_id: str | None) -> Subnet | None:
    """The subnet, if that tenant may use its VPC."""
    return session.exec(_subnets(tenant_id).where(Subnet.id == subnet_id)).first()


def find_first_subnet(session: Session, vpc_id: str) -> Subnet | None:
    """The default subnet of a VPC, else its oldest."""
    order = (col(Subnet.is_default).desc(), col(Subnet.created_at), col(Subnet.id))
    return session.exec(select(Subnet).where(Subnet.vpc_id == vpc_id).order_by(*order)).first()


def find_security_group(session: Session, group_id: str, tenant_id: str | None) -> SecurityGroup | None:
    """The security group, if that tenant may use it."""
    usable = _usable(SecurityGroup.tenant_id, tenant_id)
    return session.exec(select(SecurityGroup).where(SecurityGroup.id == group_id, usable)).first()


def find_port(session: Session, port_id: str, tenant_id: str | None) -> tuple[Port, str | None] | None:
    """The port and the id of its instance, if they are that tenant's."""
    row = session.execute(_ports(tenant_id).where(col(Port.id) == port_id)).first()
    return (row[0], row[1]) if row else None


def list_vpcs(session: Session, tenant_id: str | None, query: ListQuery) -> Listing[Vpc]:
    """VPCs that the tenant may use."""
    statement = select(Vpc).where(_usable(Vpc.tenant_id, tenant_id))
    return fetch_rows_of(session, statement, query, _VPC_FIELDS, tie_break=col(Vpc.id), default=_NEWEST_LAST)


def list_subnets(session: Session, tenant_id: str | None, query: ListQuery) -> Listing[Subnet]:
    """Subnets of the VPCs that the tenant may use."""
    return fetch_rows_of(
        session, _subnets(tenant_id), query, _SUBNET_FIELDS, tie_break=col(Subnet.id), default=_NEWEST_LAST
    )


def list_security_groups(session: Session, tenant_id: str | None, query: ListQuery) -> Listing[SecurityGroup]:
    """Security groups that the tenant may use."""
    statement = select(SecurityGroup).where(_usable(SecurityGroup.tenant_id, tenant_id))
    return fetch_rows_of(
        session, statement, query, _GROUP_FIELDS, tie_break=col(SecurityGroup.id), default=_NEWEST_LAST
    )


def list_ports(session: Session, tenant_id: str | None, query: ListQuery) -> Listing[tuple[Port, str | None]]:
    """Ports of the tenant's instances, each with the instance's id."""
    ids: Any = select(Port.id)
    if tenant_id is not None:
        ids = ids.where(_belongs_to(tenant_id))
    page = fetch_page(session, ids, query, _PORT_FIELDS, tie_break=col(Port.id), default=_NEWEST_LAST)
    # Ids first, which an index has: the rows of what lies before the page are never read.
    wanted = [row.id for row in page.items]
    found = session.execute(_ports(None).where(col(Port.id).in_(wanted)))
    rows = {port.id: (port, ecs_id) for port, ecs_id in found}
    return Listing(tuple(rows[port_id] for port_id in wanted if port_id in rows), page.total)


def list_used_addresses(session: Session, subnet_id: str) -> Sequence[str]:
    """IPv4 addresses of the subnet's ports."""
    return session.exec(select(Port.ipv4_address).where(Port.subnet_id == subnet_id)).all()


def is_address_used(session: Session, subnet_id: str, ipv4_address: str) -> bool:
    """Whether a port of the subnet has that address."""
    statement = select(Port.id).where(Port.subnet_id == subnet_id, Port.ipv4_address == ipv4_address)
    return session.exec(statement).first() is not None


def is_mac_used(session: Session, mac_address: str) -> bool:
    """Whether some port has that MAC address."""
    return session.exec(select(Port.id).where(Port.mac_address == mac_address)).first() is not None


def _usable(owner: Any, tenant_id: str | None) -> ColumnElement[bool]:
    return true() if tenant_id is None else or_(owner.is_(None), owner == tenant_id)


def _subnets(tenant_id: str | None) -> SelectOfScalar[Subnet]:
    joined = select(Subnet).join(Vpc, col(Vpc.id) == col(Subnet.vpc_id))
    return joined.where(_usable(Vpc.tenant_id, tenant_id))


def _ports(tenant_id: str | None) -> Select[Port, str]:
    joined = select(Port, Instance.ecs_id).join(Instance, col(Instance.id) == col(Port.instance_id), isouter=True)
    return joined if tenant_id is None else joined.where(_belongs_to(tenant_id))


def _belongs_to(tenant_id: str) -> ColumnElement[bool]:
    """Whether a port's instance is that tenant's."""
    owned = select(Instance.id).where(Instance.tenant_id == tenant_id, col(Instance.deleted_at).is_(None))
    return col(Port.instance_id).in_(owned)
