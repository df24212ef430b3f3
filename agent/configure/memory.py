"""Memory, its pages, and the balloon that tells how much the guest uses."""

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
    """With huge pages, or when it is locked, the memory is the guest's alone from the start: nothing is reported free.

    Locking has no <hard_limit>: QEMU's own memory is locked as well, nobody can tell in advance how much that is, and a
    limit that is too low ends the guest. libvirt lifts RLIMIT_MEMLOCK for it, for which it needs CAP_SYS_RESOURCE.
    Source: https://libvirt.org/formatdomain.html#memory-backing, "locked".
    """
    pages = HugePages(Page(spec.huge_page_bytes // _BYTES_PER_KIB)) if spec.huge_page_bytes else None
    backing = None
    if pages or spec.memory_locked:
        backing = MemoryBacking(pages, no_share_pages=spec.memory_locked, locked=spec.memory_locked)
    domain = replace(domain, memory=Memory(spec.memory_bytes // _BYTES_PER_KIB), memory_backing=backing)
    reporting = True if backing is None else None
    return domain.with_devices(balloon=Balloon("virtio", reporting, BalloonStats(_STATS_PERIOD_SECONDS)))
