"""What room for gangs costs."""

import numpy as np
import pytest

from coordinator.scheduler.column import FloatColumn
from coordinator.scheduler.gpu.mix import RequestMix
from coordinator.scheduler.gpu.price import chance_of_shortage, price_gang_room
from coordinator.scheduler.gpu.request import GpuRequest
from tests.builders import a_gpu_request


def price(hosts: int, mix: RequestMix) -> FloatColumn | None:
    """In a cluster of so many empty hosts of four GPUs."""
    return price_gang_room(4000 * hosts, np.array([0, 0, 0, 0, hosts]), mix)


def a_mix(*requests: GpuRequest) -> RequestMix:
    mix = RequestMix()
    for request in requests:
        mix.observe(request)
    return mix


def test_nothing_is_priced_before_the_first_gang() -> None:
    assert price(1, a_mix(a_gpu_request(1))) is None


def test_room_that_gangs_need_costs_its_gpus() -> None:
    # Four rooms for pairs; of 8 free GPUs, pairs want all.
    prices = price(2, a_mix(a_gpu_request(2)))
    assert prices is not None
    assert prices[4, 1] == prices[4, 2] == pytest.approx(2000 * chance_of_shortage(4.0, 4))
    assert prices[4, 4] == 2 * prices[4, 2]
    assert prices[3, 1] == 0  # the odd one is no room
    assert prices[4, 0] == 0


def test_room_in_abundance_costs_nothing() -> None:
    requests = [a_gpu_request(2), *[a_gpu_request(1)] * 1000]
    prices = price(100, a_mix(*requests))
    assert prices is not None
    assert prices.max() < 1e-6


def test_a_gang_larger_than_any_host_is_no_gang_to_keep_room_for() -> None:
    assert price(2, a_mix(a_gpu_request(8))) is None


@pytest.mark.parametrize(("mean", "rooms", "least", "most"), [(50, 10, 0.99, 1), (10, 50, 0, 0.01), (0, 3, 0, 1e-9)])
def test_shortage_is_a_chance(mean: float, rooms: int, least: float, most: float) -> None:
    assert least <= chance_of_shortage(mean, rooms) <= most
