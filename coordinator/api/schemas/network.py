"""VPCs, subnets, security groups and ports on the wire."""

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, Moment
from coordinator.store.tables import Port, SecurityGroup, Subnet, Vpc


class VpcBody(AnswerModel):
    """A network of a tenant."""

    vpc_id: str = Field(description="Id of the VPC.", examples=["vpc-2k9d5m1x8q4z7r0t3w6y"])
    name: str
    cidr: str = Field(examples=["10.80.0.0/24"])
    tenant_id: str | None = Field(description="Owner; null: everybody may use it.")
    is_default: bool = Field(description="Used where none is asked for.")
    created_at: Moment
    updated_at: Moment

    @classmethod
    def of(cls, row: Vpc) -> "VpcBody":
        return cls(**row.model_dump(exclude={"id"}), vpc_id=row.id)


class SubnetBody(AnswerModel):
    """A range of addresses within a VPC."""

    subnet_id: str = Field(description="Id of the subnet.", examples=["snet-8w1q5k2m9x3r7t0z4y6d"])
    name: str
    vpc_id: str
    cidr: str = Field(examples=["10.80.0.0/24"])
    gateway_ip: str = Field(examples=["10.80.0.1"])
    dns_ips: list[str] = Field(description="Name servers; empty: the gateway forwards.")
    is_default: bool = Field(description="Used where none is asked for.")
    created_at: Moment
    updated_at: Moment

    @classmethod
    def of(cls, row: Subnet) -> "SubnetBody":
        names = [name.strip() for name in row.dns_ips.split(",") if name.strip()]
        return cls(**row.model_dump(exclude={"id", "dns_ips"}), subnet_id=row.id, dns_ips=names)


class SecurityGroupBody(AnswerModel):
    """A named set of traffic rules."""

    security_group_id: str = Field(description="Id of the group.", examples=["sg-5t8w2q9k1m4x7z0r3y6d"])
    name: str
    tenant_id: str | None = Field(description="Owner; null: everybody may use it.")
    is_default: bool = Field(description="Used where none is asked for; it lets everything pass.")
    created_at: Moment
    updated_at: Moment

    @classmethod
    def of(cls, row: SecurityGroup) -> "SecurityGroupBody":
        return cls(**row.model_dump(exclude={"id"}), security_group_id=row.id)


class PortBody(AnswerModel):
    """A network interface of an instance."""

    port_id: str = Field(description="Id of the port.", examples=["port-9x2k5m8q1w4z7r0t3y"])
    name: str
    vpc_id: str
    subnet_id: str
    security_group_id: str
    ecs_id: str = Field(description="Instance that has it.")
    mac_address: str = Field(examples=["52:54:00:6b:3c:58"])
    ip_address: str = Field(examples=["10.80.0.17"])
    port_type: str = Field(description="Primary or Extend.")
    network_type: str
    position: int = Field(description="Its place among the instance's interfaces.")
    created_at: Moment
    updated_at: Moment

    @classmethod
    def of(cls, row: tuple[Port, str | None]) -> "PortBody":
        port, ecs_id = row
        columns = port.model_dump(include=set(cls.model_fields))
        return cls(**columns, port_id=port.id, ip_address=port.ipv4_address, ecs_id=ecs_id or "")


class VpcListBody(AnswerModel):
    """One page of VPCs."""

    items: list[VpcBody] = Field(alias="list")
    total_count: int = Field(description="On all pages together.")


class SubnetListBody(AnswerModel):
    """One page of subnets."""

    items: list[SubnetBody] = Field(alias="list")
    total_count: int = Field(description="On all pages together.")


class SecurityGroupListBody(AnswerModel):
    """One page of security groups."""

    items: list[SecurityGroupBody] = Field(alias="list")
    total_count: int = Field(description="On all pages together.")


class PortListBody(AnswerModel):
    """One page of ports."""

    items: list[PortBody] = Field(alias="list")
    total_count: int = Field(description="On all pages together.")
