"""Elastic local disks: volumes that a flavor brings along, in storage of the node that is counted for them alone.

They come with their instance, are of its node, and go with it: nothing attaches, detaches, grows or copies one.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from coordinator.domain.instance_order import VolumeOrder
from coordinator.domain.volume import ELASTIC_TYPE, MAXIMUM_VOLUMES
from coordinator.errors import ParameterInvalid, StatusUnsupported, VolumesTooMany
from coordinator.store.tables import Flavor, Instance, Volume


def with_elastic_disks(volumes: Sequence[VolumeOrder], flavor: Flavor) -> tuple[VolumeOrder, ...]:
    """The disks of an order together with those of the flavor.

    ParameterInvalid when the order's system disk is not what the flavor makes of it, VolumesTooMany.
    """
    disks = [_settle_system_disk(f"volumes[{place}]", it, flavor) for place, it in enumerate(volumes)]
    data = VolumeOrder(
        size_gib=flavor.elasticity_local_data_disk_size_gib,
        volume_type=ELASTIC_TYPE,
        disk_bus="virtio",
        volume_mode="Block",
        boot_index=0,
        delete_on_termination=True,
        is_os_disk=False,
    )
    disks += [data] * flavor.elasticity_local_data_disk_num
    if len(disks) > MAXIMUM_VOLUMES:
        raise VolumesTooMany(
            "volumes",
            f"at most {MAXIMUM_VOLUMES} with the {flavor.elasticity_local_data_disk_num} of the flavor",
            f"含规格自带的弹性本地盘最多{MAXIMUM_VOLUMES}块云盘",
        )
    return tuple(disks)


def _settle_system_disk(field: str, volume: VolumeOrder, flavor: Flavor) -> VolumeOrder:
    if not (volume.is_os_disk and flavor.use_elasticity_local_sys_disk):
        return volume
    size_gib = flavor.elasticity_local_sys_disk_size_gib
    if volume.size_gib != size_gib:
        raise ParameterInvalid(
            f"{field}.volumeSize", f"the flavor's system disk has {size_gib} GiB", f"规格的系统盘大小为{size_gib}GiB"
        )
    if volume.snapshot_id:
        raise ParameterInvalid(
            f"{field}.osSnapshotId", "an elastic local disk is made from an image", "弹性本地系统盘只能由镜像创建"
        )
    return replace(volume, volume_type=ELASTIC_TYPE, delete_on_termination=True)


def elastic_disks_of(flavor: Flavor) -> tuple[int, int, int]:
    """What elastic local disks the flavor has, to be compared: size of a system disk, number and size of others."""
    system_gib = flavor.elasticity_local_sys_disk_size_gib if flavor.use_elasticity_local_sys_disk else 0
    count = flavor.elasticity_local_data_disk_num
    return system_gib, count, flavor.elasticity_local_data_disk_size_gib if count else 0


def refuse_elastic(volumes: Collection[Volume], instance: Instance | None, action: str, action_zh: str) -> None:
    """StatusUnsupported when one of the volumes is an elastic local disk."""
    found = [volume.name for volume in volumes if volume.volume_type == ELASTIC_TYPE]
    if found:
        owner = f" of instance {instance.ecs_id}" if instance else ""
        raise StatusUnsupported(
            f"{', '.join(found)}{owner}: an elastic local disk {action}", f"{'、'.join(found)}是弹性本地盘，{action_zh}"
        )
