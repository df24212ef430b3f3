"""Whether guests run under KVM on this node; found out once a boot, by running one."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from agent.durable_file import write_file
from agent.hypervisor.probe_guest import run_probe_guest

_DEVICE: Final = Path("/dev/kvm")
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Accelerator:
    """What executes guests."""

    kvm: bool
    # Why it is not KVM; empty when it is.
    reason: str


async def detect_accelerator(emulator: str, cache: Path) -> Accelerator:
    """The node's accelerator; remembered in the cache file until the next boot or another QEMU."""
    key = f"{_BOOT_ID.read_text().strip()} {emulator} {_modified_at(emulator)}"
    known = _read_cache(cache, key)
    if known is not None:
        return known
    found = await _probe(emulator)
    log.info("accelerator.detected", kvm=found.kvm, reason=found.reason)
    write_file(cache, json.dumps({"key": key, "kvm": found.kvm, "reason": found.reason}).encode())
    return found


async def _probe(emulator: str) -> Accelerator:
    if not _DEVICE.exists():
        return Accelerator(
            kvm=False, reason=f"{_DEVICE} does not exist: the CPU or the firmware offers no virtualisation"
        )
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return Accelerator(kvm=False, reason=f"{_DEVICE} may not be opened")
    reason = await run_probe_guest(emulator, "kvm")
    return Accelerator(kvm=not reason, reason=reason and f"{_DEVICE} does not run guests: {reason}")


def _modified_at(emulator: str) -> float:
    try:
        return Path(emulator).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _read_cache(cache: Path, key: str) -> Accelerator | None:
    try:
        content = json.loads(cache.read_bytes())
        if content["key"] == key:
            return Accelerator(bool(content["kvm"]), str(content["reason"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # a cache: whatever is wrong with it, it is found out anew
    return None
