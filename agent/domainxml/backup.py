"""A backup job of libvirt: which disks are copied where."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domainxml.element import Element, attribute, child, children


@dataclass(frozen=True)
class BackupDriver(Element, tag="driver"):
    """Format of the copy."""

    type: str = attribute("type")


@dataclass(frozen=True)
class BackupTarget(Element, tag="target"):
    """File of the copy, which libvirt makes."""

    file: str = attribute("file")


@dataclass(frozen=True)
class BackupDisk(Element, tag="disk"):
    """One disk, by its name in the guest; those that are not named are left out."""

    name: str = attribute("name")
    driver: BackupDriver = child(BackupDriver)
    target: BackupTarget = child(BackupTarget)
    backup: str = attribute("backup", default="yes")
    type: str = attribute("type", default="file")


@dataclass(frozen=True)
class BackupDisks(Element, tag="disks"):
    """The disks of a job."""

    disks: tuple[BackupDisk, ...] = children(BackupDisk)


@dataclass(frozen=True)
class DomainBackup(Element, tag="domainbackup"):
    """A job that writes whole copies by itself."""

    disks: BackupDisks = child(BackupDisks)
    mode: str = attribute("mode", default="push")
