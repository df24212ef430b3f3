"""The rules of placement once more, as plainly as they can be said: every host, every choice, one after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from math import floor

from coordinator.domain.cell import CellShare
from coordinator.domain.deployment import DeploymentRule
from coordinator.domain.device import DeviceShare
from coordinator.domain.placement import Assignment, Consumer, HostView, PlacementRequest, ResourceClass

_COUNTED = (
    ResourceClass.VCPU,
    ResourceClass.MEMORY_MIB,
    ResourceClass.STORAGE_GIB,
    ResourceClass.LOCAL_STORAGE_GIB,
)


@dataclass
class Tenancy:
    """A host and those who are on it, each with what it was assigned."""

    host: HostView
    residents: list[tuple[Consumer, Assignment]] = field(default_factory=list)

    def may_take(self, consumer: Consumer, request: PlacementRequest) -> bool:
        """Whether the rules allow it in some way."""
        return self._is_right(request) and any(after.is_within_limits() for after in self.outcomes(consumer))

    def outcomes(self, consumer: Consumer) -> Iterator["Tenancy"]:
        """The host with the consumer on it, in every way, possible or not; of like cores it has the first."""
        for cells, devices in product(self._cell_ways(consumer), self._device_ways(consumer)):
            yield Tenancy(self.host, [*self.residents, (consumer, Assignment(self.host, cells, devices))])

    def is_within_limits(self) -> bool:
        """Whether nothing is given out beyond what there is, and everybody has what was asked for."""
        return self._counts_hold() and self._cells_hold() and self._devices_hold()

    def _is_right(self, request: PlacementRequest) -> bool:
        host = self.host
        return (
            host.ready
            and host.schedulable
            and request.zone in ("", host.zone)
            and request.architecture in ("", host.architecture)
            and request.cpu_model in ("", host.cpu_model)
            and request.traits <= host.traits
            and (not request.pool_ids or host.pool_id in request.pool_ids)
            and host.group_id == request.group_id
            and request.node_id in ("", host.node_id)
            and (request.deployment is None or may_join(host, request.deployment))
        )

    def _counts_hold(self) -> bool:
        pinned = sum(len(share.cpus) for _, assignment in self.residents for share in assignment.cells)
        for name in _COUNTED:
            wanted = sum(consumer.resources.get(name, 0) for consumer, _ in self.residents)
            capacity = self.host.capacities.get(name)
            total = 0
            if capacity:
                there = capacity.total - capacity.reserved - (pinned if name is ResourceClass.VCPU else 0)
                total = floor(there * capacity.allocation_ratio)
            if wanted > max(total, 0) or total < 0:
                return False
        return True

    def _cells_hold(self) -> bool:
        ratio = self.host.cpu_ratio
        shares = [share for _, assignment in self.residents for share in assignment.cells]
        for cell in self.host.cells:
            here = [share for share in shares if share.cell == cell.id]
            pins = [cpu for share in here for cpu in share.cpus]
            floating = sum(share.vcpus for share in here if not share.cpus)
            cores = [core for core in cell.cores if set(core) & set(pins)]
            if len(set(pins)) < len(pins) or {cpu for core in cores for cpu in core} != set(pins):
                return False  # a CPU twice, or not a whole core
            if floating > floor((sum(map(len, cell.cores)) - len(pins)) * ratio):
                return False
            if sum(share.memory_mib for share in here if not share.page_kib) > cell.memory_mib:
                return False
            for page_kib in {share.page_kib for share in here} - {0}:
                taken = sum(share.memory_mib for share in here if share.page_kib == page_kib)
                if taken > cell.huge_pages_mib.get(page_kib, 0):
                    return False
        return all(share.cell in {cell.id for cell in self.host.cells} for share in shares)

    def _devices_hold(self) -> bool:
        devices = {device.id: device for device in self.host.devices}
        taken: dict[str, int] = {}
        for consumer, assignment in self.residents:
            wishes = [wish for wish in consumer.devices for _ in range(wish.count)]
            given = [share.device_id for share in assignment.devices]
            if len(given) != len(wishes) or len(set(given)) < len(given):
                return False
            for wish, share in zip(wishes, assignment.devices, strict=True):
                if share.milli != wish.milli or not wish.accepts(devices[share.device_id].type):
                    return False
                taken[share.device_id] = taken.get(share.device_id, 0) + share.milli
        return all(milli <= 1000 for milli in taken.values())

    def _cell_ways(self, consumer: Consumer) -> Iterator[tuple[CellShare, ...]]:
        wish = consumer.cells
        if wish is None:
            yield ()
            return
        pinned = {cpu for _, it in self.residents for share in it.cells for cpu in share.cpus}
        for count in range(1, len(self.host.cells) + 1):
            part_kib, rest_kib = divmod(wish.memory_mib * 1024, count)
            # Even parts of whole MiB and whole pages.
            if wish.vcpus % count or rest_kib or part_kib % 1024 or part_kib % (wish.page_kib or 1024):
                continue
            for chosen in combinations(self.host.cells, count):
                shares = []
                for cell in chosen:
                    cpus: list[int] = []
                    for core in cell.cores:
                        if wish.dedicated and len(cpus) < wish.vcpus // count and not pinned & set(core):
                            cpus += core
                    if wish.dedicated and len(cpus) < wish.vcpus // count:
                        break
                    shares.append(
                        CellShare(cell.id, wish.vcpus // count, wish.memory_mib // count, wish.page_kib, tuple(cpus))
                    )
                else:
                    yield tuple(shares)

    def _device_ways(self, consumer: Consumer) -> Iterator[tuple[DeviceShare, ...]]:
        wishes = [wish for wish in consumer.devices for _ in range(wish.count)]
        for given in product(self.host.devices, repeat=len(wishes)):
            yield tuple(DeviceShare(device.id, wish.milli) for device, wish in zip(given, wishes, strict=True))


def may_join(host: HostView, rule: DeploymentRule) -> bool:
    """Whether a member on the host is where the set's conditions want it."""
    for scope, policy in rule.policies.items():
        domain = getattr(host, scope)
        domains = {getattr(member, scope) for member in rule.members} - {""}
        if policy in ("affinity", "anti-affinity") and not domain:
            return False
        if policy == "affinity" and domains and domain not in domains:
            return False
        if policy == "anti-affinity" and domain in domains:
            return False
    return True


def can_place(hosts: Sequence[Tenancy], consumer: Consumer, request: PlacementRequest, number: int) -> bool:
    """Whether so many alike consumers find room, where each changes what the next one may: all ways are tried."""
    if number == 0:
        return True
    for index, tenancy in enumerate(hosts):
        if tenancy.may_take(consumer, request):
            filled = next(after for after in tenancy.outcomes(consumer) if after.is_within_limits())
            after = [*hosts[:index], filled, *hosts[index + 1 :]]
            if can_place(after, consumer, request.with_member(tenancy.host), number - 1):
                return True
    return False


def count_placeable(hosts: Sequence[Tenancy], consumer: Consumer, request: PlacementRequest, limit: int) -> int:
    """How many alike consumers find room, at most `limit`: whom a host takes first makes no difference to that."""
    placed = 0
    for tenancy in hosts:
        filled = tenancy
        while placed < limit and filled.may_take(consumer, request):
            filled = next(after for after in filled.outcomes(consumer) if after.is_within_limits())
            placed += 1
    return placed
