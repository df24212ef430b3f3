"""Seeds: the optical images from which a guest configures itself at its first start (cloud-init's NoCloud).

    meta-data                    instance-id, local-hostname, public-keys
    vendor-data                  our cloud-config: passwords and keys of root and of the default user
    user-data                    what the tenant gave, byte for byte, or an empty cloud-config
    network-config               DHCP on every card, found by its MAC address
    nodewright/password-hash     the same hash \
    nodewright/authorized_keys   the same keys  } plain, for guests without cloud-init
    nodewright/user-data         the same bytes /

Our part is vendor data, and not joined with the tenant's: a script, a cloud-config, MIME, whatever it is, runs as it
is, and where both say something, cloud-init takes the tenant's. YAML is written as JSON, which every YAML parser reads.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from agent.durable_file import publish, remove_file
from agent.errors import CapabilityMissing, SeedFailed, StorageExhausted, tells_out_of_space
from protos.agent.v1.domain_pb2 import CloudInit

_VOLUME_LABEL: Final = "CIDATA"
_STAGING_PREFIX: Final = ".seed-"
_TIMEOUT_SECONDS: Final = 30.0
# The first card's routes are preferred over those of the second, and so on.
_FIRST_ROUTE_METRIC: Final = 100
# cloud-init makes new SSH host keys for a new instance id by itself; the machine id is not its concern. Leases go, too:
# what the source had is not asked for again.
_RENEW_MACHINE_ID: Final = (
    "rm -f /var/lib/dbus/machine-id /var/lib/dhcp/*.leases /var/lib/NetworkManager/*.lease;"
    " if command -v systemd-machine-id-setup; then : > /etc/machine-id; systemd-machine-id-setup;"
    " else tr -d - < /proc/sys/kernel/random/uuid > /etc/machine-id; fi;"
    " if [ -d /var/lib/dbus ]; then ln -sf /etc/machine-id /var/lib/dbus/machine-id; fi"
)
_NO_USER_DATA: Final = b"#cloud-config\n{}\n"


class Seeds:
    """The seeds of a node's guests, a file for each UUID."""

    def __init__(self, directory: Path, *, program: str = "genisoimage") -> None:
        self._directory = directory
        self._program = program

    def remove_leftovers(self) -> None:
        """Nothing is left of seeds that a crash left half written; call it before the first `ensure`."""
        for path in self._directory.glob(f"{_STAGING_PREFIX}*"):
            shutil.rmtree(path, ignore_errors=True)

    def path(self, uuid: str) -> Path:
        """Where the guest's seed is, or would be."""
        return self._directory / f"{uuid}.iso"

    async def ensure(self, uuid: str, cloud_init: CloudInit, mac_addresses: Sequence[str]) -> None:
        """The seed says this, durably, and nobody but root and QEMU can read it."""
        self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        # Staged beside its place: a rename must not leave the file system, and secrets not the agent's directory.
        with tempfile.TemporaryDirectory(prefix=_STAGING_PREFIX, dir=self._directory) as staging:
            content = Path(staging) / "content"
            for name, data in _files(cloud_init, mac_addresses).items():
                file = content / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
            image = Path(staging) / "seed.iso"
            image.touch(mode=0o600)
            await self._write_image(content, image)
            publish(image, self.path(uuid))

    def ensure_removed(self, uuid: str) -> None:
        """No seed of the guest is left. Absence is success."""
        if self.path(uuid).exists():
            remove_file(self.path(uuid))

    async def _write_image(self, content: Path, image: Path) -> None:
        command = (self._program, "-quiet", "-joliet", "-rock", "-volid", _VOLUME_LABEL, "-output", image, content)
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
            )
        except FileNotFoundError as error:
            raise CapabilityMissing(f"{self._program} is not installed on this node") from error
        try:
            _, errors = await asyncio.wait_for(process.communicate(), _TIMEOUT_SECONDS)
        except BaseException:
            process.kill()
            raise
        if process.returncode:
            reason = errors.decode(errors="replace").strip()
            failure = StorageExhausted if tells_out_of_space(reason) else SeedFailed
            raise failure(f"{self._program} failed: {reason[:500]}")


def _files(cloud_init: CloudInit, mac_addresses: Sequence[str]) -> dict[str, bytes]:
    keys = [key.strip() for key in cloud_init.ssh_public_keys]
    files = {
        "meta-data": _meta_data(cloud_init, keys),
        "vendor-data": b"#cloud-config\n" + _yaml(_make_vendor_config(cloud_init, keys)),
        "user-data": cloud_init.user_data or _NO_USER_DATA,
        "nodewright/password-hash": f"{cloud_init.password_hash}\n".encode() if cloud_init.password_hash else b"",
        "nodewright/authorized_keys": "".join(f"{key}\n" for key in keys).encode(),
        "nodewright/user-data": cloud_init.user_data,
    }
    if mac_addresses:
        files["network-config"] = _yaml(_network_config(mac_addresses))
    return files


def _meta_data(cloud_init: CloudInit, keys: list[str]) -> bytes:
    """Not as JSON, so that a guest with nothing but sed can read it."""
    lines = [f"instance-id: {cloud_init.instance_id}", f"local-hostname: {cloud_init.hostname}"]
    if keys:
        lines += ["public-keys:", *(f"  - {json.dumps(key)}" for key in keys)]
    return "".join(f"{line}\n" for line in lines).encode()


def _make_vendor_config(cloud_init: CloudInit, keys: list[str]) -> dict[str, Any]:
    config = _vendor_config(cloud_init.password_hash, keys)
    if not cloud_init.renews_identity:
        return config
    if not cloud_init.password_hash:
        # cloud-init would lock the default user, whose password is in the disk.
        config["users"] = [user for user in config["users"] if user != "default"]
    once = ["cloud-init-per", "instance", "nodewright-identity", "sh", "-c", _RENEW_MACHINE_ID]
    return {**config, "ssh_deletekeys": True, "preserve_hostname": False, "bootcmd": [once]}


def _vendor_config(password_hash: str, keys: list[str]) -> dict[str, Any]:
    root: dict[str, Any] = {"name": "root"}
    if keys:
        root["ssh_authorized_keys"] = keys
    if not password_hash:
        # A user of the list is locked unless it says otherwise, and root is not ours to lock.
        return {"disable_root": False, "users": ["default", {**root, "lock_passwd": False}]}
    return {
        "disable_root": False,
        "ssh_pwauth": True,
        "password": password_hash,
        "chpasswd": {"expire": False},
        "users": ["default", {**root, "lock_passwd": False, "hashed_passwd": password_hash}],
    }


def _network_config(mac_addresses: Sequence[str]) -> dict[str, Any]:
    cards = {
        f"nic{index}": {
            "match": {"macaddress": address},
            "dhcp4": True,
            "dhcp4-overrides": {"route-metric": _FIRST_ROUTE_METRIC + index},
        }
        for index, address in enumerate(mac_addresses)
    }
    return {"version": 2, "ethernets": cards}


def _yaml(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"
