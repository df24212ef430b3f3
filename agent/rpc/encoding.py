"""Between the agent's own values and the messages of its API."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from agent.errors import RequestInvalid
from agent.hypervisor.description import GuestDescription
from agent.hypervisor.prober import GuestAgentProbe
from protos.agent.v1 import device_pb2, domain_pb2, guest_pb2

DEFAULT_GRACE_SECONDS: Final = 120.0
# For a device or a disk.
LET_GO_SECONDS: Final = 30.0


def encode_domain(description: GuestDescription, probe: GuestAgentProbe | None) -> domain_pb2.Domain:
    """A domain as it is reported; without a probe nothing is said about its guest agent."""
    domain = domain_pb2.Domain(
        uuid=description.uuid,
        name=description.name,
        power_state=f"POWER_STATE_{description.power_state.value}",
        power_state_reason=description.power_state_reason,
        foreign=description.foreign,
        vcpus=description.vcpus,
        memory_bytes=description.memory_bytes,
        vnc_address=description.vnc_address,
        vnc_port=description.vnc_port,
        generation=description.generation,
        ha_enabled=description.ha_enabled,
        machine=description.machine,
    )
    if probe is not None:
        known = domain_pb2.Domain(
            guest_agent_state=_agent_state(probe),
            guest_agent_version=probe.version,
            guest_agent_probed_at=encode_time(probe.probed_at),
            guest_monitor_version=probe.monitor_version,
        )
        domain.MergeFrom(known)
    return domain


def encode_probe(probe: GuestAgentProbe) -> guest_pb2.GuestProbe:
    """The outcome of asking a guest agent."""
    return guest_pb2.GuestProbe(
        state=_agent_state(probe), version=probe.version, probed_at=encode_time(probe.probed_at)
    )


def encode_time(at: datetime) -> Timestamp:
    """A moment."""
    timestamp = Timestamp()
    timestamp.FromDatetime(at)
    return timestamp


def encode_duration(seconds: float) -> Duration:
    """A span of time."""
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration


def encode_elapsed(started_at: float, ended_at: float, now: float) -> Duration:
    """How long something took, or has taken until now when it has no end (0) yet; seconds since 1970."""
    return encode_duration(max(0.0, (ended_at or now) - started_at))


def decode_seconds(
    message: domain_pb2.EnsureStoppedRequest
    | domain_pb2.RebootRequest
    | domain_pb2.EnsureDiskDetachedRequest
    | guest_pb2.RunGuestCommandRequest
    | device_pb2.EnsureDetachedRequest,
    field: str,
    *,
    default: float,
) -> float:
    """The seconds in a message's duration, which must be more than none; the default when it is absent."""
    if not message.HasField(field):
        return default
    duration: Duration = getattr(message, field)
    seconds = duration.ToTimedelta().total_seconds()
    if seconds <= 0:
        raise RequestInvalid(f"{field}: more than 0 s")
    return seconds


def _agent_state(probe: GuestAgentProbe) -> str:
    """The state's name in the API."""
    return f"GUEST_AGENT_STATE_{probe.state.value}"
