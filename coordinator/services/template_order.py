"""What an order of instances takes from a launch template: all that the caller does not give itself."""

from collections.abc import Iterator, Set
from dataclasses import dataclass, replace

from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.device_order import DeviceOrder
from coordinator.domain.instance_order import InstanceOrder
from coordinator.errors import TemplateOutdated
from coordinator.runtime import Runtime
from coordinator.services.launch_template import find_own_template, read_order
from coordinator.store.queries import flavor as flavor_query
from coordinator.store.queries import network as network_query
from coordinator.store.tables import DeploymentSet, HostGroup, Image, ResourcePool


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller gives itself: names of fields as the API has them, and the flavor if that is among them."""

    names: Set[str]
    flavor_id: str = ""


@dataclass(frozen=True, slots=True)
class _Gone:
    """Something that a template orders and that is not there any more."""

    kind: str
    identifier: str
    # What the caller can give instead.
    field: str


def take_order(runtime: Runtime, caller: Caller, template_id: str, version: int | None, given: Given) -> InstanceOrder:
    """The order of a template's version, the default one unless one is named, as far as it is not given.

    ResourceNotFound without the template or version; TemplateOutdated when what it orders does not exist any more.
    """
    with runtime.database.read() as session:
        row = find_own_template(session, caller, template_id).row
        number = row.default_version if version is None else version
        order = _fit_size(session, read_order(session, row, number), given)
        gone = next(_find_gone(session, order, given.names), None)
    if gone:
        raise TemplateOutdated(f"{template_id}:{number}", gone.kind, gone.identifier, gone.field)
    return order


def _fit_size(session: Session, order: InstanceOrder, given: Given) -> InstanceOrder:
    """A flavor that is given brings its own size and devices, and a size that is given finds its own flavor."""
    if given.flavor_id:
        if given.flavor_id != order.flavor_id:
            order = replace(order, devices=DeviceOrder(infiniband=order.devices.infiniband))
        found = flavor_query.find_flavor_with_type(session, given.flavor_id)
        # Without one the order is refused anyway; a custom one has no size.
        if found is None or found[0].is_custom:
            return order
        return replace(order, cpu_count=found[0].cpu, memory_amount=f"{found[0].ram_gib}Gi")
    if given.names & {"cpus", "memory"}:
        found = flavor_query.find_flavor_with_type(session, order.flavor_id)
        if found is None or not found[0].is_custom:
            return replace(order, flavor_id="")
    return order


def _find_gone(session: Session, order: InstanceOrder, given: Set[str]) -> Iterator[_Gone]:
    takes_flavor = order.flavor_id and "flavorId" not in given
    if takes_flavor and flavor_query.find_flavor_with_type(session, order.flavor_id) is None:
        yield _Gone("flavor", order.flavor_id, "flavorId")
    if "image" not in given and not _is_image_there(session, order.image_id):
        yield _Gone("image", order.image_id, "image")
    if "networks" not in given:
        yield from _find_gone_networks(session, order)
    yield from _find_gone_places(session, order, given)


def _is_image_there(session: Session, image_id: str) -> bool:
    image = session.get(Image, image_id)
    return image is not None and image.deleted_at is None


def _find_gone_networks(session: Session, order: InstanceOrder) -> Iterator[_Gone]:
    for network in order.networks:
        if network_query.find_subnet(session, network.subnet_id, order.tenant_id) is None:
            yield _Gone("subnet", network.subnet_id, "networks")
        for group_id in network.security_group_ids:
            if network_query.find_security_group(session, group_id, order.tenant_id) is None:
                yield _Gone("security group", group_id, "networks")


def _find_gone_places(session: Session, order: InstanceOrder, given: Set[str]) -> Iterator[_Gone]:
    places = (
        (DeploymentSet, "deployment set", order.deployment_set, "deploymentSet"),
        (HostGroup, "host group", order.host_group_id, "hgId"),
        (ResourcePool, "resource pool", order.pool_id, "rpId"),
    )
    for table, kind, identifier, field in places:
        if identifier and field not in given and session.get(table, identifier) is None:
            yield _Gone(kind, identifier, field)
