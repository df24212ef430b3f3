"""Configuration of the coordinator: TOML file, then environment (NODEWRIGHT_COORDINATOR_…), then command line."""

from datetime import timedelta
from pathlib import Path

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

DEFAULT_CONFIG_PATH = Path("/etc/nodewright/coordinator.toml")


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

    rest_listen: str = "0.0.0.0:8443"
    grpc_listen: str = "0.0.0.0:8444"
    join_listen: str = "0.0.0.0:8445"
    # Host names and addresses under which others reach this coordinator; they go into its certificate.
    public_hosts: list[str] = Field(default_factory=lambda: ["localhost", "127.0.0.1"])
    # Serve REST without TLS: only for a proxy in front that terminates it.
    plain_http: bool = False
    # Own certificate for REST; empty: one from the coordinator's own CA.
    tls_certificate_file: Path | None = None
    tls_key_file: Path | None = None

    cpu_allocation_ratio: float = Field(default=1.0, ge=1, le=6)
    reserved_host_vcpus: int = Field(default=0, ge=0)
    reserved_host_memory_mib: int = Field(default=512, ge=0)

    node_lease: timedelta = timedelta(seconds=30)
    heartbeat_interval: timedelta = timedelta(seconds=5)
    stop_grace: timedelta = timedelta(seconds=120)
    max_body_bytes: int = Field(default=1024 * 1024, ge=1024)
    max_image_bytes: int = 1024**4
    default_subnet_cidr: str = "10.80.0.0/24"
    # Guest agent commands that tenants may send; empty: all.
    guest_commands: list[str] = Field(default_factory=list)
    oidc_issuer: str = ""
    oidc_jwks_url: str = ""
    oidc_audience: str = ""
    log_level: str = "INFO"

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

    @property
    def effective_database_url(self) -> str:
        return self.database_url or f"sqlite:///{self.state_dir / 'coordinator.db'}"
