"""Failures of the agent: one class a condition, each with a stable code that the coordinator can rely on.

A class is named <Noun><Condition>, and its name is its code. Its category tells how a caller should take it;
`agent.rpc.interceptor` alone turns categories into gRPC status codes.
"""

from __future__ import annotations

import errno
import os
from enum import Enum, auto
from typing import ClassVar, Final

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Category(Enum):
    """How a caller should take a failure."""

    INVALID = auto()  # the request can never succeed: a field is named in the message
    ABSENT = auto()  # what the request addresses does not exist
    STATE = auto()  # possible only in another state of the node or the guest
    FORBIDDEN = auto()  # this caller, or this node's configuration, does not allow it
    EXHAUSTED = auto()  # the node has too little of something
    TIMEOUT = auto()  # no end in the time given; it may still happen
    UNAVAILABLE = auto()  # try again later, nothing is wrong with the request
    ABORTED = auto()  # the other side answered with a failure of its own
    CORRUPT = auto()  # data is not what it should be
    INTERNAL = auto()  # a defect, or a failure that no other category describes


class AgentError(Exception):
    """Base of all failures that the agent reports; the message is for people and holds no secret."""

    code: ClassVar[str] = "AgentError"
    category: ClassVar[Category] = Category.INTERNAL

    def __init_subclass__(cls, *, category: Category) -> None:
        cls.code = cls.__name__
        cls.category = category

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RequestInvalid(AgentError, category=Category.INVALID):
    """A field of the request has a value that it must not have; the message names the field."""


class ClientRoleForbidden(AgentError, category=Category.FORBIDDEN):
    """The caller's certificate carries no role that may use this service."""


class HypervisorUnavailable(AgentError, category=Category.UNAVAILABLE):
    """libvirt is away; the agent is trying to reconnect."""


class HypervisorTimeout(AgentError, category=Category.TIMEOUT):
    """libvirt did not answer in time; whether the request takes effect later is not known."""


class HypervisorFailed(AgentError, category=Category.INTERNAL):
    """libvirt failed in a way that has no code of its own; the message is libvirt's."""


class HypervisorUnsupported(AgentError, category=Category.STATE):
    """The libvirt driver or the QEMU of this node cannot do what was asked."""


class DomainNotFound(AgentError, category=Category.ABSENT):
    """No domain has this UUID."""


class DomainForeign(AgentError, category=Category.STATE):
    """The domain was not created by Nodewright, which therefore never touches it."""


class DomainStateConflict(AgentError, category=Category.STATE):
    """The domain is in a state that does not allow what was asked."""


class DomainGenerationStale(AgentError, category=Category.STATE):
    """The domain holds a newer definition than the one given: the request was overtaken."""


class DomainDefinitionInvalid(AgentError, category=Category.INVALID):
    """libvirt refuses the definition."""


class DomainStopTimeout(AgentError, category=Category.TIMEOUT):
    """The guest was asked to shut down and is still running after the grace; it was not forced."""


class DomainMemoryInsufficient(AgentError, category=Category.EXHAUSTED):
    """The node has too little memory (or huge pages) to start the domain."""


class DeviceNotFound(AgentError, category=Category.ABSENT):
    """The node has no device with this id, or not any more."""


class DeviceWithheld(AgentError, category=Category.STATE):
    """The device is not for guests: the host or somebody else needs it; the message says why."""


class DeviceInUse(AgentError, category=Category.STATE):
    """A domain has the device, or something on the node keeps it busy."""


class DeviceFaulty(AgentError, category=Category.STATE):
    """The device has failed or is gone, so that no guest gets it."""


class DeviceBusy(AgentError, category=Category.UNAVAILABLE):
    """The device is being prepared or given back; try again later."""


class DevicePlugUnsafe(AgentError, category=Category.STATE):
    """The device cannot be plugged into, or pulled out of, a guest that runs; it can while the guest is off."""


class DeviceStillAttached(AgentError, category=Category.TIMEOUT):
    """The guest was asked to let go of the device and has not within the grace; nothing was taken from it."""


class MediumLocked(AgentError, category=Category.TIMEOUT):
    """The guest uses what is in the drive and has locked the tray; it keeps it."""


class DeviceWipeFailed(AgentError, category=Category.INTERNAL):
    """The disk could not be overwritten; it stays withheld until it is."""


class DeviceFailed(AgentError, category=Category.INTERNAL):
    """The kernel or libvirt refused to make, bind or give back a device, in a way that has no code of its own."""


class GpuInUse(AgentError, category=Category.STATE):
    """Guests have GPUs of the node, so that their mode stays; the message lists them."""


class GpuModeUnsupported(AgentError, category=Category.STATE):
    """No GPU of the node works in this mode."""


class GuestAgentUnavailable(AgentError, category=Category.STATE):
    """The guest agent is not running, or the domain has no channel to it."""


class GuestAgentTimeout(AgentError, category=Category.TIMEOUT):
    """The guest agent did not answer in time."""


class GuestAgentCommandFailed(AgentError, category=Category.ABORTED):
    """The guest agent answered with an error of its own."""


class GuestAgentCommandForbidden(AgentError, category=Category.FORBIDDEN):
    """The command is not on the node's allow-list."""


class SeedFailed(AgentError, category=Category.INTERNAL):
    """The image with the guest's first configuration could not be written."""


class CapabilityMissing(AgentError, category=Category.STATE):
    """The node lacks a feature that the domain needs, for example secure boot or a TPM emulator."""


class CpuPinned(AgentError, category=Category.STATE):
    """A CPU that the guest would have for itself is another guest's."""


class DomainGrowthUnsupported(AgentError, category=Category.STATE):
    """The guest cannot get what was asked for while it runs: it has to be restarted for it."""


class CpusExhausted(AgentError, category=Category.STATE):
    """All CPUs that a guest could float on are pinned by others."""


class DomainFenced(AgentError, category=Category.STATE):
    """The watchdog has ended the guest, and the coordinator has not said that it is still this node's."""


class LeaseExpired(AgentError, category=Category.UNAVAILABLE):
    """The coordinator was not heard of for so long that the guest may run elsewhere."""


class LeaseFailed(AgentError, category=Category.INTERNAL):
    """The file could not be written that tells the watchdog of a guest."""


class DiskLockUnavailable(AgentError, category=Category.UNAVAILABLE):
    """libvirt locks disks, and the daemon that keeps its locks is away: no guest starts or resumes."""


class MemoryLockRefused(AgentError, category=Category.STATE):
    """The node does not let guests keep their memory resident."""


class GuestIncompatible(AgentError, category=Category.STATE):
    """This node cannot provide the CPU that the guest runs with."""


class MigrationNotFound(AgentError, category=Category.ABSENT):
    """No migration has this id, or it is forgotten."""


class MigrationCompleted(AgentError, category=Category.STATE):
    """The guest has arrived here, so that nothing is removed."""


class NetworkRoleMissing(AgentError, category=Category.STATE):
    """The node has no address in the network that was asked for."""


class VolumeNotFound(AgentError, category=Category.ABSENT):
    """No complete volume has this UUID."""


class VolumeInUse(AgentError, category=Category.STATE):
    """A running domain, or a QEMU on another node that shares it, has the volume open or locked."""


class VolumeKeyRefused(AgentError, category=Category.STATE):
    """The coordinator gives this node no key of the volume: it is not encrypted, or not this node's."""


class VolumeKeyUnavailable(AgentError, category=Category.UNAVAILABLE):
    """The coordinator, which has the volume's key, cannot be asked now."""


class VolumePresent(AgentError, category=Category.STATE):
    """A volume of this UUID is on this node, and the transfer has not brought it."""


class VolumeCorrupt(AgentError, category=Category.CORRUPT):
    """What has come from another node is not what was sent; nothing was kept."""


class SnapshotNotFound(AgentError, category=Category.ABSENT):
    """A volume does not have this snapshot."""


class ExportNotFound(AgentError, category=Category.ABSENT):
    """No copy of a volume lies ready under this id."""


class SnapshotUnsupported(AgentError, category=Category.STATE):
    """Volumes are kept there in a way that has no snapshots yet."""


class TransferNotFound(AgentError, category=Category.ABSENT):
    """Nobody waits for a volume under this id, or not any more."""


class TransferPortsExhausted(AgentError, category=Category.EXHAUSTED):
    """All ports for volumes that come are taken."""


class StorageExhausted(AgentError, category=Category.EXHAUSTED):
    """The file system has too little free space; the message says what was wanted and what is available, if known."""


class StorageFailed(AgentError, category=Category.INTERNAL):
    """qemu-img or the file system failed in a way that has no code of its own."""


class StorageUnavailable(AgentError, category=Category.UNAVAILABLE):
    """Storage beyond this node does not answer in time; whether the request takes effect later is not known."""


class ImageNotFound(AgentError, category=Category.ABSENT):
    """The image is not in the cache, or the coordinator does not have it."""


class ImageInUse(AgentError, category=Category.STATE):
    """A volume is backed by the image."""


class ImageCorrupt(AgentError, category=Category.CORRUPT):
    """The image's bytes are not those that its checksum names; nothing was kept."""


class ImageFormatMismatch(AgentError, category=Category.STATE):
    """The image's content is not of the stated format, or refers to other files."""


class ImageSourceUnavailable(AgentError, category=Category.UNAVAILABLE):
    """The coordinator could not be asked for the image's bytes; what was fetched is kept and resumed."""


class SubnetNotFound(AgentError, category=Category.ABSENT):
    """No port of this subnet was ensured on the node."""


class NetworkConflict(AgentError, category=Category.STATE):
    """A network or an address that is wanted is taken by something that Nodewright did not make."""


class NetworkFailed(AgentError, category=Category.INTERNAL):
    """The node's packet filter refused a rule."""


class NetworkNotFound(AgentError, category=Category.ABSENT):
    """libvirt has no network of this name."""


def is_out_of_space(error: BaseException) -> bool:
    """Whether a file system, or the agent's quota on it, was full."""
    return isinstance(error, OSError) and error.errno in _FULL


def tells_out_of_space(message: str) -> bool:
    """The same from the words of another program: they are all that tells it from its other failures."""
    return any(os.strerror(number).lower() in message.lower() for number in _FULL)
