"""Networks of tenants: VPCs, subnets, security groups, ports."""

from sqlalchemy import Index
from sqlmodel import Field, UniqueConstraint

from coordinator.store.tables.base import Timestamped


class Vpc(Timestamped, table=True):
    """A tenant's network; tenant None: usable by everybody (the default one)."""

    id: str = Field(primary_key=True, max_length=32)
    name: str = Field(max_length=127)
    tenant_id: str | None = Field(default=None, foreign_key="tenant.id", index=True)
    cidr: str = Field(max_length=43)
    is_default: bool = False


class Subnet(Timestamped, table=True):
    """A range of addresses within a VPC."""

    id: str = Field(primary_key=True, max_length=32)
    name: str = Field(max_length=127)
    vpc_id: str = Field(foreign_key="vpc.id", index=True)
    cidr: str = Field(max_length=43)
    gateway_ip: str = Field(max_length=45)
    # Comma separated; empty: the gateway forwards.
    dns_ips: str = Field(default="", max_length=255)
    is_default: bool = False


class SecurityGroup(Timestamped, table=True):
    """A named set of traffic rules; the default one lets everything pass."""

    __tablename__ = "security_group"

    id: str = Field(primary_key=True, max_length=32)
    name: str = Field(max_length=127)
    tenant_id: str | None = Field(default=None, foreign_key="tenant.id", index=True)
    is_default: bool = False


class Port(Timestamped, table=True):
    """A network interface of an instance, with the addresses that it was given."""

    __table_args__ = (
        UniqueConstraint("subnet_id", "ipv4_address"),
        UniqueConstraint("mac_address"),
        # In the order of lists.
        Index("ix_port_listed", "created_at", "id", "name"),
        Index("ix_port_listed_by_instance_id", "instance_id", "created_at", "id", "name"),
    )

    id: str = Field(primary_key=True, max_length=32)
    uuid: str = Field(unique=True, max_length=36)
    name: str = Field(max_length=127)
    vpc_id: str = Field(foreign_key="vpc.id", index=True)
    subnet_id: str = Field(foreign_key="subnet.id", index=True)
    security_group_id: str = Field(foreign_key="security_group.id")
    instance_id: int | None = Field(default=None, foreign_key="instance.id")
    position: int = 0
    mac_address: str = Field(max_length=17)
    ipv4_address: str = Field(max_length=15)
    # "Primary" or "Extend".
    port_type: str = Field(default="Primary", max_length=16)
    # "Geneve", "VLAN", "Flat", as asked.
    network_type: str = Field(default="Geneve", max_length=16)
