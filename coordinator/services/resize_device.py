"""Devices of an instance that gets another size: which of them it keeps, which it gets and which it gives back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from coordinator.domain.device import DeviceKind, DeviceType, DeviceWish
from coordinator.domain.device_order import ExtraDevices
from coordinator.domain.instance_order import InstanceOrder
from coordinator.domain.resize import ResizeOrder
from coordinator.errors import ResizeImpossible
from coordinator.services.instance_device import extra_devices_of
from coordinator.store.queries.device_claim import DeviceClaim
from coordinator.store.tables import Flavor, FlavorType, Instance


@dataclass(frozen=True, slots=True)
class DeviceChange:
    """What becomes of an instance's devices when it stays on its node."""

    # To be claimed beside those that it has.
    wanted: tuple[DeviceWish, ...]
    # How many slices of each device it gives back; the devices' ids.
    returned: Mapping[str, int]

    def __bool__(self) -> bool:
        return bool(self.wanted or self.returned)


def with_present_gpus(
    wanted: InstanceOrder, instance: Instance, old: Flavor, new: Flavor, new_type: FlavorType
) -> InstanceOrder:
    """The order with the GPUs that the instance has, where a custom flavor asks how many and nobody has said it."""
    extra = extra_devices_of(instance).gpus
    is_asked = bool(wanted.devices.gpus or wanted.devices.vgpus)
    if is_asked or not extra or not new.is_custom or not new_type.gpu_type:
        return wanted
    return replace(wanted, devices=replace(wanted.devices, gpus=old.gpu + extra))


def settle_extra(order: ResizeOrder, instance: Instance, found: ExtraDevices) -> ExtraDevices:
    """What the instance shall have beside its new flavor: `found`, and what nobody has said anything about."""
    present = extra_devices_of(instance)
    return replace(
        found,
        local_disks=present.local_disks if order.local_disks is None else found.local_disks,
        functions=present.functions if order.functions is None else found.functions,
    )


def find_change(
    before: Sequence[DeviceWish], after: Sequence[DeviceWish], claims: Sequence[DeviceClaim], *, keeps_slices: bool
) -> DeviceChange:
    """What to claim and what to give back, given what the instance has now.

    It keeps what does for the new size. `keeps_slices`: they are of the type that they shall be. What it has beside its
    order, plugged in later, is no part of this.
    """
    kinds = {wish.kind for wish in before}
    free = [(claim, number) for claim in claims if claim.kind in kinds for number in range(claim.slices)]
    missing: list[DeviceWish] = []
    # The choosy ones first: what they need the others can do without.
    for wish in sorted(after, key=lambda wish: -len(wish.attributes)):
        lacking = wish.count
        for unit in list(free):
            if lacking and _suits(unit[0], wish, keeps_slices=keeps_slices):
                free.remove(unit)
                lacking -= 1
        if lacking:
            missing.append(replace(wish, count=lacking))
    returned: dict[str, int] = {}
    for claim, _ in free:
        returned[claim.device_id] = returned.get(claim.device_id, 0) + 1
    return DeviceChange(tuple(missing), returned)


def check_disks(
    order: ResizeOrder, after: Sequence[DeviceWish], claims: Sequence[DeviceClaim], change: DeviceChange
) -> None:
    """ResizeImpossible where data would be lost that nobody has given up, or disks of both sorts would be mixed."""
    disks = {claim.device_id for claim in claims if claim.kind == DeviceKind.DISK}
    given_back = sorted(disks.intersection(change.returned))
    if given_back and order.local_disks is None:
        names = ", ".join(given_back)
        raise ResizeImpossible(
            f"localDisk: what is on {names} would be lost; say how many local disks the instance shall have",
            f"localDisk：本地盘{names}上的数据将丢失，请明确填写变配后的本地盘数量",
        )
    wished = sum(wish.count for wish in after if wish.kind == DeviceKind.DISK)
    gained = sum(wish.count for wish in change.wanted if wish.kind == DeviceKind.DISK)
    if wished and len(disks) - len(given_back) + gained > wished:
        raise ResizeImpossible(
            "localDisk: detach the local disks that were attached to the instance first",
            "localDisk：请先卸载实例已挂载的本地盘",
        )


def _suits(claim: DeviceClaim, wish: DeviceWish, *, keeps_slices: bool) -> bool:
    if wish.is_share and not keeps_slices:
        return False
    offered = DeviceType(claim.kind, frozenset(claim.attributes.items()), claim.size_bytes, claim.shareable)
    return claim.slice_milli == wish.milli and wish.accepts(offered)
