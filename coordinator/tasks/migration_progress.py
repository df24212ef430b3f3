"""What a node tells of a live migration, for people."""

from typing import Final

from coordinator.domain.unit import MIB
from protos.agent.v1 import migration_pb2

_PHASES: Final = {
    migration_pb2.MIGRATION_PHASE_PREPARING: "preparing",
    migration_pb2.MIGRATION_PHASE_DISKS: "disks",
    migration_pb2.MIGRATION_PHASE_MEMORY: "memory",
    migration_pb2.MIGRATION_PHASE_POST_COPY: "post-copy",
}


def percent_of(progress: migration_pb2.MigrationProgress) -> int:
    """How much is moved: what the guest writes meanwhile is moved again, so it may go back."""
    total = progress.memory_total_bytes + progress.disk_total_bytes
    remaining = progress.memory_remaining_bytes + progress.disk_remaining_bytes
    return max(0, min(99, 100 * (total - remaining) // total)) if total else 0


def describe(progress: migration_pb2.MigrationProgress) -> str:
    """Phase, bytes left, rate, round over the memory, and the pause that the guest would see now."""
    parts = [_PHASES.get(progress.phase, "under way")]
    for name, remaining, total in (
        ("disks", progress.disk_remaining_bytes, progress.disk_total_bytes),
        ("memory", progress.memory_remaining_bytes, progress.memory_total_bytes),
    ):
        if total:
            parts.append(f"{name} {remaining // MIB} of {total // MIB} MiB left")
    if progress.bytes_per_second:
        parts.append(f"{progress.bytes_per_second / MIB:.1f} MiB/s")
    if progress.iteration:
        parts.append(f"round {progress.iteration}")
    if progress.dirty_bytes_per_second:
        parts.append(f"guest writes {progress.dirty_bytes_per_second / MIB:.1f} MiB/s")
    if progress.expected_downtime_ms:
        parts.append(f"expected downtime {progress.expected_downtime_ms} ms")
    if progress.throttle_percent:
        parts.append(f"guest slowed down by {progress.throttle_percent} %")
    return ", ".join(parts)
