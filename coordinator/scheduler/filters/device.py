"""The host has the devices that are asked for, and they are free."""

import numpy as np

from coordinator.domain.device import WHOLE_MILLI, DeviceWish
from coordinator.domain.placement import Consumer, HostView, PlacementRequest, Rejection, RejectionReason
from coordinator.domain.unit import format_bytes
from coordinator.scheduler.column import BoolColumn
from coordinator.scheduler.filters.base import OneReason
from coordinator.scheduler.snapshot import Snapshot


class DeviceFilter(OneReason):
    """Rejects hosts with too few free devices for one of the wishes, each taken alone."""

    name = "device"

    def admit(self, hosts: Snapshot, consumer: Consumer, request: PlacementRequest) -> BoolColumn | None:
        """See Filter."""
        columns = [hosts.devices.admit(wish, len(hosts)) for wish in consumer.devices]
        return np.logical_and.reduce(columns) if columns else None

    def explain(self, hosts: Snapshot, row: int, consumer: Consumer, request: PlacementRequest) -> Rejection:
        """See Filter."""
        host = hosts.host(row)
        wish, free = next((wish, free) for wish in consumer.devices if (free := _count_free(host, wish)) < wish.count)
        known = sum(map(wish.accepts, (device.type for device in host.devices)))
        return Rejection(
            self.name,
            RejectionReason.TOO_FEW_DEVICES,
            wanted=describe(wish),
            available=f"{free} free of {known}",
        )

    def misfit(self, consumer: Consumer) -> Rejection:
        """Why a host is none that has enough for each wish, but not for all of them together."""
        wanted = " and ".join(map(describe, consumer.devices))
        return Rejection(self.name, RejectionReason.TOO_FEW_DEVICES, wanted=wanted, available="not all of them at once")


def describe(wish: DeviceWish) -> str:
    """For people: "2 x gpu (model A100 or L40S)"."""
    features = [f"{name} {' or '.join(sorted(values - {''}))}" for name, values in sorted(wish.attributes.items())]
    if wish.least_bytes:
        features.append(f"at least {format_bytes(wish.least_bytes)}")
    share = f"{wish.milli / WHOLE_MILLI:g} of a {wish.kind}" if wish.is_share else f"{wish.count} x {wish.kind}"
    return f"{share} ({', '.join(features)})" if features else share


def _count_free(host: HostView, wish: DeviceWish) -> int:
    return sum(device.free_milli >= wish.milli and wish.accepts(device.type) for device in host.devices)
