"""Networks: what there is by default, what a caller may use, and the addresses of ports."""

import ipaddress
import re
import socket
from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.identifier import Prefix
from coordinator.domain.listing import Listing, ListQuery
from coordinator.errors import AddressesExhausted, ParameterInvalid, ResourceExists, ResourceNotFound
from coordinator.runtime import Runtime
from coordinator.store.queries import network as queries
from coordinator.store.tables import Port, SecurityGroup, Subnet, Vpc

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True, slots=True)
class PortRequest:
    """What a port shall be; an empty address means any free one."""

    name: str = "eth0"
    position: int = 0
    ipv4_address: str = ""
    mac_address: str = ""
    port_type: str = "Primary"
    network_type: str = "Geneve"


def ensure_default_network(runtime: Runtime) -> None:
    """Makes the default VPC, subnet and security group if there are none; idempotent, also between processes."""
    with runtime.database.read() as session:
        if queries.find_default_subnet(session) and queries.find_default_security_group(session):
            return
    try:
        with runtime.database.write() as session:
            _add_default_network(session, runtime)
    except IntegrityError:
        # Another coordinator made it in the same moment: ids are fixed for this very reason.
        return


def _add_default_network(session: Session, runtime: Runtime) -> None:
    if queries.find_default_subnet(session):
        return
    network = ipaddress.IPv4Network(runtime.settings.default_subnet_cidr)
    vpc = Vpc(id="vpc-" + "0" * 20, name="default", cidr=str(network), is_default=True)
    session.add_all([vpc, SecurityGroup(id="sg-" + "0" * 20, name="default", is_default=True)])
    session.flush()
    session.add(
        Subnet(
            id="snet-" + "0" * 20,
            name="default",
            vpc_id=vpc.id,
            cidr=str(network),
            gateway_ip=str(network[1]),
            is_default=True,
        )
    )


def find_subnet(session: Session, caller: Caller, *, vpc_id: str = "", subnet_id: str = "") -> Subnet:
    """The subnet that is meant: by its id, else the VPC's first, else the default one; ResourceNotFound if none is."""
    if subnet_id:
        subnet = queries.find_subnet(session, subnet_id, _scope(caller))
        if subnet is None or (vpc_id and subnet.vpc_id != vpc_id):
            raise ResourceNotFound("subnet", subnet_id)
        return subnet
    if vpc_id:
        known = queries.find_vpc(session, vpc_id, _scope(caller))
        subnet = queries.find_first_subnet(session, vpc_id) if known else None
    else:
        subnet = queries.find_default_subnet(session)
    if subnet is None:
        raise ResourceNotFound("VPC", vpc_id or "default")
    return subnet


def find_security_group(session: Session, caller: Caller, group_id: str = "") -> SecurityGroup:
    """The security group with that id, or the default one."""
    if group_id:
        group = queries.find_security_group(session, group_id, _scope(caller))
    else:
        group = queries.find_default_security_group(session)
    if group is None:
        raise ResourceNotFound("security group", group_id or "default")
    return group


def allocate_port(
    session: Session,
    runtime: Runtime,
    subnet: Subnet,
    group: SecurityGroup,
    *,
    instance_id: int,
    request: PortRequest = PortRequest(),
) -> Port:
    """A new port of an instance, flushed into `session`, with an address that nobody else has.

    The lowest free address is taken. The subnet's row is locked until the transaction ends, so that concurrent callers
    queue up instead of colliding. AddressesExhausted when the subnet is full.
    """
    session.get_one(Subnet, subnet.id, with_for_update=True, populate_existing=True)
    port = Port(
        id=runtime.identifiers.new(Prefix.PORT),
        uuid=runtime.identifiers.new_uuid(),
        name=request.name,
        vpc_id=subnet.vpc_id,
        subnet_id=subnet.id,
        security_group_id=group.id,
        instance_id=instance_id,
        position=request.position,
        mac_address=_choose_mac(session, runtime, request.mac_address),
        ipv4_address=_choose_address(session, subnet, request.ipv4_address),
        port_type=request.port_type,
        network_type=request.network_type,
    )
    session.add(port)
    session.flush()
    return port


def _choose_address(session: Session, subnet: Subnet, wanted: str) -> str:
    network = ipaddress.IPv4Network(subnet.cidr)
    if wanted:
        return _check_address(session, subnet, wanted, network)
    # Plain numbers: of a full subnet with thousands of ports, objects for each would take most of an order's time.
    used = {_number_of(address) for address in queries.list_used_addresses(session, subnet.id)}
    used.add(_number_of(subnet.gateway_ip))
    first, last = int(network.network_address) + 1, int(network.broadcast_address) - 1
    free = next((number for number in range(first, last + 1) if number not in used), None)
    if free is None:
        raise AddressesExhausted(f"subnet {subnet.id} has no free address", f"子网{subnet.id}没有可用的IP地址")
    return str(ipaddress.IPv4Address(free))


def _number_of(address: str) -> int:
    return int.from_bytes(socket.inet_aton(address), "big")


def _check_address(session: Session, subnet: Subnet, wanted: str, network: ipaddress.IPv4Network) -> str:
    try:
        address = ipaddress.IPv4Address(wanted)
    except ValueError:
        raise ParameterInvalid("ipAddress", f"{wanted!r} is no IPv4 address", f"{wanted!r}不是IPv4地址") from None
    if address not in network or address in {network.network_address, network.broadcast_address}:
        raise ParameterInvalid("ipAddress", f"{address} is no host of {network}", f"{address}不在{network}范围内")
    if str(address) == subnet.gateway_ip or queries.is_address_used(session, subnet.id, str(address)):
        raise ResourceExists(f"address {address} is in use", f"IP地址{address}已被使用")
    return str(address)


def _choose_mac(session: Session, runtime: Runtime, wanted: str) -> str:
    if wanted:
        return _check_mac(session, wanted)
    mac_address = runtime.identifiers.new_mac()
    while queries.is_mac_used(session, mac_address):
        mac_address = runtime.identifiers.new_mac()
    return mac_address


def _check_mac(session: Session, wanted: str) -> str:
    mac_address = wanted.lower().replace("-", ":")
    # The lowest bit of the first octet marks a group of receivers.
    if not _MAC.fullmatch(mac_address) or int(mac_address[:2], 16) & 1:
        raise ParameterInvalid("macAddress", f"{wanted!r} is no unicast MAC address", f"{wanted!r}不是单播MAC地址")
    if queries.is_mac_used(session, mac_address):
        raise ResourceExists(f"MAC address {mac_address} is in use", f"MAC地址{mac_address}已被使用")
    return mac_address


def _scope(caller: Caller) -> str | None:
    """The tenant that confines the caller, if one does."""
    return caller.tenant_id if caller.is_tenant else None


def list_vpcs(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[Vpc]:
    """VPCs that the caller may use."""
    with runtime.database.read() as session:
        return queries.list_vpcs(session, _scope(caller), query)


def get_vpc(runtime: Runtime, caller: Caller, vpc_id: str) -> Vpc:
    """One VPC."""
    with runtime.database.read() as session:
        vpc = queries.find_vpc(session, vpc_id, _scope(caller))
    if vpc is None:
        raise ResourceNotFound("VPC", vpc_id)
    return vpc


def list_subnets(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[Subnet]:
    """Subnets that the caller may use."""
    with runtime.database.read() as session:
        return queries.list_subnets(session, _scope(caller), query)


def get_subnet(runtime: Runtime, caller: Caller, subnet_id: str) -> Subnet:
    """One subnet."""
    with runtime.database.read() as session:
        return find_subnet(session, caller, subnet_id=subnet_id)


def list_security_groups(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[SecurityGroup]:
    """Security groups that the caller may use."""
    with runtime.database.read() as session:
        return queries.list_security_groups(session, _scope(caller), query)


def get_security_group(runtime: Runtime, caller: Caller, group_id: str) -> SecurityGroup:
    """One security group."""
    with runtime.database.read() as session:
        return find_security_group(session, caller, group_id)


def list_ports(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[tuple[Port, str | None]]:
    """Ports of the caller's instances, each with the instance's id."""
    with runtime.database.read() as session:
        return queries.list_ports(session, _scope(caller), query)


def get_port(runtime: Runtime, caller: Caller, port_id: str) -> tuple[Port, str | None]:
    """One port and the id of its instance."""
    with runtime.database.read() as session:
        found = queries.find_port(session, port_id, _scope(caller))
    if found is None:
        raise ResourceNotFound("port", port_id)
    return found
