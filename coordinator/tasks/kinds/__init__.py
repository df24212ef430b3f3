"""Every kind of task, by name."""

from coordinator.tasks.device_return import RETURN_DEVICES
from coordinator.tasks.kinds.apply_ssh_keys import APPLY_SSH_KEYS
from coordinator.tasks.kinds.attach_devices import ATTACH_DEVICES
from coordinator.tasks.kinds.attach_isos import ATTACH_ISOS
from coordinator.tasks.kinds.attach_shared_volume import ATTACH_SHARED_VOLUME
from coordinator.tasks.kinds.attach_volumes import ATTACH_VOLUMES
from coordinator.tasks.kinds.back_up_volumes import BACK_UP_VOLUMES
from coordinator.tasks.kinds.capture_image import CAPTURE_IMAGE
from coordinator.tasks.kinds.capture_snapshot import CAPTURE_SNAPSHOT
from coordinator.tasks.kinds.change_host_name import CHANGE_HOST_NAME
from coordinator.tasks.kinds.change_os import CHANGE_OS
from coordinator.tasks.kinds.clone_instance import CLONE_INSTANCE
from coordinator.tasks.kinds.cold_migrate_instance import COLD_MIGRATE_INSTANCE
from coordinator.tasks.kinds.create_instance import CREATE_INSTANCE
from coordinator.tasks.kinds.create_snapshot import CREATE_SNAPSHOT
from coordinator.tasks.kinds.delete_backup import DELETE_BACKUP
from coordinator.tasks.kinds.delete_instance import DELETE_INSTANCE
from coordinator.tasks.kinds.delete_snapshot import DELETE_SNAPSHOT
from coordinator.tasks.kinds.delete_volume import DELETE_VOLUME
from coordinator.tasks.kinds.detach_devices import DETACH_DEVICES
from coordinator.tasks.kinds.detach_isos import DETACH_ISOS
from coordinator.tasks.kinds.detach_shared_volume import DETACH_SHARED_VOLUME
from coordinator.tasks.kinds.detach_volumes import DETACH_VOLUMES
from coordinator.tasks.kinds.drain_node import DRAIN_NODE
from coordinator.tasks.kinds.enable_high_availability import ENABLE_HIGH_AVAILABILITY
from coordinator.tasks.kinds.fetch_image import FETCH_IMAGE
from coordinator.tasks.kinds.forget_snapshot import FORGET_SNAPSHOT
from coordinator.tasks.kinds.grow_volume import GROW_VOLUME
from coordinator.tasks.kinds.hibernate_instance import HIBERNATE_INSTANCE
from coordinator.tasks.kinds.live_migrate_instance import LIVE_MIGRATE_INSTANCE
from coordinator.tasks.kinds.move_resized_instance import MOVE_RESIZED_INSTANCE
from coordinator.tasks.kinds.recover_instance import RECOVER_INSTANCE
from coordinator.tasks.kinds.recycle_instance import RECYCLE_INSTANCE
from coordinator.tasks.kinds.redefine_instance import REDEFINE_INSTANCE
from coordinator.tasks.kinds.release_device import RELEASE_DEVICE
from coordinator.tasks.kinds.resize_instance import RESIZE_INSTANCE
from coordinator.tasks.kinds.restart_instance import RESTART_INSTANCE
from coordinator.tasks.kinds.resume_instance import RESUME_INSTANCE
from coordinator.tasks.kinds.roll_back_instance import ROLL_BACK_INSTANCE
from coordinator.tasks.kinds.set_gpu_mode import SET_GPU_MODE
from coordinator.tasks.kinds.start_instance import START_INSTANCE
from coordinator.tasks.kinds.stop_instance import STOP_INSTANCE
from coordinator.tasks.kinds.suspend_instance import SUSPEND_INSTANCE
from coordinator.tasks.model import TaskKind
from coordinator.tasks.remains import CLEAN_NODE

KINDS: dict[str, TaskKind] = {
    kind.name: kind
    for kind in (
        CREATE_INSTANCE,
        CLONE_INSTANCE,
        DELETE_INSTANCE,
        RECYCLE_INSTANCE,
        START_INSTANCE,
        STOP_INSTANCE,
        RESTART_INSTANCE,
        SUSPEND_INSTANCE,
        RESUME_INSTANCE,
        HIBERNATE_INSTANCE,
        LIVE_MIGRATE_INSTANCE,
        COLD_MIGRATE_INSTANCE,
        RECOVER_INSTANCE,
        CLEAN_NODE,
        RETURN_DEVICES,
        ATTACH_DEVICES,
        DETACH_DEVICES,
        SET_GPU_MODE,
        RELEASE_DEVICE,
        DRAIN_NODE,
        ENABLE_HIGH_AVAILABILITY,
        FETCH_IMAGE,
        DELETE_VOLUME,
        APPLY_SSH_KEYS,
        CHANGE_HOST_NAME,
        REDEFINE_INSTANCE,
        ATTACH_VOLUMES,
        DETACH_VOLUMES,
        ATTACH_SHARED_VOLUME,
        DETACH_SHARED_VOLUME,
        GROW_VOLUME,
        CREATE_SNAPSHOT,
        DELETE_SNAPSHOT,
        ROLL_BACK_INSTANCE,
        BACK_UP_VOLUMES,
        DELETE_BACKUP,
        FORGET_SNAPSHOT,
        ATTACH_ISOS,
        DETACH_ISOS,
        RESIZE_INSTANCE,
        CHANGE_OS,
        MOVE_RESIZED_INSTANCE,
        CAPTURE_IMAGE,
        CAPTURE_SNAPSHOT,
    )
}
