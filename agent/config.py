"""Configuration of the agent: defaults, then the TOML file, then the environment (NODEWRIGHT_AGENT_…).

A frozen dataclass instead of pydantic-settings: the agent shall stay under 80 MB, and pydantic alone takes 13.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

DEFAULT_CONFIG_PATH: Final = Path("/etc/nodewright/agent.toml")
ENVIRONMENT_PREFIX: Final = "NODEWRIGHT_AGENT_"

# See agent.storage.choice.
_ELASTIC_TYPE: Final = "elasticity"
_BACKEND: Final = re.compile(
    r"lvm:[A-Za-z0-9_.+][A-Za-z0-9_.+-]*(/[A-Za-z0-9_.+][A-Za-z0-9_.+-]*)?|rbd:[A-Za-z0-9_.][A-Za-z0-9_.-]*"
)
_CEPH_USER: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_VGPU_MIGRATIONS: Final = ("auto", "off")
_LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")


class ConfigInvalid(Exception):
    """A setting is unknown or has a value that it must not have; the message names it."""


@dataclass(frozen=True)
class AgentConfig:
    """Every setting has a working default: a node needs no file, only `join`."""

    state_dir: Path = Path("/var/lib/nodewright/agent")
    # What the agent and its watchdog tell each other: on a tmpfs.
    run_dir: Path = Path("/run/nodewright")
    libvirt_uri: str = "qemu:///system"

    # Where the coordinator reaches this agent.
    listen: str = "0.0.0.0:8446"
    # "host:port" told to the coordinator; empty: the address of the way to the coordinator, and the port of `listen`.
    advertise_address: str = ""
    # "host:port" of the coordinator's gRPC server, of several with commas between; empty: as it was told at the join.
    coordinator_address: str = ""
    # Metrics and health, without authentication: keep it local.
    metrics_listen: str = "127.0.0.1:8447"

    # Empty: the coordinator's default zone.
    zone: str = ""
    # Identity of the machine; empty: the DMI system UUID, else the machine id.
    machine_uuid: str = ""

    # Space of the storage directory that guests never get.
    reserved_storage_bytes: int = 1024**3
    # An image that nobody has needed for so long leaves the cache; 0: only when another one needs the room.
    unused_image_hours: int = 168
    # Where libvirt keeps the memory of guests that hibernate.
    saved_memory_dir: Path = Path("/var/lib/libvirt/qemu/save")
    # Where volumes of a type are kept, by type, "*" for all that are not named: "lvm:GROUP", or "lvm:GROUP/POOL" with a
    # thin pool, or "rbd:POOL" in Ceph. Others are files.
    volume_backends: Mapping[str, str] = field(default_factory=dict)
    # Where Ceph's monitors are; `ceph.client.USER.keyring` beside it has the key of who opens the images of guests.
    ceph_config: Path = Path("/etc/ceph/ceph.conf")
    ceph_user: str = "nodewright"
    # What has to be mounted for the files of volumes to be used: a path; empty: they are where they should be.
    volumes_mount: str = ""
    # Address that VNC servers of guests listen on: a private one.
    vnc_listen: str = "127.0.0.1"
    # Networks of the node, each an interface's name or a network in CIDR notation. Empty: of "manage" the address of
    # the way to the coordinator, of the others that of "manage".
    manage_network: str = ""
    storage_network: str = ""
    business_network: str = ""
    # How many virtual functions (SR-IOV) a PCI function has, by its address or its interface: a number or "all".
    virtual_functions: Mapping[str, str] = field(default_factory=dict)
    # "auto": guests that run take vGPUs along where nothing is known that keeps them; "off": they stay.
    vgpu_migration: str = "auto"
    # Guest agent commands that may be passed on; empty: all.
    guest_commands: tuple[str, ...] = ()

    log_level: str = "INFO"

    @property
    def pki_dir(self) -> Path:
        """The node's key, certificate and the coordinator's authority."""
        return self.state_dir / "pki"

    @property
    def peer_dir(self) -> Path:
        """The node's key and certificate as libvirt and QEMU read them."""
        return self.state_dir / "tls"

    @property
    def networks(self) -> dict[str, str]:
        """What is configured for each network role."""
        return {"manage": self.manage_network, "storage": self.storage_network, "business": self.business_network}

    @property
    def images_dir(self) -> Path:
        """The image cache."""
        return self.state_dir / "images"

    @property
    def volumes_dir(self) -> Path:
        """Volumes of the directory backend."""
        return self.state_dir / "volumes"

    @property
    def exports_dir(self) -> Path:
        """Copies of volumes, on their way to the coordinator."""
        return self.state_dir / "exports"

    @property
    def seeds_dir(self) -> Path:
        """Seeds for cloud-init."""
        return self.state_dir / "seeds"

    @property
    def serial_dir(self) -> Path:
        """What guests write to their serial consoles."""
        return self.state_dir / "serial"

    @property
    def fence_dir(self) -> Path:
        """What the watchdog has killed, until the coordinator knows it."""
        return self.state_dir / "fenced"

    @property
    def journal_dir(self) -> Path:
        """What must survive a crash and has no place in libvirt."""
        return self.state_dir / "journal"


def load_config(path: Path | None = None, environment: Mapping[str, str] | None = None) -> AgentConfig:
    """The configuration from `path` (the default path when it exists) and the environment.

    Raises ConfigInvalid, also when a path is given and there is no file.
    """
    values = _read_file(path or DEFAULT_CONFIG_PATH, required=path is not None)
    for key, text in (os.environ if environment is None else environment).items():
        name = key.removeprefix(ENVIRONMENT_PREFIX).lower()
        if key.startswith(ENVIRONMENT_PREFIX) and name in _TYPES:
            values[name] = text
    settings: dict[str, Any] = {name: _convert(name, value) for name, value in values.items()}
    config = replace(AgentConfig(), **settings)
    _check(config)
    return config


_KINDS: Final = {"Path": "absolute path", "int": "number >= 0", "str": "text", "Mapping[str, str]": "table"}
_TYPES: Final = {field.name: field.type for field in fields(AgentConfig)}


def _read_file(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        if required:
            raise ConfigInvalid(f"{path} does not exist") from None
        return {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigInvalid(f"{path}: {error}") from error


def _convert(name: str, value: object) -> object:
    match _TYPES.get(name):
        case None:
            raise ConfigInvalid(f"{name}: there is no such setting")
        case "Path" if isinstance(value, str) and value.startswith("/"):
            return Path(value)
        case "int" if not isinstance(value, bool) and str(value).isdecimal():
            return int(str(value))
        case "str" if isinstance(value, str):
            return value
        case "tuple[str, ...]" if isinstance(value, str):
            return tuple(item.strip() for item in value.split(",") if item.strip())
        case "tuple[str, ...]" if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        case "Mapping[str, str]" if isinstance(value, str):
            pairs = (item.partition("=") for item in value.split(",") if item.strip())
            return {key.strip(): text.strip() for key, _, text in pairs}
        case "Mapping[str, str]" if isinstance(value, dict):
            return {str(key): str(text) for key, text in value.items()}
        case wanted:
            kind = _KINDS.get(str(wanted), "list of texts")
            raise ConfigInvalid(f"{name}: {value!r} is not a {kind}")


def _check(config: AgentConfig) -> None:
    for name in ("listen", "metrics_listen"):
        split_address(name, getattr(config, name))
    if config.advertise_address:
        split_address("advertise_address", config.advertise_address)
    for address in filter(None, config.coordinator_address.split(",")):
        split_address("coordinator_address", address)
    for function, count in config.virtual_functions.items():
        if not (count == "all" or count.isdecimal()):
            raise ConfigInvalid(f'virtual_functions: {function}: {count!r} is neither a number nor "all"')
    if config.vgpu_migration not in _VGPU_MIGRATIONS:
        raise ConfigInvalid(f"vgpu_migration: {config.vgpu_migration!r} is none of {', '.join(_VGPU_MIGRATIONS)}")
    _check_storage(config)
    if config.log_level not in _LOG_LEVELS:
        raise ConfigInvalid(f"log_level: {config.log_level!r} is none of {', '.join(_LOG_LEVELS)}")


def _check_storage(config: AgentConfig) -> None:
    if config.volumes_mount and not config.volumes_mount.startswith("/"):
        raise ConfigInvalid(f"volumes_mount: {config.volumes_mount!r} is not an absolute path")
    for volume_type, backend in config.volume_backends.items():
        if not _BACKEND.fullmatch(backend):
            raise ConfigInvalid(
                f'volume_backends: {volume_type}: {backend!r} is none of "lvm:GROUP", "lvm:GROUP/POOL" and "rbd:POOL"'
            )
    if not _CEPH_USER.fullmatch(config.ceph_user):
        raise ConfigInvalid(f"ceph_user: {config.ceph_user!r} is no name of a user of Ceph")
    elastic = config.volume_backends.get(_ELASTIC_TYPE, "").partition("/")[0]
    others = {it.partition("/")[0] for name, it in config.volume_backends.items() if name != _ELASTIC_TYPE}
    if elastic and (elastic in others or not elastic.startswith("lvm:")):
        raise ConfigInvalid(f"volume_backends: {_ELASTIC_TYPE}: {elastic} is not a volume group of its own")


def split_address(name: str, address: str) -> tuple[str, int]:
    """Host and port of "host:port"; `name` is what ConfigInvalid names when it is not one."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) < 2**16:
        raise ConfigInvalid(f"{name}: {address!r} is not host:port")
    return host.strip("[]"), int(port)
