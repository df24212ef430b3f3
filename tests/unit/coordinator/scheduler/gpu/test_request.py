"""What may be asked of GPUs."""

import pytest

from coordinator.scheduler.gpu.request import GpuRequest


@pytest.mark.parametrize(
    ("gpu_count", "gpu_milli"),
    [(-1, 1000), (0, 500), (1, 0), (1, 1001), (1, -5), (2, 500)],
)
def test_what_no_gpu_can_be_is_refused(gpu_count: int, gpu_milli: int) -> None:
    with pytest.raises(ValueError, match=r"GPU|share|nothing"):
        GpuRequest(1000, 1024, gpu_count, gpu_milli)


@pytest.mark.parametrize(
    ("gpu_count", "gpu_milli", "is_share", "demand_milli"),
    [(0, 0, False, 0), (1, 250, True, 250), (1, 1000, False, 1000), (8, 1000, False, 8000)],
)
def test_shares_and_whole_gpus_are_told_apart(
    gpu_count: int, gpu_milli: int, is_share: bool, demand_milli: int
) -> None:
    request = GpuRequest(1000, 1024, gpu_count, gpu_milli)
    assert (request.is_share, request.demand_milli) == (is_share, demand_milli)
