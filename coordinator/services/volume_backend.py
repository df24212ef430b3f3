"""What volumes cannot do where their nodes keep them; nodes refuse what is not known here."""

from collections.abc import Collection, Iterable

from coordinator.domain.space import Placed
from coordinator.domain.volume import LOCAL_BACKENDS, VolumeBackend
from coordinator.errors import StatusUnsupported
from coordinator.store.tables import Instance, Node, Volume


def require_snapshots(volumes: Collection[Volume], instance: Instance) -> None:
    """StatusUnsupported when one of the volumes has no snapshots; it is named."""
    found = [volume.name for volume in volumes if volume.backend == VolumeBackend.LVM]
    if found:
        raise StatusUnsupported(
            f"{', '.join(found)} of instance {instance.ecs_id}: "
            "a logical volume outside of a thin pool has no snapshots",
            f"实例{instance.ecs_id}的{'、'.join(found)}是非精简池逻辑卷，不支持快照",
        )


def require_backups(volumes: Collection[Volume], instance: Instance) -> None:
    """StatusUnsupported when one of the volumes is no file, which alone tells what has changed; it is named."""
    found = [volume for volume in volumes if volume.backend not in (VolumeBackend.UNKNOWN, VolumeBackend.FILE)]
    if found:
        places = ["Ceph" if volume.backend == VolumeBackend.CEPH else "LVM" for volume in found]
        named = [f"{volume.name} ({place})" for volume, place in zip(found, places, strict=True)]
        raise StatusUnsupported(
            f"{', '.join(named)} of instance {instance.ecs_id}: volumes in LVM and Ceph are not backed up",
            f"实例{instance.ecs_id}的{'、'.join(named)}：不支持备份LVM和Ceph中的云盘",
        )


def storage_of(node: Node, volumes: Iterable[Placed]) -> str:
    """The storage whose nodes find all of the volumes; empty: only that node does."""
    return "" if any(volume.backend in LOCAL_BACKENDS for volume in volumes) else node.storage_id
