"""The order that a launch template keeps: what would make an instance alike, without what is that instance's own.

Not kept are passwords (of an instance only a hash is known, and a new one shall have its own), addresses, the host, the
host name, and what only concerned the call that ordered it.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any, Final, TypeVar

from sqlmodel import Session

from coordinator.domain.device_order import DeviceOrder, InfinibandOrder
from coordinator.domain.instance_order import InstanceOrder, Label, NetworkOrder, VolumeOrder
from coordinator.domain.unit import MIB
from coordinator.domain.volume import ELASTIC_TYPE, VOLUME_TYPES
from coordinator.errors import StatusUnsupported
from coordinator.runtime import Runtime
from coordinator.services.instance_device import extra_devices_of
from coordinator.store.queries import instance as instance_query
from coordinator.store.tables import FlavorType, Instance, Port, Volume

Part = TypeVar("Part", InstanceOrder, VolumeOrder, NetworkOrder, Label, DeviceOrder, InfinibandOrder)

_NOT_KEPT: Final = frozenset(
    {"password", "vnc_password", "node_id", "host_name", "count", "checks_quota", "unavailable_fields"}
)
# Of a system disk, where the flavor does not make another of it.
_SYSTEM_TYPE: Final = VOLUME_TYPES[0]
_KEPT_OPTIONS: Final = ("cycleCount", "evictionStrategy", "haPriority")


def order_alike(session: Session, runtime: Runtime, instance: Instance) -> InstanceOrder:
    """The order that would make another instance like this one; StatusUnsupported while it has no disks."""
    volumes = instance_query.list_volumes(session, instance)
    ports = [port for port, _ in instance_query.list_ports(session, instance)]
    if not volumes or not ports:
        raise _nothing_to_copy(instance)
    return InstanceOrder(
        region=runtime.settings.region,
        zone=instance.zone,
        cpu_count=instance.vcpus,
        memory_amount=_amount(instance.memory_bytes),
        huge_page=_amount(instance.huge_page_bytes) if instance.huge_page_bytes else "",
        # A flavor brings its elastic local disks along.
        volumes=tuple(volume_alike(it) for it in volumes if it.is_os_disk or it.volume_type != ELASTIC_TYPE),
        networks=tuple(_network_alike(port) for port in ports),
        security_group_ids=(ports[0].security_group_id,),
        devices=devices_alike(session, instance),
        image_id=instance.image_id or "",
        pool_id=_pool_asked_for(instance, instance_query.get_flavor_type(session, instance)),
        host_group_id=instance.hg_id,
        labels=tuple(Label(row.key, row.value) for row in instance_query.list_labels(session, instance)),
        ssh_public_keys=tuple(instance.ssh_public_keys),
        cycle_count=instance.options.get("cycleCount", 0),
        options={name: instance.options[name] for name in _KEPT_OPTIONS if name in instance.options},
        **{name: getattr(instance, name) for name in _SAME},
    )


# Columns of an instance that its order calls the same.
_SAME: Final = (
    "tenant_id",
    "department_id",
    "resource_group_id",
    "display_name",
    "description",
    "architecture",
    "flavor_id",
    "deployment_set",
    "image_source",
    "os_type",
    "user_data",
    "billing_mode",
    "ha_enabled",
)


def dump_order(order: InstanceOrder) -> dict[str, Any]:
    """The order as JSON, without what is not kept."""
    return {name: value for name, value in asdict(order).items() if name not in _NOT_KEPT}


def load_order(kept: Mapping[str, Any]) -> InstanceOrder:
    """The order of a template's version, which an older or newer coordinator may have written."""
    return _load(
        InstanceOrder,
        {
            **kept,
            "volumes": tuple(_load(VolumeOrder, part) for part in kept["volumes"]),
            "networks": tuple(_load(NetworkOrder, _with_tuples(part)) for part in kept["networks"]),
            "labels": tuple(_load(Label, part) for part in kept.get("labels", ())),
            "security_group_ids": tuple(kept["security_group_ids"]),
            "devices": _load_devices(kept.get("devices", {})),
            "ssh_public_keys": tuple(kept.get("ssh_public_keys", ())),
        },
    )


def _load(kind: type[Part], kept: Mapping[str, Any]) -> Part:
    known = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in kept.items() if name in known})


def _load_devices(kept: Mapping[str, Any]) -> DeviceOrder:
    adapters = tuple(_load(InfinibandOrder, part) for part in kept.get("infiniband", ()))
    return _load(DeviceOrder, {**kept, "infiniband": adapters})


def _with_tuples(network: Mapping[str, Any]) -> dict[str, Any]:
    return {**network, "security_group_ids": tuple(network.get("security_group_ids", ()))}


def _nothing_to_copy(instance: Instance) -> StatusUnsupported:
    return StatusUnsupported(
        f"instance {instance.ecs_id} is {instance.status} and has no disks or interfaces: no template comes of it",
        f"实例{instance.ecs_id}状态为{instance.status}，没有云盘或网卡，不能创建模板",
    )


def volume_alike(volume: Volume) -> VolumeOrder:
    """The order of a disk like this one."""
    names = ("size_gib", "volume_type", "disk_bus", "volume_mode", "boot_index", "delete_on_termination", "is_os_disk")
    alike = VolumeOrder(**{name: getattr(volume, name) for name in names})
    return replace(alike, volume_type=_SYSTEM_TYPE) if alike.volume_type == ELASTIC_TYPE else alike


def _network_alike(port: Port) -> NetworkOrder:
    return NetworkOrder(
        vpc_id=port.vpc_id,
        subnet_id=port.subnet_id,
        index=port.position,
        port_type=port.port_type,
        network_type=port.network_type,
        security_group_ids=(port.security_group_id,),
    )


def devices_alike(session: Session, instance: Instance) -> DeviceOrder:
    """What it was ordered with beside its flavor's, which orders tell as totals."""
    extra, flavor = extra_devices_of(instance), instance_query.get_flavor(session, instance)
    return DeviceOrder(
        gpus=flavor.gpu + extra.gpus if extra.gpus else 0,
        local_disks=flavor.local_disk + extra.local_disks if extra.local_disks else 0,
        functions=flavor.sriov + extra.functions if extra.functions else 0,
        infiniband=extra.infiniband,
    )


def _pool_asked_for(instance: Instance, flavor_type: FlavorType) -> str:
    """Of a flavor that is bound to pools the scheduler chose the pool, and may choose another one next time."""
    return "" if flavor_type.rp_ids else instance.rp_id


def _amount(amount_bytes: int) -> str:
    # Orders are of whole MiB; huge pages of 64 KiB are the exception.
    return f"{amount_bytes // MIB}Mi" if amount_bytes % MIB == 0 else f"{amount_bytes // 1024}Ki"
