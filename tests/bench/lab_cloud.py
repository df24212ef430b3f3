"""The lab's cloud of one host, for benchmarks."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.cloud import Cloud
from tests.lab.lab import Lab

_ROOT = Path(__file__).parents[2]


@contextmanager
def running_cloud(hosts: int = 1) -> Iterator[Cloud]:
    """A coordinator and hosts that have joined; nothing of them outlives the block. Needs root."""
    built = subprocess.run([_ROOT / "packaging/demo-image", "--quiet"], check=True, capture_output=True, text=True)
    lab = Lab()
    try:
        made = [lab.add_host() for _ in range(hosts)]
        cloud = Cloud(lab, Path(built.stdout.strip()))
        for host in made:
            cloud.join(host)
        yield cloud
    finally:
        lab.stop()
