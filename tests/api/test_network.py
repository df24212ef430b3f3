"""Networks, and the addresses that ports get."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coordinator.domain.caller import Caller, Role
from coordinator.errors import AddressesExhausted, CoordinatorError
from coordinator.runtime import Runtime
from coordinator.services.network import (
    PortRequest,
    allocate_port,
    ensure_default_network,
    find_security_group,
    find_subnet,
)
from coordinator.store.tables import Instance, Port, Subnet, Tenant
from tests.api.client import Api
from tests.builders import a_flavor, a_flavor_type, a_subnet, a_vpc, add, an_instance
from tests.database import BOTH_DATABASES

VPC = "/api/vpc/v1"
OPERATOR = Caller("tok-of-the-tests", Role.OPERATOR)


@pytest.fixture
def instance(runtime: Runtime, tenant: Tenant) -> Instance:
    kind = a_flavor_type()
    flavor = a_flavor(kind)
    made = an_instance(tenant, flavor)
    with runtime.database.write() as session:
        add(session, kind, flavor, made)
    return made


def allocate(runtime: Runtime, instance: Instance, subnet_id: str = "", **fields: Any) -> Port:
    with runtime.database.write() as session:
        subnet = find_subnet(session, OPERATOR, subnet_id=subnet_id)
        group = find_security_group(session, OPERATOR)
        assert instance.id is not None
        return allocate_port(session, runtime, subnet, group, instance_id=instance.id, request=PortRequest(**fields))


def a_stored_subnet(runtime: Runtime, cidr: str, gateway: str, tenant: Tenant | None = None) -> Subnet:
    vpc = a_vpc(name="own", cidr=cidr, tenant_id=tenant.id if tenant else None)
    subnet = a_subnet(vpc, name="own", cidr=cidr, gateway_ip=gateway)
    with runtime.database.write() as session:
        add(session, vpc, subnet)
    return subnet


def test_the_default_network_is_there_once_for_everybody(customer: Api, runtime: Runtime) -> None:
    ensure_default_network(runtime)
    for path, field in (("vpcs", "vpcId"), ("subnets", "subnetId"), ("security-groups", "securityGroupId")):
        (row,) = customer.ok("GET", f"{VPC}/{path}")["list"]
        assert row["isDefault"]
        assert customer.ok("GET", f"{VPC}/{path}/{row[field]}") == row
    (subnet,) = customer.ok("GET", f"{VPC}/subnets")["list"]
    assert (subnet["cidr"], subnet["gatewayIp"]) == ("10.80.0.0/24", "10.80.0.1")


@pytest.mark.parametrize("path", ["vpcs", "subnets", "security-groups"])
def test_moments_are_compared_as_moments(customer: Api, path: str) -> None:
    assert customer.ok("GET", f"{VPC}/{path}?filter=createdAt:gt:2000-01-01T00:00:00Z")["totalCount"] == 1
    assert customer.refused("GET", f"{VPC}/{path}?filter=createdAt:gt:then").message.startswith("filter: createdAt")


@pytest.mark.parametrize("path", ["vpcs/vpc-x", "subnets/snet-x", "security-groups/sg-x", "ports/port-x"])
def test_what_does_not_exist(customer: Api, path: str) -> None:
    assert customer.refused("GET", f"{VPC}/{path}").code == "ECS.DBGet.NoData"


def test_networks_of_a_tenant_exist_for_nobody_else(
    customer: Api, stranger: Api, operator: Api, runtime: Runtime, tenant: Tenant
) -> None:
    subnet = a_stored_subnet(runtime, "10.9.0.0/24", "10.9.0.1", tenant)
    for api, total in ((customer, 2), (operator, 2), (stranger, 1)):
        assert api.ok("GET", f"{VPC}/vpcs")["totalCount"] == total
        assert api.ok("GET", f"{VPC}/subnets")["totalCount"] == total
    assert customer.ok("GET", f"{VPC}/subnets?vpcId={subnet.vpc_id}")["list"][0]["subnetId"] == subnet.id
    for path in (f"vpcs/{subnet.vpc_id}", f"subnets/{subnet.id}"):
        assert stranger.refused("GET", f"{VPC}/{path}").code == "ECS.DBGet.NoData"


def test_ports_are_seen_by_their_tenant(customer: Api, stranger: Api, runtime: Runtime, instance: Instance) -> None:
    port = allocate(runtime, instance)
    (row,) = customer.ok("GET", f"{VPC}/ports?ecsId={instance.ecs_id}")["list"]
    assert (row["ipAddress"], row["macAddress"]) == ("10.80.0.2", port.mac_address)
    assert (row["ecsId"], row["portType"]) == (instance.ecs_id, "Primary")
    assert customer.ok("GET", f"{VPC}/ports/{port.id}") == row
    assert stranger.ok("GET", f"{VPC}/ports")["totalCount"] == 0
    assert stranger.refused("GET", f"{VPC}/ports/{port.id}").code == "ECS.DBGet.NoData"


def test_the_lowest_free_address_is_taken(runtime: Runtime, instance: Instance) -> None:
    ports = [allocate(runtime, instance) for _ in range(3)]
    assert [port.ipv4_address for port in ports] == ["10.80.0.2", "10.80.0.3", "10.80.0.4"]
    with runtime.database.write() as session:
        session.delete(session.get_one(Port, ports[1].id))
    assert allocate(runtime, instance).ipv4_address == "10.80.0.3"
    assert len({port.mac_address for port in ports}) == 3


def test_a_full_subnet_says_so(runtime: Runtime, instance: Instance) -> None:
    subnet = a_stored_subnet(runtime, "10.9.0.0/29", "10.9.0.6")
    found = [allocate(runtime, instance, subnet.id).ipv4_address for _ in range(5)]
    assert found == [f"10.9.0.{last}" for last in range(1, 6)]
    with pytest.raises(AddressesExhausted):
        allocate(runtime, instance, subnet.id)


def test_an_address_that_is_asked_for(runtime: Runtime, instance: Instance) -> None:
    port = allocate(runtime, instance, ipv4_address="10.80.0.77", mac_address="52-54-00-AB-CD-EF")
    assert (port.ipv4_address, port.mac_address) == ("10.80.0.77", "52:54:00:ab:cd:ef")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"ipv4_address": "10.80.0.1"}, "ECS.OperationDenied.Repeat"),
        ({"ipv4_address": "10.80.0.2"}, "ECS.OperationDenied.Repeat"),
        ({"ipv4_address": "10.80.0.0"}, "ECS.InvalidParameter"),
        ({"ipv4_address": "10.80.0.255"}, "ECS.InvalidParameter"),
        ({"ipv4_address": "10.81.0.2"}, "ECS.InvalidParameter"),
        ({"ipv4_address": "fe80::1"}, "ECS.InvalidParameter"),
        ({"mac_address": "01:00:5e:00:00:01"}, "ECS.InvalidParameter"),
        ({"mac_address": "52:54:00:00:00"}, "ECS.InvalidParameter"),
        ({"mac_address": "52:54:00:00:00:aa"}, "ECS.OperationDenied.Repeat"),
    ],
)
def test_an_address_that_cannot_be_had(runtime: Runtime, instance: Instance, fields: dict[str, str], code: str) -> None:
    allocate(runtime, instance, mac_address="52:54:00:00:00:aa")
    with pytest.raises(CoordinatorError) as caught:
        allocate(runtime, instance, **fields)
    assert caught.value.code == code


@BOTH_DATABASES
def test_concurrent_ports_get_addresses_of_their_own(runtime: Runtime, instance: Instance) -> None:
    with ThreadPoolExecutor(8) as pool:
        ports = list(pool.map(lambda _: allocate(runtime, instance), range(24)))
    assert {port.ipv4_address for port in ports} == {f"10.80.0.{last}" for last in range(2, 26)}
