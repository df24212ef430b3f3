"""The bench of GPU placement, on a trace that can be reckoned by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.bench import gpu_trace
from tests.bench.gpu_baselines import TypicalMix
from tests.bench.gpu_request import GpuRequest


def a_gpu_request(
    gpu_count: int = 1, gpu_milli: int = 1000, cpus: int = 4, memory_mib: int = 1024, *models: str
) -> GpuRequest:
    """A request of the trace."""
    return GpuRequest(cpus * 1000, memory_mib, gpu_count, gpu_milli if gpu_count else 0, frozenset(models))


NODES = "sn,cpu_milli,memory_mib,gpu,model\n" + "".join(f"n{number},8000,65536,2,T4\n" for number in range(50))
PODS = """name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec
a,1000,1024,1,500,
b,2000,1024,2,1000,T4|P100
c,1000,1024,0,0,
d,1000,1024,1,1000,P100
"""


def test_every_policy_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nodes.csv").write_text(NODES)
    (tmp_path / "pods.csv").write_text(PODS)
    paths = ["--nodes", str(tmp_path / "nodes.csv"), "--pods", str(tmp_path / "pods.csv")]
    monkeypatch.setattr("sys.argv", ["gpu_trace", *paths, "--seeds", "1-2", "--arrive", "50,200"])
    gpu_trace.main()
    results = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(results) == ["nodewright", "fgd", "bestfit", "packing", "random"]
    for summary in results.values():
        half, full = summary["arrived_percent"]["50"], summary["arrived_percent"]["200"]
        # A part of what arrives wants a model that no node has.
        assert 20 < half["allocation_percent"] < 50
        assert half["allocation_percent"] < full["allocation_percent"] <= 100
        assert 0 <= full["fragmentation_milli"] < half["fragmentation_milli"] < 100_000
        assert summary["decision_p50_ms"] > 0


def test_requests_are_cloned_and_pruned_to_the_demand() -> None:
    requests = [a_gpu_request(1, 500), a_gpu_request(0), a_gpu_request(1)]
    many = gpu_trace.arrivals(requests, 7, 20_000)
    few = gpu_trace.arrivals(requests * 50, 7, 20_000)
    for arriving in (many, few):
        assert 19_000 <= sum(request.demand_milli for request in arriving) <= 20_000
    assert many == gpu_trace.arrivals(requests, 7, 20_000)
    assert many != gpu_trace.arrivals(requests, 8, 20_000)


@pytest.mark.parametrize(
    ("request_", "expected_milli"),
    [
        (a_gpu_request(1, 500), 300),  # the GPU with 300 left
        (a_gpu_request(1), 900),
        (a_gpu_request(2), 1900),  # only one is whole
        (a_gpu_request(0), 1900),
        (a_gpu_request(1, 500, 9), 1900),
        (a_gpu_request(1, 500, 4, 1024, "P100"), 1900),
    ],
)
def test_fragmentation_is_what_a_request_cannot_use(request_: GpuRequest, expected_milli: int) -> None:
    mix = TypicalMix([request_], ["T4"])
    left = mix.fragmentation(np.array([8000]), np.array([[1000, 600, 300]]), np.array([0]))
    assert left.tolist() == [expected_milli]
