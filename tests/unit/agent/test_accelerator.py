"""Whether guests run under KVM is found out by running one; real QEMU runs the probe guest under TCG."""

import json
import shutil
from pathlib import Path

import pytest

from agent.hypervisor.accelerator import detect_accelerator
from agent.hypervisor.probe_guest import run_probe_guest

QEMU = shutil.which("qemu-system-x86_64") or ""
needs_qemu = pytest.mark.skipif(not QEMU, reason="needs qemu-system-x86_64")


@needs_qemu
async def test_the_probe_guest_runs_to_its_end_where_guests_run() -> None:
    assert await run_probe_guest(QEMU, "tcg", timeout_seconds=60) == ""


@needs_qemu
async def test_an_accelerator_that_does_not_exist_is_not_taken_for_one_that_runs() -> None:
    assert "probe guest failed" in await run_probe_guest(QEMU, "no-such-accelerator", timeout_seconds=60)


async def test_a_guest_that_hangs_is_ended_and_named(tmp_path: Path) -> None:
    hanging = _program(tmp_path, "exec sleep 60")
    assert await run_probe_guest(str(hanging), "kvm", timeout_seconds=0.3) == "a probe guest did not end within 0.3 s"


async def test_an_emulator_that_is_absent_is_a_reason_and_no_failure(tmp_path: Path) -> None:
    assert "cannot be run" in await run_probe_guest(str(tmp_path / "absent"), "kvm")


async def test_the_outcome_is_remembered_for_this_boot_and_this_emulator(tmp_path: Path) -> None:
    cache = tmp_path / "accelerator.json"
    emulator = str(_program(tmp_path, "exit 1"))
    first = await detect_accelerator(emulator, cache)
    content = json.loads(cache.read_text())

    cache.write_text(json.dumps(content | {"reason": "remembered"}))
    assert (await detect_accelerator(emulator, cache)).reason == "remembered"

    cache.write_text(json.dumps(content | {"key": "another boot", "reason": "remembered"}))
    assert await detect_accelerator(emulator, cache) == first

    cache.write_text("half a f")
    assert await detect_accelerator(emulator, cache) == first
    assert not first.kvm
    assert first.reason


def _program(directory: Path, script: str) -> Path:
    program = directory / "emulator"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program
