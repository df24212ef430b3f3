"""A nested guest that tells what it has: it runs a watcher, in 128 MiB, a few seconds after its start."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from typing import Final

from google.protobuf.duration_pb2 import Duration

from protos.agent.v1.device_pb2 import EnsureAttachedRequest, EnsureDetachedRequest, EnsureReleasedRequest, HostDevice
from protos.agent.v1.domain_pb2 import (
    CpuMode,
    Disk,
    DiskBus,
    DomainSpec,
    EnsureDefinedRequest,
    EnsureRemovedRequest,
    EnsureRunningRequest,
    EnsureStoppedRequest,
    Firmware,
    RebootRequest,
    TpmModel,
)
from protos.agent.v1.host_pb2 import Architecture
from protos.agent.v1.storage_pb2 import (
    EnsureImageCachedRequest,
    EnsureVolumeRemovedRequest,
    EnsureVolumeRequest,
    ImageFormat,
    ImageRef,
)
from tests.hardware.boot_sector import count_starts, make_watcher, read_functions, read_lines
from tests.hardware.host import NodeHost
from tests.lab.waiting import wait_until

_IMAGE_ID: Final = "img-watcher"
_IMAGE: Final = make_watcher().ljust(64 * 1024, b"\0")
_VOLUME_BYTES: Final = 1024**2
_CALL_SECONDS: Final = 240.0
_PROOF_SECONDS: Final = 120.0
_LOOK_SECONDS: Final = 0.7
_WATCHER_BOOT_INDEX: Final = 2
_SHOWN_CHARACTERS: Final = 1500


class Guest:
    """One guest of the node's agent. What it has is in `devices`."""

    def __init__(self, host: NodeHost, devices: Sequence[HostDevice] = ()) -> None:
        self._host = host
        self.uuid = str(uuid.uuid4())
        # libvirt's name of it.
        self.name = f"ecs-{self.uuid[:8]}"
        self.devices = list(devices)
        self._volume_uuid = str(uuid.uuid4())
        self._make_volume()

    def define(self) -> None:
        """libvirt knows it, with its devices."""
        spec = DomainSpec(
            uuid=self.uuid,
            name=self.name,
            architecture=Architecture.ARCHITECTURE_X86_64,
            vcpus=1,
            memory_bytes=128 * 1024**2,
            cpu_mode=CpuMode.CPU_MODE_CUSTOM,
            firmware=Firmware.FIRMWARE_BIOS,
            tpm=TpmModel.TPM_MODEL_NONE,
            disks=[Disk(volume_uuid=self._volume_uuid, bus=DiskBus.DISK_BUS_VIRTIO, boot_index=_WATCHER_BOOT_INDEX)],
            host_devices=self.devices,
            generation=1,
        )
        self._host.domains.EnsureDefined(EnsureDefinedRequest(spec=spec), timeout=_CALL_SECONDS)

    def start(self) -> None:
        """It runs."""
        self._host.domains.EnsureRunning(EnsureRunningRequest(uuid=self.uuid), timeout=_CALL_SECONDS)

    def stop(self) -> None:
        """It is off, as after a power failure of its own."""
        list(self._host.domains.EnsureStopped(EnsureStoppedRequest(uuid=self.uuid, force=True), timeout=_CALL_SECONDS))

    def reset(self) -> None:
        """It has begun anew, with what is plugged in; for guests whose watcher runs."""
        starts = self.count_starts()
        request = RebootRequest(uuid=self.uuid, operation_id=str(uuid.uuid4()), force=True)
        list(self._host.domains.Reboot(request, timeout=_CALL_SECONDS))
        self.wait_for_start(starts)

    def count_starts(self) -> int:
        """How often its watcher has begun."""
        return count_starts(self.serial())

    def wait_for_start(self, former: int) -> None:
        """Its watcher has begun more often than formerly; what it has told before proves nothing."""
        self._wait(lambda: self.count_starts() > former, "begins anew")

    def attach(self, device: HostDevice) -> None:
        """It has the device, too."""
        request = EnsureAttachedRequest(domain_uuid=self.uuid, device=device)
        self._host.devices.EnsureAttached(request, timeout=_CALL_SECONDS)

    def detach(self, device: HostDevice, grace_seconds: int = 60) -> None:
        """It has let go of the device."""
        request = EnsureDetachedRequest(
            domain_uuid=self.uuid, device_uuid=device.uuid, grace=Duration(seconds=grace_seconds)
        )
        self._host.devices.EnsureDetached(request, timeout=_CALL_SECONDS)

    def release(self, *devices: HostDevice) -> None:
        """These devices, or all that it had, are the node's again."""
        request = EnsureReleasedRequest(domain_uuid=self.uuid, device_uuids=[device.uuid for device in devices])
        list(self._host.devices.EnsureReleased(request, timeout=_CALL_SECONDS))

    def undefine(self) -> None:
        """libvirt does not know it any more; its devices are not the node's yet."""
        self._host.domains.EnsureRemoved(EnsureRemovedRequest(uuid=self.uuid), timeout=_CALL_SECONDS)

    def remove(self) -> None:
        """Nothing is left of it."""
        self.undefine()
        self.release()
        self._host.volumes.EnsureRemoved(EnsureVolumeRemovedRequest(uuid=self._volume_uuid), timeout=_CALL_SECONDS)

    def wait_for_function(self, identity: str, count: int = 1) -> None:
        """It sees so many PCI functions "vvvv:pppp"."""

        self._wait(lambda: read_functions(self.serial()).count(identity) == count, f"sees {count} of {identity}")

    def wait_for_line(self, text: str, *, present: bool = True) -> None:
        """It has told this of a device at its last start; or it has not, though it has looked at all."""

        def has_told() -> bool:
            serial = self.serial()
            return bool(read_functions(serial)) and (text in read_lines(serial)) is present

        self._wait(has_told, f"{'tells' if present else 'does not tell'} {text}")

    def wait_for_text(self, text: str) -> None:
        """It has written this."""
        self._wait(lambda: text in self.serial(), f"says {text}")

    def serial(self) -> str:
        """What it has written so far."""
        return self._host.node.run(f"cat /var/lib/nodewright/agent/serial/{self.uuid}.log", check=False)

    def _wait(self, question: Callable[[], bool], what: str) -> None:
        try:
            wait_until(question, f"the guest {what}", _PROOF_SECONDS, _LOOK_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}; it has written: {self.serial()[-_SHOWN_CHARACTERS:]}") from error

    def _make_volume(self) -> None:
        self._host.coordinator.images[_IMAGE_ID] = _IMAGE
        image = ImageRef(
            image_id=_IMAGE_ID,
            sha256=hashlib.sha256(_IMAGE).hexdigest(),
            format=ImageFormat.IMAGE_FORMAT_RAW,
            size_bytes=len(_IMAGE),
        )
        list(self._host.images.EnsureCached(EnsureImageCachedRequest(image=image), timeout=_CALL_SECONDS))
        request = EnsureVolumeRequest(uuid=self._volume_uuid, size_bytes=_VOLUME_BYTES, volume_type="ssd", image=image)
        self._host.volumes.EnsureVolume(request, timeout=_CALL_SECONDS)
