"""The channel to the guest agent."""

from __future__ import annotations

from agent.configure.host_profile import HostProfile
from agent.domainxml.character import GUEST_AGENT_CHANNEL, Channel, ChannelTarget
from agent.domainxml.device import Controller
from agent.domainxml.domain import Domain
from protos.agent.v1.domain_pb2 import DomainSpec


def configure_guest_agent(domain: Domain, _spec: DomainSpec, _host: HostProfile) -> Domain:
    """libvirt owns the socket on the node's side, and tells when somebody opens the channel in the guest."""
    return domain.with_devices(
        controllers=(Controller("virtio-serial", 0),),
        channels=(Channel("unix", ChannelTarget("virtio", GUEST_AGENT_CHANNEL)),),
    )
