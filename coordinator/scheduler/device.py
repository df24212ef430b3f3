"""How many devices of each type are free on all hosts."""

import numpy as np
from numpy.typing import NDArray

from coordinator.domain.device import WHOLE_MILLI, DeviceType, DeviceWish
from coordinator.domain.placement import HostView
from coordinator.scheduler.column import FIRST_ROOM, BoolColumn, IntColumn, deepened, widened

# Wishes whose types are remembered: as many as flavors that are in use.
_WISH_LIMIT = 1024


class DeviceColumns:
    """One column a type of device."""

    def __init__(self) -> None:
        self._codes: dict[DeviceType, int] = {}
        # Devices of which nothing is taken.
        self._idle: NDArray[np.int32] = np.zeros((0, FIRST_ROOM), np.int32)
        # The most that one device has free.
        self._largest_milli: NDArray[np.int32] = np.zeros((0, FIRST_ROOM), np.int32)
        self._types_of: dict[DeviceWish, IntColumn] = {}

    def put(self, row: int, host: HostView) -> None:
        """The host is what it is now."""
        self._learn(host)
        self._idle[:, row] = 0
        self._largest_milli[:, row] = 0
        for device in host.devices:
            code, free_milli = self._codes[device.type], device.free_milli
            self._idle[code, row] += free_milli == WHOLE_MILLI
            self._largest_milli[code, row] = max(self._largest_milli[code, row], free_milli)

    def move(self, row: int, to: int) -> None:
        """The host has another row."""
        self._idle[:, to] = self._idle[:, row]
        self._largest_milli[:, to] = self._largest_milli[:, row]

    def widen(self) -> None:
        """Makes room for twice as many hosts."""
        self._idle, self._largest_milli = widened(self._idle), widened(self._largest_milli)

    def admit(self, wish: DeviceWish, rows: int) -> BoolColumn:
        """Which of the first `rows` hosts have free devices for the wish, taken alone."""
        types = self._find_types(wish)
        if wish.is_share:
            found = self._largest_milli[types, :rows].max(axis=0, initial=0) >= wish.milli
        else:
            found = self._idle[types, :rows].sum(axis=0) >= wish.count
        return np.asarray(found, np.bool_)

    def _find_types(self, wish: DeviceWish) -> IntColumn:
        types = self._types_of.get(wish)
        if types is None:
            if len(self._types_of) >= _WISH_LIMIT:
                self._types_of.clear()
            types = np.array([code for offered, code in self._codes.items() if wish.accepts(offered)], np.int64)
            self._types_of[wish] = types
        return types

    def _learn(self, host: HostView) -> None:
        for device in host.devices:
            if device.type not in self._codes:
                self._codes[device.type] = len(self._codes)
                self._types_of.clear()
        self._idle = deepened(self._idle, len(self._codes))
        self._largest_milli = deepened(self._largest_milli, len(self._codes))
