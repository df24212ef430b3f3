"""Encrypted volumes: real LUKS in real qcow2 files, with keys that the coordinator gives."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from agent.errors import CapabilityMissing, RequestInvalid, StorageFailed, VolumeCorrupt, VolumeKeyRefused
from agent.storage.base import VolumeSpec
from agent.storage.choice import StorageChoice
from agent.storage.directory import DirectoryBackend
from agent.storage.image_cache import ImageCache
from agent.storage.snapshot_file import SnapshotFiles
from agent.volume_key import VolumeKeys
from tests.unit.agent.storage_builder import MIB, Source, a_cache, a_qcow2, a_ref, fetch, nobody, qemu_img

PASSPHRASE = "pass,phrase-of-a-volume"


class Vault:
    """The coordinator's keys, and libvirt's secrets."""

    def __init__(self, directory: Path) -> None:
        self.asked: list[str] = []
        self.secrets: dict[str, bytes] = {}
        self.used: set[str] = set()
        self.keys = VolumeKeys(
            directory, read=self._read, keep=self._keep, forget=self._forget, find_used=self._find_used
        )

    async def _find_used(self) -> set[str]:
        return self.used

    async def _read(self, uuid: str) -> str:
        self.asked.append(uuid)
        return PASSPHRASE

    async def _keep(self, uuid: str, passphrase: bytes) -> None:
        self.secrets[uuid] = passphrase

    async def _forget(self, uuid: str) -> None:
        self.secrets.pop(uuid, None)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "keys")


@pytest.fixture
async def images(tmp_path: Path) -> ImageCache:
    content = a_qcow2(tmp_path / "source.qcow2")
    cache = a_cache(tmp_path / "images", Source(img_1=content))
    await fetch(cache, a_ref(content))
    return cache


@pytest.fixture
def volumes(tmp_path: Path, images: ImageCache, vault: Vault) -> DirectoryBackend:
    backend = DirectoryBackend(
        tmp_path / "volumes",
        owner="node-1",
        find_image=images.find,
        find_users=nobody,
        reserved_bytes=0,
        find_key=vault.keys.find_file,
    )
    backend.prepare()
    return backend


def a_spec(**changes: object) -> VolumeSpec:
    values: dict[str, object] = {"uuid": str(uuid4()), "size_bytes": 8 * MIB, "volume_type": "ssd", "encrypted": True}
    return VolumeSpec(**(values | changes))  # type: ignore[arg-type]


def write(path: Path, key: Path, text: str) -> None:
    """As a guest writes."""
    secret, image = f"secret,id=k,file={key}", f"driver=qcow2,file.filename={path},encrypt.key-secret=k"
    command = ("qemu-io", "--object", secret, "-c", f"write -P {ord(text)} 0 64k", "--image-opts", image)
    subprocess.run(command, check=True, capture_output=True)


def first_byte(path: Path, key: Path, target: Path) -> str:
    secret, image = f"secret,id=k,file={key}", f"driver=qcow2,file.filename={path},encrypt.key-secret=k"
    qemu_img("convert", "--object", secret, "--image-opts", image, "-O", "raw", str(target))
    with target.open("rb") as file:
        return chr(file.read(1)[0])


@pytest.mark.parametrize("image_id", [None, "img-1"])
async def test_what_is_written_is_read_with_the_key_alone(
    tmp_path: Path, volumes: DirectoryBackend, vault: Vault, image_id: str | None
) -> None:
    spec = a_spec(image_id=image_id)
    made = await volumes.ensure_volume(spec)
    assert made.encrypted
    assert await volumes.ensure_volume(replace(spec, size_bytes=16 * MIB)) != made
    path, key = (await volumes.describe_volume(spec.uuid)).path, await vault.keys.find_file(spec.uuid)
    write(path, key, "A")
    assert b"A" * 512 not in path.read_bytes()
    snapshots = SnapshotFiles(volumes)
    await snapshots.create(spec.uuid, snapshots.name(spec.uuid, "one", "crash"))
    write(path, key, "B")
    await volumes.grow_volume(spec.uuid, 32 * MIB, _nobody_runs)
    await snapshots.roll_back(spec.uuid, "one")
    assert first_byte(path, key, tmp_path / "plain") == "A"
    assert (await volumes.get_volume(spec.uuid)).size_bytes == 32 * MIB
    await snapshots.remove(spec.uuid, "one")
    assert vault.asked == [spec.uuid]
    assert key.stat().st_mode & 0o077 == 0
    with pytest.raises(CapabilityMissing, match="is encrypted: no copies"):
        [step async for step in snapshots.ensure_copied(a_spec(encrypted=False), spec.uuid, "")]


async def _nobody_runs(_size_bytes: int) -> bool:
    return False


async def test_what_a_volume_is_it_stays(volumes: DirectoryBackend) -> None:
    sealed, plain = a_spec(), a_spec(encrypted=False)
    for spec in (sealed, plain):
        await volumes.ensure_volume(spec)
        with pytest.raises(RequestInvalid, match="encrypted: volume"):
            await volumes.ensure_volume(replace(spec, encrypted=not spec.encrypted))


async def test_libvirt_has_the_key_of_what_guests_open_until_the_volume_is_gone(
    volumes: DirectoryBackend, vault: Vault
) -> None:
    everywhere = StorageChoice(volumes, {}, unlock=vault.keys.unlock, forget_key=vault.keys.forget)
    spec, plain = a_spec(), a_spec(encrypted=False)
    for one in (spec, plain):
        await everywhere.ensure_volume(one)
        # Who only sends it needs no key.
        assert (await everywhere.locate_source(one.uuid)).encrypted is one.encrypted
        assert one.uuid not in vault.secrets
        assert (await everywhere.describe_volume(one.uuid)).encrypted is one.encrypted
    assert vault.secrets == {spec.uuid: PASSPHRASE.encode()}
    key = await vault.keys.find_file(spec.uuid)
    for one in (spec, plain):
        await everywhere.ensure_removed(one.uuid)
    assert not vault.secrets
    assert not key.exists()


async def test_keys_that_no_guest_needs_are_forgotten_after_a_while(vault: Vault) -> None:
    gone, used, new = (str(uuid4()) for _ in range(3))
    for uuid in (gone, used, new):
        await vault.keys.unlock(uuid)
    for uuid in (gone, used):
        os.utime(await vault.keys.find_file(uuid), (0, 0))
    vault.used = {used}
    await vault.keys.sweep(3600)
    assert set(vault.secrets) == {used, new}
    assert vault.asked == [gone, used, new]
    await vault.keys.find_file(gone)
    assert vault.asked[3:] == [gone]


async def test_a_moved_volume_is_taken_as_what_it_was_said_to_be(volumes: DirectoryBackend) -> None:
    spec = a_spec(image_id="img-1")
    await volumes.ensure_volume(spec)
    file = volumes.reserve(spec.uuid)
    file.write_bytes((await volumes.describe_volume(spec.uuid)).path.read_bytes())
    await volumes.ensure_removed(spec.uuid)
    with pytest.raises(VolumeCorrupt):
        await volumes.adopt(file, replace(spec, encrypted=False), "move-1")
    assert (await volumes.adopt(file, spec, "move-1")).encrypted


async def test_without_a_key_nothing_is_made(tmp_path: Path, images: ImageCache, vault: Vault) -> None:
    lame = DirectoryBackend(
        tmp_path / "volumes", owner="node-1", find_image=images.find, find_users=nobody, reserved_bytes=0
    )
    lame.prepare()
    with pytest.raises(VolumeKeyRefused):
        await lame.ensure_volume(a_spec())
    assert await lame.list_volumes() == []
    # Nor with a key that is no file's.
    broken = DirectoryBackend(
        tmp_path / "volumes",
        owner="node-1",
        find_image=images.find,
        find_users=nobody,
        reserved_bytes=0,
        find_key=_find_nothing,
    )
    with pytest.raises(StorageFailed):
        await broken.ensure_volume(a_spec())
    assert await broken.list_volumes() == []


async def _find_nothing(uuid: str) -> Path:
    return Path("/nowhere") / uuid
