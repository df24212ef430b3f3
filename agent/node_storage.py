"""The parts of an agent that have to do with volumes and images, put together once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agent.config import AgentConfig
from agent.coordinator_client import CoordinatorClient
from agent.disk_limit import DiskLimits
from agent.domain_lock import DomainLocks
from agent.hypervisor.connection import Connection
from agent.hypervisor.disk import find_disk_users, find_encrypted_volumes, find_file_holders
from agent.hypervisor.disk_limit import apply_disk_limits
from agent.hypervisor.freeze import Freezes
from agent.hypervisor.guest import Guests
from agent.hypervisor.guest_agent import GuestAgents
from agent.hypervisor.pause import Pauses
from agent.hypervisor.saved_memory import SavedMemory
from agent.hypervisor.secret import ensure_secret, forget_secret, keep_passphrase
from agent.hypervisor.snapshot import LiveSnapshots
from agent.snapshot import Snapshots
from agent.storage.choice import ANY_TYPE, StorageChoice
from agent.storage.copying import VolumeCopies
from agent.storage.directory import DirectoryBackend
from agent.storage.image_cache import ImageCache
from agent.storage.lvm import LvmBackend
from agent.storage.lvm_tool import LvmTool
from agent.storage.rbd import RbdBackend
from agent.storage.rbd_base import shorten
from agent.storage.rbd_tool import CephAccess, RbdTool
from agent.storage.seed import Seeds
from agent.storage.share import Share
from agent.storage.snapshots import VolumeSnapshots
from agent.volume_key import VolumeKeys


@dataclass(frozen=True)
class StorageParts:
    """Where images and volumes are, and what holds for them."""

    images: ImageCache
    # Volumes that are files.
    files: DirectoryBackend
    # All volumes, wherever they are.
    volumes: StorageChoice
    seeds: Seeds
    disk_limits: DiskLimits
    keys: VolumeKeys


@dataclass(frozen=True)
class SnapshotParts:
    """Snapshots of volumes, in their backends and in guests that run."""

    snapshots: Snapshots
    stores: VolumeSnapshots
    copies: VolumeCopies
    freezes: Freezes
    pauses: Pauses


def build_storage(
    config: AgentConfig, node_id: str, coordinator: CoordinatorClient, connection: Connection
) -> StorageParts:
    """Connects nothing, and writes nothing."""

    async def find_image_users(image_id: str) -> list[str]:
        backed, path = await files.volumes_backed_by(image_id), config.images_dir / f"{image_id}.iso"
        # Nothing else is in drives, and to ask for every domain takes its time.
        return [*backed, *(await find_file_holders(connection, path) if path.exists() else ())]

    images = ImageCache(
        config.images_dir,
        read_image=coordinator.read_image,
        find_users=find_image_users,
        reserved_bytes=config.reserved_storage_bytes,
        unused_life_seconds=config.unused_image_hours * 3600,
    )
    keys = VolumeKeys(
        config.run_dir / "volume-keys",
        read=coordinator.read_volume_key,
        keep=partial(keep_passphrase, connection),
        forget=partial(forget_secret, connection),
        find_used=partial(find_encrypted_volumes, connection),
    )
    files = _build_files(config, node_id, images, keys, connection)
    volumes = _build_choice(config, node_id, files, images, keys, connection)
    disk_limits = DiskLimits(
        config.journal_dir / "disk-limits.json",
        apply=partial(apply_disk_limits, connection),
        list_volumes=volumes.list_volumes,
    )
    return StorageParts(images, files, volumes, Seeds(config.seeds_dir), disk_limits, keys)


def build_snapshots(
    config: AgentConfig,
    storage: StorageParts,
    guests: Guests,
    guest_agents: GuestAgents,
    locks: DomainLocks,
    memory: SavedMemory,
) -> SnapshotParts:
    """Snapshots of the volumes, and copies."""
    live, stores = LiveSnapshots(memory.connection), VolumeSnapshots(storage.volumes)
    copies = VolumeCopies(storage.files, storage.volumes, stores)
    freezes = Freezes(guest_agents, live, config.journal_dir / "freezes")
    pauses = Pauses(guests, config.journal_dir / "pauses")
    snapshots = Snapshots(stores, live, freezes, pauses, locks, memory.find_holder)
    return SnapshotParts(snapshots, stores, copies, freezes, pauses)


def _build_files(
    config: AgentConfig, node_id: str, images: ImageCache, keys: VolumeKeys, connection: Connection
) -> DirectoryBackend:
    mount_point = Path(config.volumes_mount) if config.volumes_mount else None
    return DirectoryBackend(
        config.volumes_dir,
        owner=node_id,
        find_image=images.find,
        find_users=lambda path: find_disk_users(connection, path),
        reserved_bytes=config.reserved_storage_bytes,
        share=Share(config.volumes_dir, mount_point=mount_point),
        find_key=keys.find_file,
    )


def _build_choice(
    config: AgentConfig,
    node_id: str,
    files: DirectoryBackend,
    images: ImageCache,
    keys: VolumeKeys,
    connection: Connection,
) -> StorageChoice:
    find_users = partial(find_disk_users, connection)
    default = config.volume_backends.get(ANY_TYPE, "")
    # The coordinator knows one storage of a node: what nodes share there, they share in the other pools as well.
    others = shorten(default if default.startswith("rbd:") else node_id)

    def build(name: str) -> LvmBackend | RbdBackend:
        kind, _, place = name.partition(":")
        if kind == "lvm":
            group, _, pool = place.partition("/")
            return LvmBackend(LvmTool(group), pool=pool, find_image=images.find, find_users=find_users)
        return RbdBackend(
            RbdTool(CephAccess(config.ceph_config, config.ceph_user), place),
            owner=node_id,
            namespace="" if name == default else others,
            find_image=images.find,
            find_users=find_users,
            keep_key=partial(ensure_secret, connection),
        )

    backends = {name: build(name) for name in set(config.volume_backends.values())}
    by_type = {kind: backends[name] for kind, name in config.volume_backends.items()}
    return StorageChoice(files, by_type, unlock=keys.unlock, forget_key=keys.forget)
