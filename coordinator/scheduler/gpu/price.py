"""What room for gangs is worth: whole GPUs of one node run out before single ones do."""

from math import erfc, sqrt
from typing import Final

import numpy as np

from coordinator.domain.device import WHOLE_MILLI
from coordinator.scheduler.column import FloatColumn, IntColumn
from coordinator.scheduler.gpu.mix import RequestMix

# Keeps the division defined when nothing is free; the chance is then 0 or 1 anyway.
_LEAST_MEAN: Final = 1e-9


def price_gang_room(free_milli: int, hosts_by_whole: IntColumn, mix: RequestMix) -> FloatColumn | None:
    """Expected GPU milli lost to later gangs when a host with `i` whole GPUs free gives `j` of them away: [i, j].

    `hosts_by_whole` counts the hosts by how many GPUs nothing is taken of. A host has as many rooms for a gang of n as
    n goes into these. Losing one costs n GPUs, times the chance that the gangs of n still to come need all the rooms
    that the cluster has. None when no gang was ever asked for.
    """
    whole = np.arange(len(hosts_by_whole))
    gangs = {size: count for size, count in mix.by_gpu_count.items() if 1 < size < len(whole)}
    if not gangs:
        return None
    to_come = free_milli / mix.gpu_milli  # as a multiple of all that has arrived
    left = np.maximum(whole[:, np.newaxis] - whole, 0)
    price = np.zeros((len(whole), len(whole)))
    for size, count in sorted(gangs.items()):
        rooms = int((hosts_by_whole * (whole // size)).sum())
        short = chance_of_shortage(to_come * count, rooms)
        price += short * size * WHOLE_MILLI * ((whole // size)[:, np.newaxis] - left // size)
    return price


def chance_of_shortage(mean: float, rooms: int) -> float:
    """P(a Poisson variable with this mean is at least `rooms`), by the normal approximation."""
    mean = max(mean, _LEAST_MEAN)
    return 0.5 * erfc((rooms - 0.5 - mean) / sqrt(2 * mean))
