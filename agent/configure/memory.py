"""Memory, huge pages, and the balloon that tells how much the guest uses."""

from __future__ import annotations

from dataclasses import replace

from agent.configure.host_profile import HostProfile
from agent.domainxml.device import Balloon, BalloonStats
from agent.domainxml.domain import Domain
from agent.domainxml.memory import HugePages, Memory, MemoryBacking, Page
from protos.agent.v1.domain_pb2 import DomainSpec

_BYTES_PER_KIB = 1024
_STATS_PERIOD_SECONDS = 10


def configure_memory(domain: Domain, spec: DomainSpec, _host: HostProfile) -> Domain:
    """All memory is the guest's from the start; with huge pages it is theirs alone, so nothing is reported free."""
    backing = None
    if spec.huge_page_bytes:
        backing = MemoryBacking(HugePages(Page(spec.huge_page_bytes // _BYTES_PER_KIB)))
    domain = replace(domain, memory=Memory(spec.memory_bytes // _BYTES_PER_KIB), memory_backing=backing)
    reporting = True if backing is None else None
    return domain.with_devices(balloon=Balloon("virtio", reporting, BalloonStats(_STATS_PERIOD_SECONDS)))
