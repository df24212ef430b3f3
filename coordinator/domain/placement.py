"""What the scheduler reads and answers: immutable views, no database, no network."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import ceil

from coordinator.domain.cell import Cell, CellShare, CellWish
from coordinator.domain.deployment import DeploymentRule, Place
from coordinator.domain.device import Device, DeviceShare, DeviceWish, sum_milli
from coordinator.domain.space import SpaceWish, sum_by_pool


class ResourceClass(StrEnum):
    """Counted resources, in the unit that the name states."""

    VCPU = "VCPU"
    # vCPUs with host CPUs of their own. Hosts have no inventory of them: they come out of that of VCPU, at ratio 1.
    DEDICATED_VCPU = "DEDICATED_VCPU"
    MEMORY_MIB = "MEMORY_MIB"
    STORAGE_GIB = "STORAGE_GIB"
    # Elastic local disks.
    LOCAL_STORAGE_GIB = "LOCAL_STORAGE_GIB"


@dataclass(frozen=True, slots=True)
class Capacity:
    """Inventory of one resource class on one host."""

    total: int
    reserved: int
    allocation_ratio: float
    used: int
    # Of vCPUs: host CPUs that are out of it because somebody has them to himself.
    pinned: int = 0

    @property
    def limit(self) -> int:
        """What may be allocated in all."""
        return int((self.total - self.reserved - self.pinned) * self.allocation_ratio)

    @property
    def free(self) -> int:
        """What may still be allocated; negative when a ratio was lowered under the present use."""
        return self.limit - self.used

    @property
    def pinnable(self) -> int:
        """Host CPUs that the present use can do without."""
        return self.total - self.reserved - self.pinned - ceil(self.used / self.allocation_ratio)


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
    # NUMA cells; none: not known, nobody can be placed in one.
    cells: tuple[Cell, ...] = ()
    devices: tuple[Device, ...] = ()
    # Builds and moves that are under way there.
    in_flight: int = 0
    # Weights of its pool, for weighers that count there otherwise than elsewhere.
    weights: Mapping[str, float] = field(default_factory=dict)
    # Labels of where it stands; empty: nobody said.
    # Where it keeps volumes: hosts with the same one share them.
    storage_id: str = ""
    # Where it makes volumes, by their type: ids of pools, empty where that is silent.
    pools: Mapping[str, str] = field(default_factory=dict)
    # Where it has them: hosts with the same place share the volumes in it. Empty: it does not tell, and all are counted
    # together.
    places: frozenset[str] = frozenset()
    rack: str = ""
    switch: str = ""
    net_switch: str = ""

    @property
    def place(self) -> Place:
        """Where it stands."""
        return Place(self.node_id, self.rack, self.switch, self.net_switch)

    @property
    def cpu_ratio(self) -> float:
        """vCPUs to a host CPU that is not pinned."""
        capacity = self.capacities.get(ResourceClass.VCPU)
        return capacity.allocation_ratio if capacity else 1.0

    @property
    def pinnable(self) -> int:
        """Host CPUs that the consumers there can do without."""
        capacity = self.capacities.get(ResourceClass.VCPU)
        return capacity.pinnable if capacity else 0

    def device(self, device_id: str) -> Device:
        """The device with that id; StopIteration when there is none."""
        return next(device for device in self.devices if device.id == device_id)

    def taken(self, consumer: "Consumer", assignment: "Assignment") -> "HostView":
        """As it is once the consumer has what it was assigned."""
        cells = {share.cell: share for share in assignment.cells}
        devices = sum_milli(assignment.devices)
        pinned = sum(len(share.cpus) for share in assignment.cells)
        return replace(
            self,
            capacities={
                name: replace(
                    capacity,
                    used=capacity.used + consumer.resources.get(name, 0),
                    pinned=capacity.pinned + pinned if name is ResourceClass.VCPU else 0,
                )
                for name, capacity in self.capacities.items()
            },
            cells=tuple(cell.taken(cells[cell.id]) if cell.id in cells else cell for cell in self.cells),
            devices=tuple(
                device.taken(devices[device.id]) if device.id in devices else device for device in self.devices
            ),
        )


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who takes resources: an instance or a guest of another scheduler."""

    uuid: str
    resources: Mapping[ResourceClass, int]
    devices: tuple[DeviceWish, ...] = ()
    # None: its vCPUs and memory may be anywhere on the host.
    cells: CellWish | None = None
    # Its volumes by type: where hosts tell of their pools these count, instead of STORAGE_GIB.
    space: tuple[SpaceWish, ...] = ()

    def space_on(self, host: HostView) -> dict[str, int]:
        """What its volumes take of each pool of the host, GiB."""
        return sum_by_pool(host.pools, self.space)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a consumer is given: a host, and what is named on it."""

    host: HostView
    cells: tuple[CellShare, ...] = ()
    devices: tuple[DeviceShare, ...] = ()


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
    # A host that the consumers are to leave; empty: none.
    away_from: str = ""
    # Where their volumes are; empty: nowhere yet, or they come along.
    storage_id: str = ""
    # The same, where it is known by volume: the host must have all of these.
    places: frozenset[str] = frozenset()
    # Of the deployment set of the consumers; None: they have no set.
    deployment: DeploymentRule | None = None

    def with_member(self, host: HostView) -> "PlacementRequest":
        """What is asked for the others once one of the consumers is there."""
        return replace(self, deployment=self.deployment.with_member(host.place)) if self.deployment else self


class RejectionReason(StrEnum):
    """Kinds of rejections; their text for people is made in `placement.summary`."""

    OTHER_HOST = "other host"
    PRESENT_HOST = "the present host"
    OTHER_ZONE = "other zone"
    OTHER_STORAGE = "other storage"
    OTHER_POOL = "other resource pool"
    OTHER_GROUP = "other host group"
    GROUPED = "reserved for a host group"
    OTHER_ARCHITECTURE = "other architecture"
    OTHER_CPU_MODEL = "other CPU model"
    TRAIT_MISSING = "trait missing"
    NO_RACK_LABEL = "no rack label"
    NO_SWITCH_LABEL = "no switch label"
    NO_NET_SWITCH_LABEL = "no network switch label"
    NOT_HOST_OF_SET = "not the host of the deployment set"
    NOT_RACK_OF_SET = "not in the rack of the deployment set"
    NOT_SWITCH_OF_SET = "not at the switch of the deployment set"
    NOT_NET_SWITCH_OF_SET = "not at the network switch of the deployment set"
    HOST_TAKEN_BY_SET = "host taken by the deployment set"
    RACK_TAKEN_BY_SET = "rack taken by the deployment set"
    SWITCH_TAKEN_BY_SET = "switch taken by the deployment set"
    NET_SWITCH_TAKEN_BY_SET = "network switch taken by the deployment set"
    AWAY = "away"
    CORDONED = "closed for new instances"
    TOO_FEW_VCPUS = "too few vCPUs"
    TOO_FEW_DEDICATED_CPUS = "too few CPUs to dedicate"
    TOO_LITTLE_MEMORY = "too little memory"
    TOO_LITTLE_STORAGE = "too little storage"
    VOLUME_TYPE_MISSING = "no storage that answers for the volume type"
    TOO_LITTLE_LOCAL_STORAGE = "too little local storage"
    NUMA_MISFIT = "no NUMA cells that fit"
    TOO_FEW_DEVICES = "too few free devices"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a host cannot take a consumer: what was wanted and what it has, for people."""

    filter: str
    reason: RejectionReason
    wanted: str
    available: str


@dataclass(frozen=True, slots=True)
class RejectionCount:
    """How many hosts have a reason against them, and the rejection of the one that comes nearest."""

    rejection: Rejection
    count: int


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
    """What each consumer gets, in their order, or nothing; and why not more.

    Reasons are those against the first consumer that has no host, or the first of all where somebody asked.
    """

    assignments: tuple[Assignment, ...]
    # On every host, where somebody asked.
    verdicts: tuple[Verdict, ...]
    host_count: int
    # How many hosts each filter kept from the first consumer, in the order of the filters.
    rejected: Mapping[str, int] = field(default_factory=dict)
    # What each weigher gave the host of a consumer, by the consumer's UUID.
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    # Empty where all are placed and nobody asked.
    reasons: tuple[RejectionCount, ...] = ()

    @property
    def placed(self) -> bool:
        return bool(self.assignments)
