"""Which NUMA cells and which devices of a host a consumer gets: the exact answer for one host.

Filters tell for all hosts at once whether this can succeed; what one consumer wants of several overlapping kinds of
devices only this settles.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from coordinator.domain.cell import Cell, CellShare, CellWish
from coordinator.domain.device import WHOLE_MILLI, Device, DeviceShare, DeviceWish, sum_milli
from coordinator.domain.placement import Assignment, Consumer, HostView

# A device, and which of the slices that it has room for.
_Place = tuple[str, int]


def fit(host: HostView, consumer: Consumer, share_milli: int = 0) -> Assignment | None:
    """Cells and devices for the consumer; None when the host has not got them.

    As few cells as hold it, those first where its devices are, then the fullest. Devices in these cells first; slices
    from a device that has just `share_milli` left, else from the fullest.
    """
    cells: tuple[CellShare, ...] = ()
    if consumer.cells:
        found = _fit_cells(host, consumer.cells, consumer.devices)
        if found is None:
            return None
        cells = found
    devices = _fit_devices(host, consumer.devices, frozenset(share.cell for share in cells), share_milli)
    return None if devices is None else Assignment(host, cells, devices)


def locality(assignment: Assignment) -> float:
    """The part of the assigned devices that are attached to the assigned cells; to each other's without any."""
    device_cells = {device.id: device.cell for device in assignment.host.devices}
    attached = [device_cells[share.device_id] for share in assignment.devices]
    if not attached:
        return 1.0
    cells = {share.cell for share in assignment.cells} or {max(attached, key=attached.count)}
    return sum(cell in cells for cell in attached) / len(attached)


def holds(host: HostView, assignment: Assignment) -> bool:
    """Whether the host can give what was assigned when it looked different."""
    cells = {cell.id: cell for cell in host.cells}
    if any(share.cell not in cells or not _holds_share(cells[share.cell], share, host) for share in assignment.cells):
        return False
    if not _can_pin(host, sum(len(share.cpus) for share in assignment.cells)):
        return False
    devices = {device.id: device for device in host.devices}
    return all(
        device_id in devices and devices[device_id].free_milli >= milli
        for device_id, milli in sum_milli(assignment.devices).items()
    )


def sort_devices(
    host: HostView, wishes: Sequence[DeviceWish], shares: Sequence[DeviceShare]
) -> tuple[DeviceShare, ...]:
    """What a consumer has, in the order of its wishes; as given when the host does not know all of it now."""
    milli = sum_milli(shares)
    known = [replace(it, used_milli=WHOLE_MILLI - milli[it.id]) for it in host.devices if it.id in milli]
    return _fit_devices(replace(host, devices=tuple(known)), wishes, frozenset(), 0) or tuple(shares)


def _fit_cells(host: HostView, wish: CellWish, devices: Sequence[DeviceWish]) -> tuple[CellShare, ...] | None:
    for count in range(1, len(host.cells) + 1):
        part = wish.part(count)
        if part is None:
            continue
        found = [share for cell in host.cells if (share := _share_of(cell, part, host.cpu_ratio))]
        if len(found) < count:
            continue
        order = _Preference(host, devices)
        chosen = tuple(sorted(found, key=order.of)[:count])
        if _can_pin(host, sum(len(share.cpus) for share in chosen)):
            return tuple(sorted(chosen, key=lambda share: share.cell))
    return None


def _share_of(cell: Cell, part: CellWish, ratio: float) -> CellShare | None:
    """The part of the consumer in this cell."""
    if cell.free_memory_mib(part.page_kib) < part.memory_mib:
        return None
    if not part.dedicated:
        fits = cell.free_vcpus(ratio) >= part.vcpus
        return CellShare(cell.id, part.vcpus, part.memory_mib, part.page_kib) if fits else None
    cpus: list[int] = []
    for core in cell.free_cores:
        if len(cpus) >= part.vcpus:
            break
        cpus.extend(core)
    if not part.vcpus <= len(cpus) <= cell.pinnable(ratio):
        return None
    return CellShare(cell.id, part.vcpus, part.memory_mib, part.page_kib, tuple(cpus))


def _holds_share(cell: Cell, share: CellShare, host: HostView) -> bool:
    if cell.free_memory_mib(share.page_kib) < share.memory_mib:
        return False
    if not share.cpus:
        return cell.free_vcpus(host.cpu_ratio) >= share.vcpus
    known = {cpu for core in cell.free_cores for cpu in core}
    return known.issuperset(share.cpus) and len(share.cpus) <= cell.pinnable(host.cpu_ratio)


def _can_pin(host: HostView, count: int) -> bool:
    return count == 0 or count <= host.pinnable


@dataclass(frozen=True, slots=True)
class _Preference:
    """Which cells to take first."""

    host: HostView
    wishes: Sequence[DeviceWish]

    def of(self, share: CellShare) -> tuple[int, int, int, int]:
        """The least comes first: most devices that are wanted, then the least room."""
        cell = next(cell for cell in self.host.cells if cell.id == share.cell)
        near = sum(
            device.cell == cell.id and any(wish.accepts(device.type) for wish in self.wishes)
            for device in self.host.devices
            if device.free_milli
        )
        return -near, cell.free_vcpus(self.host.cpu_ratio), cell.free_memory_mib(share.page_kib), cell.id


def _fit_devices(
    host: HostView, wishes: Sequence[DeviceWish], cells: frozenset[int], share_milli: int
) -> tuple[DeviceShare, ...] | None:
    """A device for each that is wished for: a matching, so that a modest wish leaves rare devices to a choosy one.

    Slices are of as many devices as there are, before there are two of one; those of one device have one size.
    """
    units = [wish for wish in wishes for _ in range(wish.count)]
    found = [_candidates(host, wish, cells, share_milli) for wish in wishes]
    candidates = [found[index] for index, wish in enumerate(wishes) for _ in range(wish.count)]
    seated = _match([[(device_id, 0) for device_id in ids] for ids in candidates])
    if seated is None and len({wish.milli for wish in units if wish.is_share}) == 1:
        seated = _match_several(host, units, candidates)
    return tuple(map(DeviceShare, seated, (wish.milli for wish in units))) if seated is not None else None


def _match_several(
    host: HostView, units: Sequence[DeviceWish], candidates: Sequence[Sequence[str]]
) -> list[str] | None:
    """Whole devices first, then slices of the others, which are all of one size."""
    wholes = [unit for unit, wish in enumerate(units) if not wish.is_share]
    taken = _match([[(device_id, 0) for device_id in candidates[unit]] for unit in wholes])
    if taken is None:
        return None
    free = {device.id: device.free_milli for device in host.devices if device.id not in taken}
    shares = [unit for unit, wish in enumerate(units) if wish.is_share]
    found = _match([_multiply(candidates[unit], free, units[unit].milli) for unit in shares])
    if found is None:
        return None
    seated = dict(zip((*wholes, *shares), (*taken, *found), strict=True))
    return [seated[unit] for unit in range(len(units))]


def _multiply(device_ids: Sequence[str], free_milli: Mapping[str, int], milli: int) -> list[_Place]:
    """All places for slices: the first one of each device before the second ones."""
    most = {device_id: free_milli[device_id] // milli for device_id in device_ids if device_id in free_milli}
    rounds = range(max(most.values(), default=0))
    return [(device_id, number) for number in rounds for device_id in most if number < most[device_id]]


def _match(places: Sequence[Sequence[_Place]]) -> list[str] | None:
    """The device of each unit, which may have one of these places; None when they are too few."""
    holder: dict[_Place, int] = {}
    if not all(_seat(unit, places, holder, set()) for unit in range(len(places))):
        return None
    device_of = {unit: device_id for (device_id, _), unit in holder.items()}
    return [device_of[unit] for unit in range(len(places))]


def _seat(unit: int, places: Sequence[Sequence[_Place]], holder: dict[_Place, int], tried: set[_Place]) -> bool:
    """Gives the unit the first free place, else one whose holder can have another one."""
    free = next((place for place in places[unit] if place not in holder), None)
    if free is not None:
        holder[free] = unit
        return True
    for place in places[unit]:
        if place not in tried:
            tried.add(place)
            if _seat(holder[place], places, holder, tried):
                holder[place] = unit
                return True
    return False


def _candidates(host: HostView, wish: DeviceWish, cells: frozenset[int], share_milli: int) -> list[str]:
    """Devices that would do, the best first."""

    def order(device: Device) -> tuple[bool, bool, int, int, str]:
        is_far = bool(cells) and device.cell not in cells
        is_other = wish.is_share and device.free_milli != share_milli
        return is_far, is_other, device.free_milli, device.type.size_bytes, device.id

    fitting = [device for device in host.devices if device.free_milli >= wish.milli and wish.accepts(device.type)]
    return [device.id for device in sorted(fitting, key=order)]
