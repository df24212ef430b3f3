"""Moves of instances from node to node: their kinds, states, and the networks that they may take."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class MigrationType(StrEnum):
    """Whether an instance runs while it moves, or ran on a node that is lost."""

    COLD = "cold"
    LIVE = "live"
    RECOVERY = "recovery"


class MigrationState(StrEnum):
    """How far a migration is."""

    # It has its place on the target, and waits until fewer others are under way.
    WAITING = "Waiting"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELED = "Canceled"


ACTIVE_MIGRATION_STATES: Final = (MigrationState.WAITING, MigrationState.RUNNING)


class MigrationNetwork(StrEnum):
    """What memory and disks go over, as the API spells it."""

    MANAGE = "manage"
    STORAGE = "storage"
    BUSINESS = "business"
    # The management network, encrypted.
    CNINET = "cninet"

    @property
    def role(self) -> str:
        """The role of the nodes' addresses."""
        return self.MANAGE if self is self.CNINET else self.value

    @property
    def is_encrypted(self) -> bool:
        return self is self.CNINET


@dataclass(frozen=True, slots=True)
class MigrationOptions:
    """How a guest is moved; zeros leave it to the nodes."""

    # None: what the region has.
    network: MigrationNetwork | None = None
    bandwidth_mib_per_second: int = 0
    max_downtime_ms: int = 0
    # When slowing the guest down is not enough, it goes on at the target before all of its memory is there.
    allow_post_copy: bool = False
    auto_converge: bool = True
    multifd_channels: int = 0


@dataclass(frozen=True, slots=True)
class MigrationWish:
    """One instance that is to move; without a name of a node the scheduler chooses."""

    ecs_id: str
    node_name: str = ""


LEAST_MIGRATE_LIMIT: Final = 2
GREATEST_MIGRATE_LIMIT: Final = 100


@dataclass(frozen=True, slots=True)
class MigrationSettings:
    """What holds for all migrations of the region."""

    network: MigrationNetwork = MigrationNetwork.MANAGE
    # Live migrations at once.
    migrate_limit: int = 5
    # Guests may move to processors of another type than theirs.
    is_cpu_type_free: bool = False
