"""The codes of the agent's errors are part of its API: the golden file changes only together with the coordinator."""

import errno
import json
import os
from pathlib import Path

import grpc
import libvirt
import pytest

from agent.errors import AgentError, Category, StorageExhausted, tells_out_of_space
from agent.hypervisor.translation import is_connection_loss, translate
from agent.rpc.interceptor import STATUS_BY_CATEGORY

GOLDEN = Path(__file__).parents[2] / "data" / "agent" / "error-codes.json"
UPDATE = "NODEWRIGHT_UPDATE_GOLDEN"


def test_the_codes_and_their_status_stay_as_they_are() -> None:
    codes = {error.code: STATUS_BY_CATEGORY[error.category].name for error in _all_errors(AgentError)}
    written = json.dumps(codes, indent=2, sort_keys=True) + "\n"
    if UPDATE in os.environ:
        GOLDEN.write_text(written)
    assert written == GOLDEN.read_text()


def test_every_category_has_a_status_of_its_own_kind() -> None:
    assert set(STATUS_BY_CATEGORY) == set(Category)
    assert grpc.StatusCode.OK not in STATUS_BY_CATEGORY.values()
    assert len(set(STATUS_BY_CATEGORY.values())) == len(Category)


@pytest.mark.parametrize("error", list(AgentError.__subclasses__()), ids=lambda error: str(error.__name__))
def test_a_code_is_the_name_of_its_class(error: type[AgentError]) -> None:
    assert error.code == error.__name__
    assert error("it is so").message == str(error("it is so")) == "it is so"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_known_by_the_words_of_other_programs(number: int) -> None:
    message = f"unable to write '/var/lib/x': {os.strerror(number)}"
    is_full = number != errno.EIO
    assert tells_out_of_space(message) == is_full
    assert isinstance(translate(libvirt.libvirtError(message)), StorageExhausted) == is_full


def _failure(number: int, source: int, message: str) -> libvirt.libvirtError:
    """As libvirt tells it: number, where it comes from, words."""
    error = libvirt.libvirtError(message)
    error.err = (number, source, message, 2, None, None, None, 0, 0)
    return error


# As libvirt 9.0 and QEMU 7.2 word them.
BY_QEMU = _failure(
    libvirt.VIR_ERR_INTERNAL_ERROR,
    libvirt.VIR_FROM_QEMU,
    'internal error: process exited while connecting to monitor: qemu-system-x86_64: -blockdev {"driver":"qcow2"}: '
    'Failed to get "write" lock\nIs another process using the image [/volumes/x.qcow2]?',
)
BY_LOCKD = _failure(
    libvirt.VIR_ERR_RESOURCE_BUSY,
    libvirt.VIR_FROM_LOCKSPACE,
    "resource busy: Lockspace resource '/volumes/x.qcow2' is locked",
)
LOCKD_AWAY_AT_START = _failure(
    libvirt.VIR_ERR_INTERNAL_ERROR,
    libvirt.VIR_FROM_QEMU,
    "internal error: Process exited prior to exec: libvirt: XML-RPC error : "
    "Failed to connect socket to '/run/libvirt/virtlockd-sock': No such file or directory",
)
LOCKD_AWAY_AT_RESUME = _failure(
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_FROM_RPC,
    "Failed to connect socket to '/run/libvirt/virtlockd-sock': No such file or directory",
)
LIBVIRT_AWAY = _failure(
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_FROM_RPC,
    "Failed to connect socket to '/run/libvirt/libvirt-sock': No such file or directory",
)
NOT_HELD = _failure(
    libvirt.VIR_ERR_RESOURCE_BUSY,
    libvirt.VIR_FROM_LOCKSPACE,
    "resource busy: Lockspace resource '/volumes/x.qcow2' is not locked",
)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (BY_LOCKD, "VolumeInUse"),
        (LOCKD_AWAY_AT_START, "DiskLockUnavailable"),
        (LOCKD_AWAY_AT_RESUME, "DiskLockUnavailable"),
        (LIBVIRT_AWAY, "HypervisorUnavailable"),
        (NOT_HELD, "HypervisorFailed"),
    ],
)
def test_a_disk_that_libvirt_finds_locked_is_told_from_other_failures(failure: libvirt.libvirtError, code: str) -> None:
    assert translate(failure).code == code
    assert failure.get_error_message() in translate(failure).message


def test_a_disk_that_qemu_finds_open_is_told_in_the_same_words_each_time() -> None:
    error = translate(BY_QEMU)
    assert error.code == "VolumeInUse"
    assert error.message.endswith(': Failed to get "write" lock Is another process using the image [/volumes/x.qcow2]?')


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("PCI device 0000:3b:00.0 is in use by driver QEMU, domain ecs-other", "DeviceInUse"),
        ("USB device 001:014 is in use by driver QEMU, domain ecs-other", "DeviceInUse"),
        ("Did not find USB device bus:1 device:14", "DeviceNotFound"),
        ("Device 0000:3b:00.0 not found: could not access /sys/bus/pci/devices/0000:3b:00.0/config", "DeviceNotFound"),
        ("device not found: mediated device '5b1e8c1e' not found", "DeviceNotFound"),
        ("Cannot access storage file '/dev/disk/by-id/wwn-1': No such file or directory", "DeviceNotFound"),
        ("Could not open '/dev/sdb': No such device or address", "DeviceNotFound"),
        ("vfio 0000:3b:00.0: group 5 is not viable", "DeviceWithheld"),
        ("unsupported configuration: host doesn't support passthrough of host PCI devices", "CapabilityMissing"),
        ("Unmanaged PCI device 0000:3b:00.0 must be manually detached from the host", "DeviceFailed"),
        ("Could not open '/volumes/x.qcow2': No such file or directory", "HypervisorFailed"),
    ],
)
def test_what_is_wrong_with_a_device_is_told_by_its_code(message: str, code: str) -> None:
    error = translate(_failure(libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, f"internal error: {message}"))
    assert error.code == code
    assert message in error.message


@pytest.mark.parametrize(("failure", "lost"), [(LIBVIRT_AWAY, True), (LOCKD_AWAY_AT_RESUME, False)])
def test_libvirt_without_its_lock_daemon_is_not_away(failure: libvirt.libvirtError, lost: bool) -> None:
    assert is_connection_loss(failure) == lost


def _all_errors(base: type[AgentError]) -> list[type[AgentError]]:
    direct = base.__subclasses__()
    return direct + [error for subclass in direct for error in _all_errors(subclass)]
