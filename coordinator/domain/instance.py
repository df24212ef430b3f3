"""States of an instance and which operations they admit."""

from enum import StrEnum


class InstanceStatus(StrEnum):
    """Status as the API spells it."""

    PROVISIONING = "Provisioning"
    STARTING = "Starting"
    RUNNING = "Running"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    PAUSED = "Paused"
    MIGRATING = "Migrating"
    TERMINATING = "Terminating"
    HIBERNATING = "Hibernating"
    HIBERNATED = "Hibernated"
    SOFT_DELETED = "SoftDeleted"
    UNKNOWN = "Unknown"
    ERROR_UNSCHEDULABLE = "ErrorUnschedulable"
    DATA_VOLUME_ERROR = "DataVolumeError"
    ERR_IMAGE_PULL = "ErrImagePull"
    WAITING_FOR_VOLUME_BINDING = "WaitingForVolumeBinding"


class PowerState(StrEnum):
    """What the node last said about the domain."""

    NONE = "none"
    RUNNING = "running"
    PAUSED = "paused"
    SHUTTING_DOWN = "shutting-down"
    SHUTOFF = "shutoff"
    CRASHED = "crashed"
    SUSPENDED = "suspended"
    ABSENT = "absent"
    # Off, with its memory on disk.
    HIBERNATED = "hibernated"


# A build, a start or a move is under way, which costs the node more than a guest at rest.
IN_FLIGHT_STATUSES = frozenset({InstanceStatus.PROVISIONING, InstanceStatus.STARTING, InstanceStatus.MIGRATING})

ERROR_STATUSES = frozenset(
    {
        InstanceStatus.UNKNOWN,
        InstanceStatus.ERROR_UNSCHEDULABLE,
        InstanceStatus.DATA_VOLUME_ERROR,
        InstanceStatus.ERR_IMAGE_PULL,
    }
)

_STATUS_OF_POWER = {
    PowerState.RUNNING: InstanceStatus.RUNNING,
    PowerState.SHUTTING_DOWN: InstanceStatus.RUNNING,
    PowerState.PAUSED: InstanceStatus.PAUSED,
    PowerState.SUSPENDED: InstanceStatus.PAUSED,
    PowerState.SHUTOFF: InstanceStatus.STOPPED,
    PowerState.CRASHED: InstanceStatus.STOPPED,
    PowerState.HIBERNATED: InstanceStatus.HIBERNATED,
    PowerState.ABSENT: InstanceStatus.UNKNOWN,
    PowerState.NONE: InstanceStatus.UNKNOWN,
}


def describe_loss(node_name: str) -> str:
    """Why nothing better is said of an instance whose node is away."""
    return f"node {node_name} is away: nothing is known about the guest until it is back"


def status_of(power_state: PowerState) -> InstanceStatus:
    """The status of an instance that no task is working on."""
    return _STATUS_OF_POWER[power_state]
