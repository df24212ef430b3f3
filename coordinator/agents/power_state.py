"""The node's words for power states in ours."""

from typing import Final

from coordinator.domain.instance import PowerState
from protos.agent.v1 import domain_pb2

_POWER_STATES: Final = {
    domain_pb2.POWER_STATE_RUNNING: PowerState.RUNNING,
    domain_pb2.POWER_STATE_PAUSED: PowerState.PAUSED,
    domain_pb2.POWER_STATE_SHUTTING_DOWN: PowerState.SHUTTING_DOWN,
    domain_pb2.POWER_STATE_SHUTOFF: PowerState.SHUTOFF,
    domain_pb2.POWER_STATE_CRASHED: PowerState.CRASHED,
    domain_pb2.POWER_STATE_SUSPENDED: PowerState.SUSPENDED,
    domain_pb2.POWER_STATE_HIBERNATED: PowerState.HIBERNATED,
    domain_pb2.POWER_STATE_ABSENT: PowerState.ABSENT,
}


def power_state_of(domain: domain_pb2.Domain) -> PowerState:
    """Power state of `domain`; NONE when the agent is newer than we are and says something unknown."""
    return _POWER_STATES.get(domain.power_state, PowerState.NONE)
