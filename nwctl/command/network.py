"""`nwctl vpc`, `nwctl subnet`: the networks."""

from nwctl.binding import command, noun
from nwctl.option import Page
from nwctl.output import Column
from nwctl.resource import Resource
from nwctl.session import Session

VPC = Resource(
    noun="VPC",
    path="/api/vpc/v1/vpcs",
    id_field="vpcId",
    id_pattern="vpc-[a-z0-9]{20}",
    columns=(
        Column("ID", "vpcId"),
        Column("Name", "name"),
        Column("CIDR", "cidr"),
        Column("Default", "isDefault"),
    ),
)
SUBNET = Resource(
    noun="subnet",
    path="/api/vpc/v1/subnets",
    id_field="subnetId",
    id_pattern="snet-[a-z0-9]{20}",
    columns=(
        Column("ID", "subnetId"),
        Column("Name", "name"),
        Column("CIDR", "cidr"),
        Column("Gateway", "gatewayIp"),
        Column("VPC", "vpcId"),
        Column("Default", "isDefault"),
    ),
)
SECURITY_GROUP = Resource(
    noun="security group",
    path="/api/vpc/v1/security-groups",
    id_field="securityGroupId",
    id_pattern="sg-[a-z0-9]{20}",
    columns=(Column("ID", "securityGroupId"), Column("Name", "name"), Column("Default", "isDefault")),
)

vpc = noun("vpc", "VPCs: networks of tenants.")
subnet = noun("subnet", "Subnets: ranges of addresses within a VPC.")
security_group = noun("security-group", "Security groups: what traffic may pass.")


@command(vpc, "list")
def list_vpcs(session: Session, page: Page) -> None:
    """List the VPCs."""
    session.show_list(VPC, page)


@command(subnet, "list")
def list_subnets(session: Session, page: Page) -> None:
    """List the subnets."""
    session.show_list(SUBNET, page)


@command(security_group, "list")
def list_security_groups(session: Session, page: Page) -> None:
    """List the security groups."""
    session.show_list(SECURITY_GROUP, page)
