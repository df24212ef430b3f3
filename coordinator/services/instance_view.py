"""Instances with everything that is shown beside them, read in as many queries for fifty as for one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlmodel import Session

from coordinator.domain.instance import InstanceStatus
from coordinator.runtime import Runtime
from coordinator.services.device import DeviceView, view_device
from coordinator.services.overcommit import read_cpu_ratios
from coordinator.store.queries.device import list_devices_of
from coordinator.store.queries.instance_view import (
    InstanceRow,
    KeyRow,
    LabelRow,
    PortPlace,
    Surroundings,
    VolumeRow,
    read_instances,
    read_surroundings,
)
from coordinator.store.queries.recycle_setting import read_recycle_config
from coordinator.store.queries.resource_pool import read_pools
from coordinator.store.tables import Flavor, FlavorType, Image, ResourcePool

# What an operation that has no status of its own is making of the instance.
_STATUS_OF_TASK: Final[Mapping[str, InstanceStatus]] = {
    "suspend_instance": InstanceStatus.PAUSED,
    "resume_instance": InstanceStatus.RUNNING,
}


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One instance as people see it."""

    instance: InstanceRow
    flavor: Flavor
    flavor_type: FlavorType
    image: Image | None
    volumes: Sequence[VolumeRow]
    ports: Sequence[PortPlace]
    labels: Sequence[LabelRow]
    keys: Sequence[KeyRow]
    region: str
    cell: str
    # Of its node, or of the region while it has none.
    cpu_exceed_ratio: float
    image_url: str
    # What it has of its node's devices, by kind and id.
    devices: Sequence[DeviceView]
    # Its own pool, and those that its flavor type is bound to.
    pools: Mapping[str, ResourcePool]
    # Whether it goes to the recycle bin when it is deleted.
    recycles: bool
    # When it was looked at.
    at: datetime

    @property
    def task_status(self) -> str:
        """What the running operation is making of the instance; without one, its status."""
        return _STATUS_OF_TASK.get(self.instance.task_kind or "", self.instance.status)

    @property
    def error_message(self) -> str:
        """Why the instance is not well, or why its operation does not get on."""
        is_retrying = bool(self.instance.task_attempts)
        return self.instance.error_message or (self.instance.task_message or "" if is_retrying else "")


def load_views(session: Session, runtime: Runtime, numbers: Sequence[int]) -> list[InstanceView]:
    """The views of the instances with those numeric ids, which are stored already, in their order."""
    instances = read_instances(session, numbers)
    shared = read_surroundings(session, instances)
    pools = read_pools(session, _pool_ids(instances, shared))
    region_ratio = read_cpu_ratios(session, runtime.settings).region
    images_url = _images_url(runtime)
    devices = list_devices_of(session, numbers)
    recycles, now = read_recycle_config(session).enabled, runtime.now()
    return [
        InstanceView(
            instance=instance,
            flavor=shared.flavors[instance.flavor_id],
            flavor_type=shared.flavor_types[instance.flavor_type_id],
            image=shared.images.get(instance.image_id or ""),
            volumes=shared.volumes.get(instance.id, ()),
            ports=shared.ports.get(instance.id, ()),
            labels=shared.labels.get(instance.id, ()),
            keys=shared.keys.get(instance.id, ()),
            region=runtime.settings.region,
            cell=runtime.settings.cell,
            cpu_exceed_ratio=instance.cpu_ratio or region_ratio,
            image_url=f"{images_url}/{instance.image_id}/file" if instance.image_id else "",
            devices=[view_device(row) for row in devices.get(instance.id, ())],
            pools=pools,
            recycles=recycles,
            at=now,
        )
        for instance in instances
    ]


def _pool_ids(instances: Sequence[InstanceRow], shared: Surroundings) -> set[str]:
    bound = {rp_id for flavor_type in shared.flavor_types.values() for rp_id in flavor_type.rp_ids}
    return bound | {instance.rp_id for instance in instances if instance.rp_id}


def _images_url(runtime: Runtime) -> str:
    settings = runtime.settings
    scheme = "http" if settings.plain_http else "https"
    return f"{scheme}://{settings.public_address(settings.rest_listen)}/api/image/v1/images"
