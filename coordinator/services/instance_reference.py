"""What an order of instances refers to: looked up, visible to the caller, and fitting together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlmodel import Session

from coordinator.domain.caller import Caller, Role
from coordinator.domain.device_order import ExtraDevices
from coordinator.domain.image_format import ISO
from coordinator.domain.instance_order import InstanceOrder, VolumeOrder
from coordinator.domain.unit import GIB
from coordinator.domain.volume import VOLUME_TYPES
from coordinator.errors import (
    ImageArchitectureMismatch,
    ImageUnusable,
    MemoryAmountInvalid,
    ParameterInvalid,
    ResourceNotFound,
)
from coordinator.runtime import Runtime
from coordinator.services import network as network_service
from coordinator.services.elastic_disk import with_elastic_disks
from coordinator.services.instance_device import has_what_is_asked, settle_devices, unavailable_features
from coordinator.services.instance_validation import memory_bytes_of
from coordinator.services.owner import Owner, find_owner
from coordinator.services.snapshot_origin import SnapshotOrigin, find_origin
from coordinator.store.queries import flavor as flavor_query
from coordinator.store.queries import instance as instance_query
from coordinator.store.queries.host_group import find_group_to_use
from coordinator.store.queries.resource_pool import find_pool_to_use
from coordinator.store.queries.ssh_key import find_key
from coordinator.store.tables import (
    Flavor,
    FlavorType,
    Image,
    Node,
    SecurityGroup,
    SshKey,
    Subnet,
)

_ACTIVE: Final = "Active"


@dataclass(frozen=True, slots=True)
class SizeReferences:
    """What the size of an order comes to."""

    flavor: Flavor
    flavor_type: FlavorType
    # Of each instance.
    memory_bytes: int
    # Resource pools that it may be placed in; none: any host will do.
    pool_ids: frozenset[str]
    # Beside those of the flavor.
    extra_devices: ExtraDevices


@dataclass(frozen=True, slots=True)
class References:
    """The rows that an order refers to; networks in the order's sequence, the security group of each beside it."""

    owner: Owner
    flavor: Flavor
    flavor_type: FlavorType
    image: Image
    networks: tuple[tuple[Subnet, SecurityGroup], ...]
    # Of each instance.
    memory_bytes: int
    # Resource pools that it may be placed in; none: any host will do.
    pool_ids: frozenset[str]
    # Beside those of the flavor.
    extra_devices: ExtraDevices
    # What the system disk stands on; None: it begins empty, or is a copy of one that did.
    disk_image_id: str | None
    # The order's, and elastic local disks of the flavor.
    volumes: tuple[VolumeOrder, ...]
    # A stored key that opens it.
    ssh_key: SshKey | None = None
    # What the system disk is made from instead of the image.
    origin: SnapshotOrigin | None = None
    # Whether the system is installed from the image, an ISO in a drive, to an empty system disk.
    is_installation: bool = False


def find_references(
    session: Session, runtime: Runtime, caller: Caller, order: InstanceOrder, image: Image | None = None
) -> References:
    """Looks everything up; raises the documented error of the first thing that is missing or does not fit.

    With `image` the order's counts as found: nothing is made from it.
    """
    owner = find_owner(session, caller, order.tenant_id, order.department_id, order.resource_group_id)
    _check_place(session, runtime, order)
    size = find_size(session, order)
    # From here on what counts is what the tenant may use, also when an operator orders for it.
    user = replace(caller, role=Role.TENANT, tenant_id=owner.tenant.id)
    origin = None if image else find_origin(session, user, order)
    is_order_of_image = image is None and origin is None
    image = image or _find_system(session, user, order, origin)
    _check_volume_types(order)
    volumes = with_elastic_disks(order.volumes, size.flavor)
    _check_system_disk(volumes, image)
    networks = tuple(_find_network(session, user, order, position) for position in range(len(order.networks)))
    return References(
        owner,
        size.flavor,
        size.flavor_type,
        image,
        networks,
        size.memory_bytes,
        size.pool_ids,
        size.extra_devices,
        origin.disk_image_id if origin else _disk_image_id(image),
        volumes,
        _find_ssh_key(session, order),
        origin,
        is_installation=is_order_of_image and image.format == ISO,
    )


def _find_system(session: Session, user: Caller, order: InstanceOrder, origin: SnapshotOrigin | None) -> Image:
    """The image that the instance is of: what its system came from, be that a disc that is gone by now."""
    if origin is None:
        return find_image(session, user, order, admits_iso=True)
    if origin.disk_image_id is None:
        return session.get_one(Image, origin.image_id)
    return find_image(session, user, replace(order, image_id=origin.image_id))


def _disk_image_id(image: Image) -> str | None:
    """A system that comes from a disc is installed to an empty disk."""
    return None if image.format == ISO else image.id


def find_size(session: Session, order: InstanceOrder) -> SizeReferences:
    """The order's flavor, memory, pools and devices; raises what is wrong with the first of them."""
    flavor, flavor_type = _find_flavor(session, order)
    pool_ids = _settle_pools(session, order, flavor_type)
    extra_devices = settle_devices(order.devices, flavor, flavor_type)
    return SizeReferences(flavor, flavor_type, _settle_memory(order, flavor), pool_ids, extra_devices)


def _find_ssh_key(session: Session, order: InstanceOrder) -> SshKey | None:
    if not order.key_pair_id and not order.key_pair_name:
        return None
    if order.os_type == "windows":
        raise ParameterInvalid("keyPairId", "not for Windows", "Windows系统不支持密钥对")
    key = find_key(session, order.tenant_id, order.key_pair_id, order.key_pair_name)
    if key is None:
        raise ResourceNotFound("SSH key", order.key_pair_id or order.key_pair_name)
    return key


def _check_place(session: Session, runtime: Runtime, order: InstanceOrder) -> None:
    if order.zone not in runtime.settings.zones and not instance_query.is_zone_of_node(session, order.zone):
        raise ParameterInvalid("az", f"no such zone {order.zone!r}", f"可用区{order.zone!r}不存在")
    if order.node_id and session.get(Node, order.node_id) is None:
        raise ResourceNotFound("hostId", order.node_id)
    if order.host_group_id and find_group_to_use(session, order.host_group_id) is None:
        raise ResourceNotFound("host group", order.host_group_id)


def _find_flavor(session: Session, order: InstanceOrder) -> tuple[Flavor, FlavorType]:
    if order.flavor_id:
        found = flavor_query.find_flavor_with_type(session, order.flavor_id)
    else:
        found = _choose_flavor(session, order)
    if found is None:
        raise ResourceNotFound("flavorId", order.flavor_id or f"{order.cpu_count} vCPU, {order.memory_amount}")
    flavor, flavor_type = found
    _check_size(order, flavor)
    _check_flavor_type(order, flavor, flavor_type)
    return flavor, flavor_type


def _choose_flavor(session: Session, order: InstanceOrder) -> tuple[Flavor, FlavorType] | None:
    """A flavor of just the size that is asked for, else a custom one: of those that this cluster can give there."""
    ram_gib, rest = divmod(memory_bytes_of(order), GIB)
    candidates = flavor_query.list_flavors_for(
        session, order.architecture, order.zone, order.cpu_count, None if rest else ram_gib
    )
    return next((found for found in candidates if _admits(order, *found)), None)


def _admits(order: InstanceOrder, flavor: Flavor, flavor_type: FlavorType) -> bool:
    is_in_pool = not (order.pool_id and flavor_type.rp_ids) or order.pool_id in flavor_type.rp_ids
    # Who asks for a size alone shall not pay for CPUs or memory of its own.
    is_plain = not (flavor_type.is_dedicated_cpu or flavor_type.is_dedicated_mem or flavor_type.v_numa)
    is_offered = not unavailable_features(flavor, flavor_type) and has_what_is_asked(order, flavor, flavor_type)
    return is_in_pool and is_plain and is_offered


def _settle_pools(session: Session, order: InstanceOrder, flavor_type: FlavorType) -> frozenset[str]:
    """The pool that is asked for; without one, those that the flavor type is bound to."""
    bound = frozenset(flavor_type.rp_ids)
    if not order.pool_id:
        return bound
    pool = find_pool_to_use(session, order.pool_id)
    if pool is None:
        raise ResourceNotFound("resource pool", order.pool_id)
    if bound and pool.id not in bound:
        names = ", ".join(flavor_type.rp_ids)
        raise ParameterInvalid("rpId", f"the flavor is bound to {names}", f"规格已绑定资源池{names}")
    if pool.zone != order.zone:
        raise ParameterInvalid(
            "rpId", f"{pool.id} is in zone {pool.zone!r}, not {order.zone!r}", f"资源池{pool.id}位于可用区{pool.zone!r}"
        )
    return frozenset({pool.id})


def _settle_memory(order: InstanceOrder, flavor: Flavor) -> int:
    """Bytes for each instance: what is ordered, or what the flavor has."""
    if not order.memory_amount and not flavor.is_custom:
        return flavor.ram_gib * GIB
    return memory_bytes_of(order)


def _check_size(order: InstanceOrder, flavor: Flavor) -> None:
    # A custom flavor stands for any size: the order's own counts.
    if flavor.is_custom:
        return
    if order.cpu_count != flavor.cpu:
        raise ParameterInvalid(
            "cpus", f"flavor {flavor.flavor_id} has {flavor.cpu}, not {order.cpu_count}", f"规格的CPU核数为{flavor.cpu}"
        )
    if _settle_memory(order, flavor) != flavor.ram_gib * GIB:
        raise MemoryAmountInvalid(
            "memory.amount",
            f"flavor {flavor.flavor_id} has {flavor.ram_gib}Gi, not {order.memory_amount}",
            f"规格的内存大小为{flavor.ram_gib}Gi",
        )


def _check_flavor_type(order: InstanceOrder, flavor: Flavor, flavor_type: FlavorType) -> None:
    if flavor_type.arch_type != order.architecture:
        raise ParameterInvalid(
            "archType",
            f"flavor {flavor.flavor_id} is for {flavor_type.arch_type}, not {order.architecture}",
            f"规格的CPU架构为{flavor_type.arch_type}",
        )
    if flavor_type.az and flavor_type.az != order.zone:
        raise ParameterInvalid(
            "az",
            f"flavor {flavor.flavor_id} is offered in {flavor_type.az} only",
            f"规格仅在可用区{flavor_type.az}提供",
        )
    wanted = unavailable_features(flavor, flavor_type)
    if wanted:
        names = ", ".join(wanted)
        raise ParameterInvalid(
            "flavorId",
            f"flavor {flavor.flavor_id} needs {names}: not available yet on this cluster",
            f"规格需要{names}，本集群暂不支持",
        )


def find_image(
    session: Session, user: Caller, order: InstanceOrder, field: str = "image.imageUid", *, admits_iso: bool = False
) -> Image:
    """The order's image, as a system disk for who `user` is; raises what is wrong with it, naming the field.

    `admits_iso`: or as a disc to install one from.
    """
    if order.image_id:
        image = session.get(Image, order.image_id)
    else:
        field, image = "image.url", _find_image_by_url(session, order.image_url)
    if image is None or image.deleted_at or not _may_use(user, image):
        wanted = order.image_id or order.image_url
        raise ImageUnusable(field, f"image {wanted!r} does not exist", f"镜像{wanted!r}不存在")
    if image.status != _ACTIVE:
        reason = f": {image.error_message}" if image.error_message else ""
        raise ImageUnusable(field, f"image {image.id} is {image.status}{reason}", f"镜像状态为{image.status}{reason}")
    if image.format == ISO and not admits_iso:
        raise ImageUnusable(field, "an ISO image is no system disk", "ISO镜像不能用作系统盘")
    if image.cpu_arch != order.architecture:
        raise ImageArchitectureMismatch(
            field,
            f"image {image.id} is for {image.cpu_arch}, not {order.architecture}",
            f"镜像架构为{image.cpu_arch}，与{order.architecture}不匹配",
        )
    return image


def _find_image_by_url(session: Session, url: str) -> Image | None:
    # The URL of the file in this service, whatever host name it was reached by, or the one that it was registered from.
    head, _, tail = url.rpartition("/api/image/v1/images/")
    if (head or url.startswith("/")) and tail.endswith("/file"):
        return session.get(Image, tail.removesuffix("/file"))
    return instance_query.find_image_by_source(session, url)


def _may_use(user: Caller, image: Image) -> bool:
    # A private image of no tenant is the operators' own.
    return image.visibility == "public" or not user.is_tenant or image.tenant_id == user.tenant_id


def _check_volume_types(order: InstanceOrder) -> None:
    for position, volume in enumerate(order.volumes):
        if volume.volume_type not in VOLUME_TYPES:
            raise ParameterInvalid(
                f"volumes[{position}].volumeType",
                f"one of {', '.join(VOLUME_TYPES)}, not {volume.volume_type!r}",
                f"取值为{'、'.join(VOLUME_TYPES)}之一",
            )


def _check_system_disk(volumes: Sequence[VolumeOrder], image: Image) -> None:
    for position, volume in enumerate(volumes):
        if volume.is_os_disk and image.format != ISO and volume.size_gib * GIB < image.virtual_size_bytes:
            least = -(-image.virtual_size_bytes // GIB)
            raise ParameterInvalid(
                f"volumes[{position}].volumeSize",
                f"image {image.id} needs at least {least} GiB",
                f"镜像要求系统盘至少{least}GiB",
            )


def _find_network(session: Session, user: Caller, order: InstanceOrder, position: int) -> tuple[Subnet, SecurityGroup]:
    network = order.networks[position]
    subnet = network_service.find_subnet(session, user, vpc_id=network.vpc_id, subnet_id=network.subnet_id)
    group_ids = set(network.security_group_ids or order.security_group_ids)
    if len(group_ids) > 1:
        raise ParameterInvalid(
            "secGroupList", "one security group for each network interface", "每块网卡仅支持一个安全组"
        )
    return subnet, network_service.find_security_group(session, user, group_ids.pop() if group_ids else "")
