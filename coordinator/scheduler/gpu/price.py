"""What room for gangs is worth: whole GPUs of one node run out before single ones do."""

from math import erfc, sqrt
from typing import Final

import numpy as np

from coordinator.scheduler.gpu.inventory import GpuInventory
from coordinator.scheduler.gpu.mix import RequestMix
from coordinator.scheduler.gpu.request import GPU_MILLI
from coordinator.scheduler.snapshot import FloatColumn

# Keeps the division defined when nothing is free; the chance is then 0 or 1 anyway.
_LEAST_MEAN: Final = 1e-9


def price_gang_room(inventory: GpuInventory, mix: RequestMix) -> FloatColumn | None:
    """Expected GPU milli lost to later gangs when a node with `i` whole GPUs free gives `j` of them away: [i, j].

    A node has as many rooms for a gang of n as n goes into its whole GPUs. Losing one costs n GPUs, times the chance
    that the gangs of n still to come need all the rooms that the cluster has. None when no gang was ever asked for.
    """
    if not mix.by_gpu_count[2:].any():
        return None
    to_come = inventory.free_gpu_milli / mix.gpu_milli  # as a multiple of all that has arrived
    whole = np.arange(inventory.slots + 1)
    left = np.maximum(whole[:, np.newaxis] - whole, 0)
    price = np.zeros((len(whole), len(whole)))
    for size in range(2, len(whole)):
        if mix.by_gpu_count[size]:
            rooms = int((inventory.nodes_by_whole * (whole // size)).sum())
            short = chance_of_shortage(to_come * float(mix.by_gpu_count[size]), rooms)
            price += short * size * GPU_MILLI * ((whole // size)[:, np.newaxis] - left // size)
    return price


def chance_of_shortage(mean: float, rooms: int) -> float:
    """P(a Poisson variable with this mean is at least `rooms`), by the normal approximation."""
    mean = max(mean, _LEAST_MEAN)
    return 0.5 * erfc((rooms - 0.5 - mean) / sqrt(2 * mean))
