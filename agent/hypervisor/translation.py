"""libvirt's errors in the agent's words: the only place that knows libvirt's error numbers."""

from __future__ import annotations

import re

import libvirt

from agent.errors import (
    AgentError,
    CapabilityMissing,
    DeviceFailed,
    DeviceInUse,
    DeviceNotFound,
    DeviceWithheld,
    DiskLockUnavailable,
    DomainDefinitionInvalid,
    DomainMemoryInsufficient,
    DomainNotFound,
    DomainStateConflict,
    GuestAgentCommandFailed,
    GuestAgentTimeout,
    GuestAgentUnavailable,
    GuestIncompatible,
    HypervisorFailed,
    HypervisorTimeout,
    HypervisorUnavailable,
    HypervisorUnsupported,
    MemoryLockRefused,
    StorageExhausted,
    VolumeInUse,
    tells_out_of_space,
)

_ERRORS: dict[int, type[AgentError]] = {
    libvirt.VIR_ERR_NO_DOMAIN: DomainNotFound,
    libvirt.VIR_ERR_OPERATION_INVALID: DomainStateConflict,
    libvirt.VIR_ERR_OPERATION_TIMEOUT: HypervisorTimeout,
    libvirt.VIR_ERR_XML_ERROR: DomainDefinitionInvalid,
    libvirt.VIR_ERR_XML_DETAIL: DomainDefinitionInvalid,
    libvirt.VIR_ERR_XML_INVALID_SCHEMA: DomainDefinitionInvalid,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED: DomainDefinitionInvalid,
    libvirt.VIR_ERR_INVALID_DOMAIN: DomainDefinitionInvalid,
    libvirt.VIR_ERR_CPU_INCOMPATIBLE: GuestIncompatible,
    libvirt.VIR_ERR_NO_SUPPORT: HypervisorUnsupported,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED: HypervisorUnsupported,
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED: HypervisorUnsupported,
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE: GuestAgentUnavailable,
    libvirt.VIR_ERR_AGENT_UNSYNCED: GuestAgentTimeout,
    # The last two have no name in the oldest libvirt that is supported.
    111: GuestAgentTimeout,
    112: GuestAgentCommandFailed,
}
# QEMU's own words are all that tells too little memory from other failures to start.
_NO_MEMORY = (
    "cannot allocate memory",
    "cannot set up guest memory",
    "unable to map backing store",
    "preallocating memory failed",
)
# libvirt's when it lacks the capability, then QEMU's when its limit was too low all the same.
_NO_MEMORY_LOCK = ("cannot limit locked memory", "locking memory failed")
# QEMU's own lock comes first; libvirt's tells where QEMU's does not work.
_QEMU_LOCK = re.compile(r"Failed to get [^:]*lock\s+Is another process using the image.*", re.DOTALL)
_LOCK_DAEMON = "virtlockd-sock"
# libvirt's words, and QEMU's of VFIO, for devices of the node that cannot be had.
_DEVICE_FAILURES: tuple[tuple[re.Pattern[str], type[AgentError]], ...] = (
    (re.compile(r"(PCI|USB|SCSI|mediated|Mediated)\b.* device.* is (already )?in use"), DeviceInUse),
    (re.compile(r"group \d+ is not viable"), DeviceWithheld),
    (
        re.compile(r"[Dd]id not find USB device|no such USB device|[Dd]evice \S+ not found: could not access"),
        DeviceNotFound,
    ),
    (re.compile(r"mediated device .* not found|cannot open directory '/sys/bus/usb/devices'"), DeviceNotFound),
    (re.compile(r"'/dev/[^']+': No such (file or directory|device)|access storage file '/dev/"), DeviceNotFound),
    (re.compile(r"host doesn't support (passthrough|VFIO|legacy)|VFIO .*not supported"), CapabilityMissing),
    (
        re.compile(r"[Uu]nmanaged PCI device .* must be manually detached|failed to (bind|unbind|reset) PCI"),
        DeviceFailed,
    ),
)
_CONNECTION_DOMAINS = frozenset((libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE))


def translate(error: libvirt.libvirtError) -> AgentError:
    """The agent's error for one of libvirt; its message is libvirt's."""
    message = error.get_error_message() or str(error)
    number = error.get_error_code()
    if any(words in message.lower() for words in _NO_MEMORY_LOCK):
        return MemoryLockRefused(f"memory_locked: {message}")
    if any(words in message.lower() for words in _NO_MEMORY):
        return DomainMemoryInsufficient(message)
    for pattern, kind in _DEVICE_FAILURES:
        if pattern.search(message):
            return kind(message)
    if reason := _find_open_disk(error, message):
        return VolumeInUse(f"a disk is open or locked elsewhere, perhaps on another node that shares it: {reason}")
    if _LOCK_DAEMON in message:
        return DiskLockUnavailable(f"virtlockd, which keeps the locks of disks, is away: {message}")
    if tells_out_of_space(message):
        return StorageExhausted(message)
    if number in _ERRORS:
        return _ERRORS[number](message)
    if is_connection_loss(error):
        return HypervisorUnavailable(f"libvirt is away: {message}")
    return HypervisorFailed(message)


def is_connection_loss(error: libvirt.libvirtError) -> bool:
    """Whether the way to libvirt failed, not what was asked of it (nor libvirt's own way to its lock daemon)."""
    if _LOCK_DAEMON in str(error):
        return False
    if error.get_error_code() in (libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_INVALID_CONN):
        return True
    transport = error.get_error_domain() in _CONNECTION_DOMAINS
    return transport and error.get_error_code() in (
        libvirt.VIR_ERR_SYSTEM_ERROR,
        libvirt.VIR_ERR_INTERNAL_ERROR,
        libvirt.VIR_ERR_RPC,
    )


def _find_open_disk(error: libvirt.libvirtError, message: str) -> str:
    """What keeps a guest off a disk, as QEMU or libvirt words it; empty when that is not what is wrong."""
    if error.get_error_code() == libvirt.VIR_ERR_RESOURCE_BUSY and message.endswith(" is locked"):
        return message
    # Before it stand the time and the whole option: the same refusal shall read the same.
    found = _QEMU_LOCK.search(message)
    return " ".join(found[0].split()) if found else ""
