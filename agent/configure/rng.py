"""Random numbers for the guest."""

from __future__ import annotations

from agent.configure.host_profile import HostProfile
from agent.domainxml.device import Rng, RngBackend
from agent.domainxml.domain import Domain
from protos.agent.v1.domain_pb2 import DomainSpec


def configure_rng(domain: Domain, _spec: DomainSpec, _host: HostProfile) -> Domain:
    """A guest that makes its SSH host keys at its first start need not wait for entropy; the source never blocks."""
    return domain.with_devices(rngs=(Rng("virtio", RngBackend("/dev/urandom")),))
