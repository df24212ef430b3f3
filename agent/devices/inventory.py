"""All devices of the node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

import structlog

from agent.devices.base import DeviceKind, Surroundings
from agent.devices.disk import discover_disks
from agent.devices.gpu import discover_gpus
from agent.devices.mdev import discover_mdev_parents
from agent.devices.network_card import discover_network_cards
from agent.devices.usb import discover_usb_devices
from protos.agent.v1.host_pb2 import Device

KINDS: Final[tuple[DeviceKind, ...]] = (
    discover_gpus,
    discover_mdev_parents,
    discover_network_cards,
    discover_disks,
    discover_usb_devices,
)

log = structlog.get_logger(__name__)


def discover_devices(surroundings: Surroundings, kinds: Sequence[DeviceKind] = KINDS) -> list[Device]:
    """What there is, in the order of kind and id; nothing changes, so that the same node gives the same answer."""
    found = sorted((device for kind in kinds for device in _discover(kind, surroundings)), key=_key)
    return [_merge(list(same)) for _, same in groupby(found, key=_key)]


def _discover(kind: DeviceKind, surroundings: Surroundings) -> Iterator[Device]:
    """What is found before a driver says something that nobody expects: the rest of the node goes on without it."""
    try:
        yield from kind(surroundings)
    except (ArithmeticError, LookupError, OSError, TypeError, ValueError):
        log.exception("devices.unreadable", kind=kind.__name__)


def _merge(devices: list[Device]) -> Device:
    """Devices that cannot be told apart (several paths to one, or copies with one identity) are given to nobody."""
    first = devices[0]
    if len(devices) > 1:
        first.withheld_reason = f"{len(devices)} devices have this identity"
    return first


def _key(device: Device) -> tuple[str, str]:
    return device.kind, device.id
