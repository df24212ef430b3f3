"""Disks and optical drives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.domainxml.address import Alias, BootOrder
from agent.domainxml.element import NUMBER, Element, attribute, child, presence, text_child


@dataclass(frozen=True)
class DiskDriver(Element, tag="driver"):
    """How QEMU opens the file."""

    name: str | None = attribute("name", default=None)
    type: str | None = attribute("type", default=None)
    cache: str | None = attribute("cache", default=None)
    io: str | None = attribute("io", default=None)
    discard: str | None = attribute("discard", default=None)
    detect_zeroes: str | None = attribute("detect_zeroes", default=None)
    io_thread: int | None = attribute("iothread", int, default=None)
    queues: int | None = attribute("queues", int, default=None)


@dataclass(frozen=True)
class SourceConfig(Element, tag="config"):
    """The file that tells QEMU where the cluster is."""

    file: str = attribute("file")


@dataclass(frozen=True)
class SourceSecret(Element, tag="secret"):
    """Under which UUID libvirt keeps the key."""

    type: str = attribute("type")
    uuid: str = attribute("uuid")


@dataclass(frozen=True)
class SourceAuth(Element, tag="auth"):
    """As whom QEMU opens the image."""

    username: str = attribute("username")
    secret: SourceSecret = child(SourceSecret)


@dataclass(frozen=True)
class SourceEncryption(Element, tag="encryption"):
    """How what is in the file is encrypted."""

    scheme: str = attribute("format")
    secret: SourceSecret = child(SourceSecret)


@dataclass(frozen=True)
class IoTune(Element, tag="iotune"):
    """What the disk may do at most, a second, and for some seconds beyond that; None and 0: not limited."""

    total_bytes_sec: int | None = text_child("total_bytes_sec", int, default=None)
    read_bytes_sec: int | None = text_child("read_bytes_sec", int, default=None)
    write_bytes_sec: int | None = text_child("write_bytes_sec", int, default=None)
    total_iops_sec: int | None = text_child("total_iops_sec", int, default=None)
    read_iops_sec: int | None = text_child("read_iops_sec", int, default=None)
    write_iops_sec: int | None = text_child("write_iops_sec", int, default=None)
    total_bytes_sec_max: int | None = text_child("total_bytes_sec_max", int, default=None)
    read_bytes_sec_max: int | None = text_child("read_bytes_sec_max", int, default=None)
    write_bytes_sec_max: int | None = text_child("write_bytes_sec_max", int, default=None)
    total_iops_sec_max: int | None = text_child("total_iops_sec_max", int, default=None)
    read_iops_sec_max: int | None = text_child("read_iops_sec_max", int, default=None)
    write_iops_sec_max: int | None = text_child("write_iops_sec_max", int, default=None)
    total_bytes_sec_max_length: int | None = text_child("total_bytes_sec_max_length", int, default=None)
    read_bytes_sec_max_length: int | None = text_child("read_bytes_sec_max_length", int, default=None)
    write_bytes_sec_max_length: int | None = text_child("write_bytes_sec_max_length", int, default=None)
    total_iops_sec_max_length: int | None = text_child("total_iops_sec_max_length", int, default=None)
    read_iops_sec_max_length: int | None = text_child("read_iops_sec_max_length", int, default=None)
    write_iops_sec_max_length: int | None = text_child("write_iops_sec_max_length", int, default=None)


@dataclass(frozen=True)
class DiskSource(Element, tag="source"):
    """The file, or the block device, on the node; or an image ("POOL/IMAGE") of a cluster."""

    file: str | None = attribute("file", default=None)
    device: str | None = attribute("dev", default=None)
    protocol: str | None = attribute("protocol", default=None)
    name: str | None = attribute("name", default=None)
    config: SourceConfig | None = child(SourceConfig, default=None)
    auth: SourceAuth | None = child(SourceAuth, default=None)
    encryption: SourceEncryption | None = child(SourceEncryption, default=None)


@dataclass(frozen=True)
class DiskTarget(Element, tag="target"):
    """Where the guest finds the disk."""

    dev: str = attribute("dev")
    bus: str | None = attribute("bus", default=None)


@dataclass(frozen=True)
class DriveAddress(Element, tag="address"):
    """Where a SCSI or SATA disk is plugged in; libvirt calls a logical unit number "unit"."""

    type: str = attribute("type", default="drive")
    controller: int | None = attribute("controller", NUMBER, default=None)
    bus: int | None = attribute("bus", NUMBER, default=None)
    target: int | None = attribute("target", NUMBER, default=None)
    unit: int | None = attribute("unit", NUMBER, default=None)


@dataclass(frozen=True)
class Disk(Element, tag="disk"):
    """A disk; with device "cdrom" an optical drive, with "lun" one that takes SCSI commands."""

    type: str = attribute("type")
    target: DiskTarget = child(DiskTarget)
    device: str = attribute("device", default="disk")
    driver: DiskDriver | None = child(DiskDriver, default=None)
    source: DiskSource | None = child(DiskSource, default=None)
    read_only: bool = presence("readonly")
    shareable: bool = presence("shareable")
    io_tune: IoTune | None = child(IoTune, default=None)
    serial: str | None = text_child("serial", default=None)
    boot: BootOrder | None = child(BootOrder, default=None)
    alias: Alias | None = child(Alias, default=None)
    address: DriveAddress | None = child(DriveAddress, default=None)

    @property
    def key(self) -> str:
        """Tells it from the guest's other disks, whatever place it has: its serial, else the name of its file.

        What has neither is told by its place.
        """
        file = (self.source and self.source.file) or ""
        return self.serial or Path(file).name or f"@{self.target.dev}"

    @property
    def place(self) -> DiskPlace:
        """Where the guest finds it; which PCI slot that is, libvirt chooses."""
        is_drive = self.address is not None and self.address.type == "drive"
        return DiskPlace(self.target, self.address if is_drive else None)


@dataclass(frozen=True)
class DiskPlace:
    """The name and, on a bus with places of its own, the place of a disk in its guest."""

    target: DiskTarget
    address: DriveAddress | None
