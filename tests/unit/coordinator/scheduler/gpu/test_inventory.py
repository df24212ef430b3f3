"""What GPU nodes have left."""

import pytest

from coordinator.scheduler.gpu.inventory import GpuInventory
from coordinator.scheduler.gpu.request import GpuPlacement, GpuRequest
from tests.builders import a_gpu_node, a_gpu_request


@pytest.mark.parametrize(
    ("request_", "admitted"),
    [
        (a_gpu_request(2), [True, False, True]),
        (a_gpu_request(3), [True, False, False]),
        (a_gpu_request(1, 300), [True, True, True]),
        (a_gpu_request(0), [True, True, True]),
        (a_gpu_request(1, 300, 40), [True, False, True]),
        (a_gpu_request(1, 300, 4, 200_000), [True, True, False]),
        (a_gpu_request(1, 1000, 4, 1024, "H100", "T4"), [False, True, True]),
        (a_gpu_request(1, 1000, 4, 1024, "unknown"), [False, False, False]),
        # A request without GPUs has no model to choose.
        (GpuRequest(1000, 1024, models=frozenset({"T4"})), [True, True, True]),
    ],
)
def test_nodes_with_room_are_admitted(request_: GpuRequest, admitted: list[bool]) -> None:
    nodes = [
        a_gpu_node(4, model="L40S"),
        a_gpu_node(1, cpus=32, model="T4"),
        a_gpu_node(2, memory_mib=100_000, model="H100"),
    ]
    assert GpuInventory(nodes).admit(request_).tolist() == admitted


def test_a_gang_has_whole_gpus_only() -> None:
    inventory = GpuInventory([a_gpu_node(4)])
    inventory.take(GpuPlacement(a_gpu_request(1, 100), 0, (1,)))
    assert inventory.pick(a_gpu_request(3), 0, 1000).gpus == (0, 2, 3)
    assert not inventory.admit(a_gpu_request(4))[0]


def test_a_share_has_the_gpu_that_was_meant() -> None:
    inventory = GpuInventory([a_gpu_node(3)])
    inventory.take(GpuPlacement(a_gpu_request(1, 400), 0, (2,)))
    assert inventory.pick(a_gpu_request(1, 500), 0, 600).gpus == (2,)
    assert inventory.pick(a_gpu_request(1, 500), 0, 1000).gpus == (0,)


@pytest.mark.parametrize(
    "placement",
    [
        GpuPlacement(a_gpu_request(1, 700), 0, (0,)),
        GpuPlacement(a_gpu_request(2), 0, (0, 1)),
        GpuPlacement(a_gpu_request(2), 0, (1, 1)),
        GpuPlacement(a_gpu_request(1), 0, ()),
        GpuPlacement(a_gpu_request(1), 0, (2,)),
        GpuPlacement(a_gpu_request(1), 0, (-1,)),
        GpuPlacement(a_gpu_request(1), 1, (1,)),
        GpuPlacement(a_gpu_request(1), 2, (0,)),
        GpuPlacement(a_gpu_request(1), -1, (0,)),
        GpuPlacement(a_gpu_request(1, 1000, 61), 0, (1,)),
        GpuPlacement(a_gpu_request(1, 1000, 4, 262_144), 0, (1,)),
        GpuPlacement(a_gpu_request(1, 1000, 4, 1024, "T4"), 0, (1,)),
    ],
)
def test_what_is_not_there_is_not_taken(placement: GpuPlacement) -> None:
    inventory = GpuInventory([a_gpu_node(2), a_gpu_node(1)])
    inventory.take(GpuPlacement(a_gpu_request(1, 400), 0, (0,)))
    before = inventory.states()
    with pytest.raises(ValueError, match=r"has no room|cannot have"):
        inventory.take(placement)
    assert inventory.states() == before


@pytest.mark.parametrize(
    "placement",
    [
        GpuPlacement(a_gpu_request(1, 500), 0, (0,)),
        GpuPlacement(a_gpu_request(1, 400), 0, (1,)),
        GpuPlacement(a_gpu_request(1, 400), 1, (1,)),
        GpuPlacement(a_gpu_request(1, 400, 5), 0, (0,)),
        GpuPlacement(a_gpu_request(1, 400, 4, 2048), 0, (0,)),
        GpuPlacement(a_gpu_request(0, cpus=5), 0, ()),
    ],
)
def test_more_than_was_taken_is_not_released(placement: GpuPlacement) -> None:
    inventory = GpuInventory([a_gpu_node(2), a_gpu_node(1)])
    inventory.take(GpuPlacement(a_gpu_request(1, 400), 0, (0,)))
    before = inventory.states()
    with pytest.raises(ValueError, match="was not taken"):
        inventory.release(placement)
    assert inventory.states() == before


def test_a_cluster_without_nodes_is_none() -> None:
    with pytest.raises(ValueError, match="a node at least"):
        GpuInventory([])
