"""Instances with everything that is shown beside them, read in as many queries for fifty as for one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlmodel import Session

from coordinator.domain.instance import InstanceStatus
from coordinator.runtime import Runtime
from coordinator.services.overcommit import read_cpu_ratios
from coordinator.store.queries import instance as instance_query
from coordinator.store.queries.instance import PortPlace, Surroundings
from coordinator.store.queries.resource_pool import read_pools
from coordinator.store.tables import Image, Instance, InstanceLabel, ResourcePool, Task, Volume

# What an operation that has no status of its own is making of the instance.
_STATUS_OF_TASK: Final[Mapping[str, InstanceStatus]] = {
    "suspend_instance": InstanceStatus.PAUSED,
    "resume_instance": InstanceStatus.RUNNING,
}


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One instance as people see it."""

    instance: Instance
    surroundings: Surroundings
    volumes: Sequence[Volume]
    ports: Sequence[PortPlace]
    labels: Sequence[InstanceLabel]
    region: str
    cell: str
    # Of its node, or of the region while it has none.
    cpu_exceed_ratio: float
    image_url: str
    # Its own pool, and those that its flavor type is bound to.
    pools: Mapping[str, ResourcePool]

    @property
    def task_status(self) -> str:
        """What the running operation is making of the instance; without one, its status."""
        task = self.surroundings.task
        return _STATUS_OF_TASK.get(task.kind, self.instance.status) if task else self.instance.status

    @property
    def error_message(self) -> str:
        """Why the instance is not well, or why its operation does not get on."""
        task = self.surroundings.task
        is_retrying = task is not None and task.attempts > 0
        return self.instance.error_message or _message(task if is_retrying else None)


def load_views(session: Session, runtime: Runtime, instances: Sequence[Instance]) -> list[InstanceView]:
    """The views of `instances`, in their order."""
    ids = [instance.id for instance in instances if instance.id is not None]
    surroundings = instance_query.read_surroundings(session, ids)
    volumes = instance_query.list_volumes_of(session, ids)
    ports = instance_query.list_ports_of(session, ids)
    labels = instance_query.list_labels_of(session, ids)
    pools = read_pools(session, _pool_ids(instances, surroundings))
    region_ratio = read_cpu_ratios(session, runtime.settings).region
    return [
        InstanceView(
            instance=instance,
            surroundings=surroundings[instance.id],
            volumes=volumes.get(instance.id, ()),
            ports=ports.get(instance.id, ()),
            labels=labels.get(instance.id, ()),
            region=runtime.settings.region,
            cell=runtime.settings.cell,
            cpu_exceed_ratio=surroundings[instance.id].cpu_ratio or region_ratio,
            image_url=_image_url(runtime, surroundings[instance.id].image),
            pools=pools,
        )
        for instance in instances
        if instance.id is not None
    ]


def _pool_ids(instances: Sequence[Instance], surroundings: Mapping[int, Surroundings]) -> set[str]:
    bound = {rp_id for around in surroundings.values() for rp_id in around.flavor_type.rp_ids}
    return bound | {instance.rp_id for instance in instances if instance.rp_id}


def _image_url(runtime: Runtime, image: Image | None) -> str:
    if image is None:
        return ""
    settings = runtime.settings
    scheme = "http" if settings.plain_http else "https"
    return f"{scheme}://{settings.public_address(settings.rest_listen)}/api/image/v1/images/{image.id}/file"


def _message(task: Task | None) -> str:
    return task.message if task else ""
