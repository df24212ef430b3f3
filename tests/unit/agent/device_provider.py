"""A provider of devices that does what a test says, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence

from agent.devices.source import DeviceSource
from agent.errors import AgentError, DeviceNotFound
from protos.agent.v1.device_pb2 import HostDevice, ReleaseProgress


class AProvider:
    """Devices by HostDevice.uuid; what is not among them is not on the node."""

    def __init__(self, sources: dict[str, DeviceSource] | None = None) -> None:
        self.sources = sources or {}
        self.prepared: list[tuple[str, str]] = []
        self.checked: list[str] = []
        self.released: list[tuple[str, tuple[str, ...]]] = []
        # Raised by `check_ready`, `release` and `set_gpu_mode` when there is one.
        self.failure: AgentError | None = None

    async def prepare(self, domain_uuid: str, wish: HostDevice) -> DeviceSource:
        """See agent.assignment.DeviceProvider."""
        if wish.uuid not in self.sources:
            raise DeviceNotFound(f"{wish.device_id} is not on this node")
        self.prepared.append((domain_uuid, wish.uuid))
        return self.sources[wish.uuid]

    async def prepare_all(self, domain_uuid: str, wishes: Sequence[HostDevice]) -> dict[str, DeviceSource]:
        """See agent.assignment.DeviceProvider."""
        return {wish.uuid: await self.prepare(domain_uuid, wish) for wish in wishes}

    async def check_ready(self, domain_uuid: str, device_uuids: Collection[str] | None = None) -> None:
        """See agent.assignment.DeviceProvider."""
        self.checked.append(domain_uuid)
        self._fail()

    async def release(self, domain_uuid: str, device_uuids: Collection[str]) -> AsyncGenerator[ReleaseProgress]:
        """See agent.assignment.DeviceProvider."""
        self._fail()
        self.released.append((domain_uuid, tuple(device_uuids)))
        for done_bytes in (0, 512, 1024):
            yield ReleaseProgress(device_id="wwn-1", done_bytes=done_bytes, total_bytes=1024)

    async def force_release(self, device_id: str, *, unclaimed: bool) -> AsyncGenerator[ReleaseProgress]:
        """See agent.assignment.DeviceProvider."""
        self._fail()
        self.released.append((device_id, ("by force",) if unclaimed else ()))
        yield ReleaseProgress(device_id=device_id)

    async def set_gpu_mode(self, mode: str) -> list[str]:
        """See agent.assignment.DeviceProvider."""
        self._fail()
        return [f"gpu-as-{mode}"]

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure
