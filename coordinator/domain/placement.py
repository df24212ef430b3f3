"""What the scheduler reads and answers: immutable views, no database, no network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class ResourceClass(StrEnum):
    """Counted resources, in the unit that the name states."""

    VCPU = "VCPU"
    MEMORY_MIB = "MEMORY_MIB"
    STORAGE_GIB = "STORAGE_GIB"


@dataclass(frozen=True, slots=True)
class Capacity:
    """Inventory of one resource class on one host."""

    total: int
    reserved: int
    allocation_ratio: float
    used: int

    @property
    def limit(self) -> int:
        """What may be allocated in all."""
        return int((self.total - self.reserved) * self.allocation_ratio)

    @property
    def free(self) -> int:
        """What may still be allocated; negative when a ratio was lowered under the present use."""
        return self.limit - self.used


@dataclass(frozen=True, slots=True)
class HostView:
    """One host as the scheduler sees it."""

    node_id: str
    name: str
    generation: int
    zone: str
    architecture: str
    cpu_model: str
    ready: bool
    schedulable: bool
    traits: frozenset[str]
    capacities: Mapping[ResourceClass, Capacity]
    # Resource pool that it belongs to; empty: none.
    pool_id: str = ""
    # Host group that it belongs to; empty: none.
    group_id: str = ""


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who takes resources: an instance or a guest of another scheduler."""

    uuid: str
    resources: Mapping[ResourceClass, int]


@dataclass(frozen=True, slots=True)
class PlacementRequest:
    """Consumers to be placed together, and what their hosts must be."""

    consumers: tuple[Consumer, ...]
    architecture: str = ""
    zone: str = ""
    node_id: str = ""
    node_name: str = ""
    cpu_model: str = ""
    traits: frozenset[str] = field(default_factory=frozenset)
    # Resource pools that are admitted; none: any host is.
    pool_ids: frozenset[str] = field(default_factory=frozenset)
    # Host group of the consumers; empty: none, which keeps them off hosts of any.
    group_id: str = ""


class RejectionReason(StrEnum):
    """Kinds of rejections; their text for people is made in `placement.summary`."""

    OTHER_HOST = "other host"
    OTHER_ZONE = "other zone"
    OTHER_POOL = "other resource pool"
    OTHER_GROUP = "other host group"
    GROUPED = "reserved for a host group"
    OTHER_ARCHITECTURE = "other architecture"
    OTHER_CPU_MODEL = "other CPU model"
    TRAIT_MISSING = "trait missing"
    AWAY = "away"
    CORDONED = "closed for new instances"
    TOO_FEW_VCPUS = "too few vCPUs"
    TOO_LITTLE_MEMORY = "too little memory"
    TOO_LITTLE_STORAGE = "too little storage"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a host cannot take a consumer: what was wanted and what it has, for people."""

    filter: str
    reason: RejectionReason
    wanted: str
    available: str
    # Of a counted resource, in the unit of its class: tells which host has the most.
    available_amount: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The scheduler's word on one host."""

    node_id: str
    node_name: str
    rejection: Rejection | None
    # What each weigher adds to the merit of a host that was not rejected.
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """Host of each consumer, in their order, or none; and the verdict on every host where somebody asked why."""

    assignments: tuple[HostView, ...]
    verdicts: tuple[Verdict, ...]
    host_count: int
    # How many hosts each filter kept from the first consumer, in the order of the filters.
    rejected: Mapping[str, int] = field(default_factory=dict)
    # What each weigher gave the host of a consumer, by the consumer's UUID.
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def placed(self) -> bool:
        return bool(self.assignments)
