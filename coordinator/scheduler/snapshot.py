"""All hosts as columns of numbers: what filters and weighers compute on, kept current one host at a time.

A row is the same host in every column. Texts stand as codes of a vocabulary and traits as bits, so that a question
to all hosts is one comparison of arrays. Rows have no order: a host that is removed leaves its row to the last one.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coordinator.domain.placement import Consumer, HostView, ResourceClass
from coordinator.scheduler.cell import CellColumns
from coordinator.scheduler.column import FIRST_ROOM, BoolColumn, FloatColumn, IntColumn, widened
from coordinator.scheduler.device import DeviceColumns
from coordinator.scheduler.gpu.outlook import GpuOutlook
from coordinator.scheduler.gpu.request import gpu_request_of
from coordinator.scheduler.storage import StorageColumns

# Attributes of a host that are compared with what a request names.
TEXTS: Final = (
    "node_id",
    "zone",
    "architecture",
    "cpu_model",
    "pool_id",
    "group_id",
    "rack",
    "switch",
    "net_switch",
    "storage_id",
)

_CLASSES: Final = tuple(ResourceClass)
_INDEX: Final = {resource_class: index for index, resource_class in enumerate(_CLASSES)}
_DEDICATED: Final = _INDEX[ResourceClass.DEDICATED_VCPU]
_WORD_BITS: Final = 63


class Vocabulary:
    """Small numbers for texts."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._codes)

    def learn(self, text: str) -> int:
        """The code of the text, a new one the first time."""
        return self._codes.setdefault(text, len(self._codes))

    def find(self, text: str) -> int:
        """The code of the text; -1 for one that no host has."""
        return self._codes.get(text, -1)


class Snapshot:
    """The hosts as they were when each was put here last. Not safe for several threads at once."""

    def __init__(self, hosts: Iterable[HostView] = (), *, seed: int = 0) -> None:
        """`seed` decides between hosts of equal merit."""
        self._seed = seed.to_bytes(8, signed=True)
        self.cells: Final = CellColumns()
        self.devices: Final = DeviceColumns()
        self.storage: Final = StorageColumns()
        self.gpus: Final = GpuOutlook(seed=seed)
        self._hosts: list[HostView] = []
        self._rows: dict[str, int] = {}
        self._vocabularies = {name: Vocabulary() for name in (*TEXTS, "trait")}
        self._texts: dict[str, NDArray[np.int32]] = {name: np.zeros(FIRST_ROOM, np.int32) for name in TEXTS}
        self._traits: IntColumn = np.zeros((1, FIRST_ROOM), np.int64)
        self._limit: IntColumn = np.zeros((len(_CLASSES), FIRST_ROOM), np.int64)
        self._free: IntColumn = np.zeros_like(self._limit)
        self._ready: BoolColumn = np.zeros(FIRST_ROOM, np.bool_)
        self._schedulable: BoolColumn = np.zeros(FIRST_ROOM, np.bool_)
        self._rank: IntColumn = np.zeros(FIRST_ROOM, np.int64)
        self._in_flight: IntColumn = np.zeros(FIRST_ROOM, np.int64)
        # By weigher, where any host has its own; NaN: this one has not.
        self._weights: dict[str, FloatColumn] = {}
        for host in hosts:
            self.put(host)

    def __len__(self) -> int:
        return len(self._hosts)

    def host(self, row: int) -> HostView:
        """The host as it was put; what was taken since is in `free`."""
        return self._hosts[row]

    def find(self, node_id: str) -> int | None:
        """The row of a host."""
        return self._rows.get(node_id)

    def node_ids(self) -> Set[str]:
        """Of all hosts."""
        return self._rows.keys()

    def generation(self, node_id: str) -> int | None:
        """The generation that the host had when it was put; None for one that is not here."""
        row = self._rows.get(node_id)
        return None if row is None else self._hosts[row].generation

    def find_by_name(self, name: str) -> int | None:
        """The row of a host."""
        return next((row for row, host in enumerate(self._hosts) if host.name == name), None)

    def put(self, host: HostView) -> None:
        """The host is what it is now; a new one gets a row."""
        row = self._rows.get(host.node_id)
        if row is None:
            row = self._append(host)
        for name, column in self._texts.items():
            column[row] = self._vocabularies[name].learn(getattr(host, name))
        self._traits[:, row] = self._trait_bits(host.traits)
        self._ready[row], self._schedulable[row] = host.ready, host.schedulable
        self._in_flight[row] = host.in_flight
        for name in host.weights.keys() - self._weights.keys():
            self._weights[name] = np.full(len(self._ready), np.nan)
        for name, weights in self._weights.items():
            weights[row] = host.weights.get(name, np.nan)
        self.storage.put(row, host)
        self._put_use(row, host)

    def remove(self, node_id: str) -> None:
        """The host is gone; absence is success."""
        row = self._rows.pop(node_id, None)
        if row is None:
            return
        last = self._hosts.pop()
        if row < len(self._hosts):
            self._hosts[row] = last
            self._rows[last.node_id] = row
            for column in self._columns():
                column[..., row] = column[..., len(self._hosts)]
            for group in (self.cells, self.devices, self.gpus, self.storage):
                group.move(len(self._hosts), row)
        self.gpus.shrink()

    def observe(self, consumers: Iterable[Consumer]) -> None:
        """Consumers arrived: what is asked for tells what will be."""
        for consumer in consumers:
            self.gpus.observe(gpu_request_of(consumer))

    def matches(self, name: str, text: str) -> BoolColumn:
        """Which hosts have this text as an attribute of TEXTS."""
        found: BoolColumn = self._texts[name][: len(self)] == self._vocabularies[name].find(text)
        return found

    def codes(self, name: str) -> NDArray[np.int32]:
        """A small number for the text of each host: the same for the same text."""
        return self._texts[name][: len(self)]

    def count(self, name: str, counts: Mapping[str, int]) -> IntColumn:
        """For each host the number that its text has in `counts`; 0 for texts that are not there."""
        vocabulary = self._vocabularies[name]
        by_code = np.zeros(len(vocabulary), np.int64)
        for text, number in counts.items():
            if (code := vocabulary.find(text)) >= 0:
                by_code[code] = number
        return by_code[self.codes(name)]

    def has_traits(self, traits: Iterable[str]) -> BoolColumn:
        """Which hosts have all the traits."""
        wanted_traits = frozenset(traits)
        # Callers name what they like: only traits that a host has are learnt.
        if any(self._vocabularies["trait"].find(trait) < 0 for trait in wanted_traits):
            return np.zeros(len(self), np.bool_)
        wanted = self._trait_bits(wanted_traits)[:, np.newaxis]
        found: BoolColumn = ((self._traits[:, : len(self)] & wanted) == wanted).all(axis=0)
        return found

    @property
    def ready(self) -> BoolColumn:
        """Which hosts are connected."""
        return self._ready[: len(self)]

    @property
    def schedulable(self) -> BoolColumn:
        """Which hosts no operator closed."""
        return self._schedulable[: len(self)]

    @property
    def in_flight(self) -> IntColumn:
        """Builds and moves under way on each host."""
        return self._in_flight[: len(self)]

    def weight(self, name: str, default: float, rows: IntColumn) -> FloatColumn | float:
        """What a weigher counts on these hosts."""
        own = self._weights.get(name)
        return default if own is None else np.where(np.isnan(own[rows]), default, own[rows])

    @property
    def rank(self) -> IntColumn:
        """A fixed number of each host, which decides between equals: by the seed, not by the name."""
        return self._rank[: len(self)]

    def free(self, resource_class: ResourceClass) -> IntColumn:
        """What may still be allocated, in the unit of the class; negative under a ratio that was lowered."""
        return self._free[_INDEX[resource_class], : len(self)]

    def limit(self, resource_class: ResourceClass) -> IntColumn:
        """What may be allocated in all."""
        return self._limit[_INDEX[resource_class], : len(self)]

    @contextmanager
    def trial(self) -> Iterator["Trial"]:
        """Takes that are undone at the end."""
        trial = Trial(self)
        try:
            yield trial
        finally:
            trial.undo()

    def replace_use(self, row: int, host: HostView) -> None:
        """The host of the row has other amounts in use; what it is by nature is the same."""
        self._put_use(row, host)

    def _put_use(self, row: int, host: HostView) -> None:
        self._hosts[row] = host
        for index, resource_class in enumerate(_CLASSES):
            capacity = host.capacities.get(resource_class)
            self._limit[index, row] = capacity.limit if capacity else 0
            self._free[index, row] = capacity.free if capacity else 0
        self._free[_DEDICATED, row] = host.pinnable
        for group in (self.cells, self.devices, self.gpus):
            group.put(row, host)

    def _append(self, host: HostView) -> int:
        row = len(self._hosts)
        if row == len(self._ready):
            self._grow()
        self._hosts.append(host)
        self._rows[host.node_id] = row
        digest = blake2b(host.node_id.encode(), digest_size=8, key=self._seed).digest()
        self._rank[row] = int.from_bytes(digest, signed=True)
        return row

    def _columns(self) -> Iterator[NDArray[np.generic]]:
        yield from self._texts.values()
        yield from self._weights.values()
        yield from (self._traits, self._limit, self._free, self._ready, self._schedulable, self._rank, self._in_flight)

    def _grow(self) -> None:
        self._texts = {name: widened(column) for name, column in self._texts.items()}
        self._traits, self._limit, self._free = widened(self._traits), widened(self._limit), widened(self._free)
        self._ready, self._schedulable = widened(self._ready), widened(self._schedulable)
        self._rank, self._in_flight = widened(self._rank), widened(self._in_flight)
        self._weights = {name: widened(column) for name, column in self._weights.items()}
        for group in (self.cells, self.devices, self.gpus, self.storage):
            group.widen()

    def _trait_bits(self, traits: Iterable[str]) -> IntColumn:
        """One bit a trait, in as many words as all traits ever seen need."""
        codes = [self._vocabularies["trait"].learn(trait) for trait in traits]
        words = max([len(self._traits), *(code // _WORD_BITS + 1 for code in codes)])
        if words > len(self._traits):
            self._traits = np.pad(self._traits, ((0, words - len(self._traits)), (0, 0)))
        bits = np.zeros(words, np.int64)
        for code in codes:
            bits[code // _WORD_BITS] |= 1 << code % _WORD_BITS
        return bits


class Trial:
    """What consumers of one request take from the hosts, one after the other."""

    def __init__(self, hosts: Snapshot) -> None:
        self._snapshot = hosts
        self._before: dict[int, HostView] = {}
        self._space: Counter[str] = Counter()

    def take(self, row: int, host: HostView, consumer: Consumer) -> None:
        """The host of the row, which the consumer was given, is this until the end of the trial."""
        self._before.setdefault(row, self._snapshot.host(row))
        self._snapshot.replace_use(row, host)
        if space := consumer.space_on(host):
            self._snapshot.storage.take(space)
            self._space.update(space)

    def undo(self) -> None:
        """The hosts are as they were."""
        self._snapshot.storage.take({pool_id: -gib for pool_id, gib in self._space.items()})
        for row, host in self._before.items():
            self._snapshot.replace_use(row, host)
