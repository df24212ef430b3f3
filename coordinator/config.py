"""Configuration of the coordinator: TOML file, then environment (NODEWRIGHT_COORDINATOR_…), then command line."""

import socket
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from coordinator.domain.cron import find_zone
from coordinator.domain.fence import FenceKind
from coordinator.domain.volume import VolumeLimit, VolumeType

DEFAULT_CONFIG_PATH = Path("/etc/nodewright/coordinator.toml")

_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 (compared with, not bound to)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[host]:port"; ValueError when it is neither."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{address!r} is not host:port")
    return host.strip("[]"), int(port)


def _check_address(address: str) -> str:
    split_address(address)
    return address


def _check_zone(name: str) -> str:
    find_zone(name)
    return name


ZoneName = Annotated[str, AfterValidator(_check_zone)]
ListenAddress = Annotated[str, AfterValidator(_check_address)]


class Settings(BaseSettings):
    """Every setting has a working default: an empty file starts a one-host cloud."""

    model_config = SettingsConfigDict(env_prefix="NODEWRIGHT_COORDINATOR_", extra="forbid")

    state_dir: Path = Path("/var/lib/nodewright/coordinator")
    # Empty: SQLite in the state directory. PostgreSQL: "postgresql+psycopg://user:password@host/database".
    database_url: str = ""

    region: str = "region0"
    region_display_name: str = ""
    # The zone of nodes whose configuration names none.
    default_zone: str = "AZ0"
    zones: list[str] = Field(default_factory=lambda: ["AZ0"])
    # Name of this cluster of nodes, answered as "cell".
    cell: str = "cell0"

    rest_listen: ListenAddress = "0.0.0.0:8443"
    grpc_listen: ListenAddress = "0.0.0.0:8444"
    join_listen: ListenAddress = "0.0.0.0:8445"
    # Host names and addresses under which others reach this coordinator, the best one first; they go into its
    # certificate. Empty: this machine's own address and name.
    public_hosts: list[str] = Field(default_factory=list)
    # Serve REST without TLS: only for a proxy in front that terminates it.
    plain_http: bool = False
    # Own certificate for REST; empty: one from the coordinator's own CA.
    tls_certificate_file: Path | None = None
    tls_key_file: Path | None = None

    cpu_allocation_ratio: float = Field(default=1.0, ge=1, le=6)
    reserved_host_vcpus: int = Field(default=0, ge=0)
    reserved_host_memory_mib: int = Field(default=512, ge=0)

    # Weights of the scheduler's weighers, instead of its own: {"room": -1} packs hosts rather than spread over them.
    weights: dict[str, float] = Field(default_factory=dict)
    # Decides between hosts of equal merit.
    scheduler_seed: int = 0

    node_lease: timedelta = timedelta(seconds=30)
    heartbeat_interval: timedelta = timedelta(seconds=5)
    # Migrations that a node takes part in at once, as source or target.
    migrations_per_node: int = Field(default=2, ge=1, le=100)
    # What makes sure that a lost node runs no highly available instance any more, tried in this order.
    fences: list[FenceKind] = Field(default_factory=lambda: list(FenceKind))
    # What ran on a node when that lost its power, or was rebooted, is started there again once the node is back.
    start_after_reboot: bool = True
    # So many guests of one node boot at once then; one that does not tell through its guest agent that it is up
    # counts for `boot_time`.
    boots_per_node: int = Field(default=8, ge=1, le=1000)
    boot_time: timedelta = Field(default=timedelta(seconds=30), ge=timedelta(0), le=timedelta(hours=1))
    stop_grace: timedelta = timedelta(seconds=120)
    # For so long a new system's guest agent is waited for; where none is expected it counts as booted then.
    new_system_grace: timedelta = Field(default=timedelta(minutes=5), ge=timedelta(seconds=10), le=timedelta(hours=2))
    # How long a guest may take to let go of a disk.
    detach_grace: timedelta = Field(default=timedelta(seconds=30), ge=timedelta(seconds=1), le=timedelta(minutes=10))
    # So long before the recycle bin deletes an instance for good an event tells of it.
    recycle_notice: timedelta = Field(default=timedelta(hours=6), ge=timedelta(0))
    # How long operations and moves that have ended can still be asked for.
    task_retention: timedelta = timedelta(days=30)
    # How long it can be read what happened, and who did what.
    event_retention: timedelta = Field(default=timedelta(days=30), ge=timedelta(hours=1))
    audit_retention: timedelta = Field(default=timedelta(days=180), ge=timedelta(hours=1))
    # Send events also to addresses that are not public: loopback, link-local, private networks.
    allow_private_webhook_urls: bool = False
    # A webhook that has failed for this long is given up, and an alarm tells so.
    webhook_patience: timedelta = timedelta(days=3)
    # How many launch templates, scheduled tasks and snapshot policies a tenant may have, and how many versions a
    # template keeps.
    templates_per_tenant: int = Field(default=100, ge=1)
    versions_per_template: int = Field(default=50, ge=2)
    schedules_per_tenant: int = Field(default=100, ge=1)
    # How many snapshots an instance may have, those in the recycle bin included.
    snapshots_per_instance: int = Field(default=32, ge=1, le=1000)
    snapshot_policies_per_tenant: int = Field(default=100, ge=1)
    # What each volume may do at most, by its type; brought to running guests when the coordinator is started anew.
    volume_limits: dict[VolumeType, VolumeLimit] = Field(default_factory=dict)
    # New volumes of these types are encrypted by the nodes that have them as files, each with a key of its own.
    encrypted_volume_types: frozenset[VolumeType] = frozenset()
    # The time zone of scheduled tasks and snapshot policies that name none.
    schedule_time_zone: ZoneName = "UTC"
    # What was due while no coordinator ran is caught up once if it is not older than this; else it counts as missed.
    schedule_catch_up: timedelta = Field(default=timedelta(hours=1), ge=timedelta(minutes=1), le=timedelta(days=7))
    # So many runs of each scheduled task can be asked for.
    schedule_history: int = Field(default=100, ge=1, le=10_000)
    max_body_bytes: int = Field(default=1024 * 1024, ge=1024)
    max_image_bytes: int = 1024**4
    # Largest disk that an image may describe, whatever the size of its file.
    max_image_virtual_bytes: int = Field(default=16 * 1024**4, ge=1024**2)
    # An upload that nobody goes on with for so long is forgotten.
    upload_expiry: timedelta = Field(default=timedelta(hours=24), ge=timedelta(minutes=1))
    # Fetch images also from addresses that are not public: loopback, link-local, private networks.
    allow_private_image_urls: bool = False
    # Packages (*.deb, *.rpm) that go onto the disc with the guest tools, for guests without sources of their own.
    vmtools_packages_dir: Path = Path("/etc/nodewright/vmtools")
    # Local disks that an instance had are overwritten with zeros before anybody else gets them.
    wipe_released_disks: bool = True
    # Instances can grow to so many times their size while they run; 1: they are restarted for it.
    hot_plug_factor: int = Field(default=4, ge=1, le=16)
    default_subnet_cidr: str = "10.80.0.0/24"
    # Guest agent commands that tenants may send; empty: all.
    guest_commands: list[str] = Field(default_factory=list)
    ssh_keys_per_tenant: int = Field(default=100, ge=1, le=100_000)
    oidc_issuer: str = ""
    oidc_jwks_url: str = ""
    oidc_audience: str = ""
    # Claims that tell the role ("operator", "tenant", "auditor") and the tenant's id.
    oidc_role_claim: str = "nodewright_role"
    oidc_tenant_claim: str = "nodewright_tenant"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @model_validator(mode="after")
    def _check_together(self) -> "Settings":
        """Settings that only make sense together."""
        if self.default_zone not in self.zones:
            raise ValueError(f"default_zone {self.default_zone!r} is none of the zones {', '.join(self.zones)}")
        if len(set(self.fences)) < len(self.fences):
            raise ValueError("fences names one of them twice")
        if bool(self.tls_certificate_file) != bool(self.tls_key_file):
            raise ValueError("tls_certificate_file and tls_key_file belong together")
        if self.weights:
            # Else whoever reads the configuration would load the scheduler, NumPy included.
            from coordinator.scheduler.pipeline import merge_weights

            merge_weights(self.weights)
        if self.webhook_patience >= self.event_retention:
            raise ValueError("event_retention must be longer than webhook_patience, for which events are kept")
        if self.heartbeat_interval * 2 > self.node_lease:
            raise ValueError("node_lease must be at least twice the heartbeat_interval")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @classmethod
    def load(cls, config_path: Path | None = None) -> "Settings":
        """Settings from `config_path` (the default path when it exists) and the environment."""
        path = config_path or DEFAULT_CONFIG_PATH

        class FileSettings(cls):  # type: ignore[misc, valid-type]
            model_config = SettingsConfigDict(toml_file=path)

        if config_path and not config_path.exists():
            raise FileNotFoundError(config_path)
        return FileSettings()

    def limit_of(self, volume_type: str) -> VolumeLimit | None:
        """What volumes of the type may do at most; None: they are not limited."""
        return next((limit for name, limit in self.volume_limits.items() if name == volume_type), None)

    @property
    def pki_dir(self) -> Path:
        """The authority and the coordinator's own certificate."""
        return self.state_dir / "pki"

    @property
    def images_dir(self) -> Path:
        """Files of active images, each under its image's id."""
        return self.state_dir / "images"

    @property
    def certificate_hosts(self) -> list[str]:
        """What the coordinator's certificate names: the public hosts, and always this machine itself."""
        return list(dict.fromkeys([*self._hosts, "localhost", "127.0.0.1"]))

    def public_address(self, listen: str) -> str:
        """ "host:port" under which others reach the server that listens at `listen`."""
        host, port = split_address(listen)
        if host in _ANY_ADDRESS:
            host = self._hosts[0]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def _hosts(self) -> list[str]:
        return self.public_hosts or [_own_address(), socket.gethostname()]

    @property
    def effective_database_url(self) -> str:
        """URL of the database: the configured one, else that of SQLite in the state directory."""
        return self.database_url or f"sqlite:///{self.state_dir / 'coordinator.db'}"


def _own_address() -> str:
    """The address that this machine has on its way to others; the loopback's when it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a datagram socket sends nothing: it only looks up the route.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address
