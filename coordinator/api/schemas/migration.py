"""Moves of instances on the wire."""

from typing import Literal

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, LenientModel, Moment
from coordinator.domain.migration import (
    GREATEST_MIGRATE_LIMIT,
    LEAST_MIGRATE_LIMIT,
    MigrationNetwork,
    MigrationOptions,
    MigrationSettings,
    MigrationState,
    MigrationType,
    MigrationWish,
)
from coordinator.services.migration import MigrationView, WishResult


class MigrationOptionsRequest(LenientModel):
    """How guests are moved, for operators; what is left out follows the region."""

    network: MigrationNetwork | None = Field(default=None, description="Instead of the region's migration network.")
    bandwidth_mib_per_second: int = Field(default=0, ge=0, le=1_000_000, description="0: all of the network.")
    max_downtime_ms: int = Field(
        default=0, ge=0, le=60_000, description="0: 300 ms; with vGPUs what they need, up to 60 s."
    )
    allow_post_copy: bool = Field(
        default=False, description="The guest may go on at the target before all of its memory is there."
    )
    auto_converge: bool = Field(default=True, description="Slow the guest down when it writes too fast.")
    multifd_channels: int = Field(default=0, ge=0, le=16, description="Connections for memory; 0: one.")

    def to_options(self) -> MigrationOptions:
        """The options in the domain's words."""
        names = ("network", "bandwidth_mib_per_second", "max_downtime_ms", "allow_post_copy", "auto_converge")
        return MigrationOptions(
            **{name: getattr(self, name) for name in names},
            # QEMU has no parallel connections for memory that is fetched.
            multifd_channels=0 if self.allow_post_copy else self.multifd_channels,
        )

    @property
    def is_given(self) -> bool:
        """Whether the caller wants anything beside the region's ways."""
        return self.to_options() != MigrationOptions()


class MigrateRequest(MigrationOptionsRequest):
    """Where to."""

    node_name: str = Field(min_length=1, max_length=255, description="Name of the target node.", examples=["node-2"])

    def to_wish(self, ecs_id: str) -> MigrationWish:
        """The wish for that instance."""
        return MigrationWish(ecs_id, self.node_name)


class WishRequest(LenientModel):
    """One instance, and where to."""

    ecs_id: str = Field(min_length=1, max_length=32, examples=["ecs-7751tih23uy93g"])
    node_name: str = Field(default="", max_length=255, description="Empty: the best node.", examples=["node-2"])


class BatchMigrateRequest(MigrationOptionsRequest):
    """Which instances move where."""

    migrations: list[WishRequest] = Field(min_length=1, max_length=1000)

    def to_wishes(self) -> list[MigrationWish]:
        """The wishes in their order."""
        return [MigrationWish(wish.ecs_id, wish.node_name) for wish in self.migrations]


class ColdWishRequest(LenientModel):
    """One instance, and where to."""

    ecs_id: str = Field(min_length=1, max_length=32, examples=["ecs-7751tih23uy93g"])
    node_name: str = Field(min_length=1, max_length=255, examples=["node-2"])


class BatchColdMigrateRequest(MigrationOptionsRequest):
    """Which instances move where."""

    migrations: list[ColdWishRequest] = Field(min_length=1, max_length=1000)

    def to_wishes(self) -> list[MigrationWish]:
        """The wishes in their order."""
        return [MigrationWish(wish.ecs_id, wish.node_name) for wish in self.migrations]


class WishResultBody(AnswerModel):
    """What became of one wish."""

    ecs_id: str
    operation_id: str = Field(description="Empty when it was refused.")
    code: str
    message: str

    @classmethod
    def of(cls, result: WishResult, language: str) -> "WishResultBody":
        error = result.error
        return cls(
            ecs_id=result.ecs_id,
            operation_id=result.operation_id,
            code=error.code if error else "Success",
            message=error.message.text(language) if error else "",
        )


class MigrationBody(AnswerModel):
    """A move of an instance."""

    migration_id: str
    type: MigrationType
    state: MigrationState
    source_node: str
    target_node: str
    network: str
    operation_id: str
    created_at: Moment
    started_at: Moment
    finished_at: Moment
    reason: str = Field(description="Why it did not end well.")

    @classmethod
    def of(cls, view: MigrationView) -> "MigrationBody":
        return cls.model_validate(view)


class MigrationListBody(AnswerModel):
    """One page of an instance's moves."""

    items: list[MigrationBody] = Field(alias="list")
    total_count: int = Field(description="On all pages together.")


class MigrationNetworkRequest(LenientModel):
    """The network of all migrations."""

    global_network: MigrationNetwork
    node_info_method: Literal["ccos-api"] = Field(description="How nodes' addresses are found: there is one way.")


class MigrationNetworkBody(AnswerModel):
    """The network of all migrations."""

    global_network: MigrationNetwork
    node_info_method: str = "ccos-api"


class MigrateLimitRequest(LenientModel):
    """Live migrations at once."""

    migrate_limit: int = Field(ge=LEAST_MIGRATE_LIMIT, le=GREATEST_MIGRATE_LIMIT, examples=[5])


class CpuMultiArchRequest(LenientModel):
    """Whether guests may move to processors of another type."""

    cpu_multi_arch: Literal["ON", "OFF"]


class LiveMigrationConfigBody(AnswerModel):
    """What holds for live migrations."""

    migrate_limit: int
    cpu_multi_arch: Literal["ON", "OFF"]

    @classmethod
    def of(cls, settings: MigrationSettings) -> "LiveMigrationConfigBody":
        return cls(migrate_limit=settings.migrate_limit, cpu_multi_arch="ON" if settings.is_cpu_type_free else "OFF")
