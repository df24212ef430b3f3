"""Snapshots of thin logical volumes with a kernel that has the device mapper."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.hardware.node import HardwareNode

_CHECKOUT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("thin_check") is None, reason="needs thin-provisioning-tools")
def test_what_a_thin_volume_held_comes_back_and_nothing_is_lost_in_between(node: HardwareNode) -> None:
    told = node.run(
        f"mkdir -p /mnt/disk/thin && cd /mnt/disk/thin && rm -rf volumes &&"
        f" PYTHONPATH={_CHECKOUT} {sys.executable} -m tests.hardware.thin_volume /mnt/disk/thin 2>&1",
        timeout_seconds=600,
    )
    print(told)
    assert "all is right" in told
