"""The serial console, whose output is kept in a file on the node."""

from __future__ import annotations

from agent.configure.host_profile import HostProfile
from agent.domainxml.character import Console, ConsoleTarget, Log, Serial, SerialTarget
from agent.domainxml.domain import Domain
from protos.agent.v1.domain_pb2 import DomainSpec


def configure_console(domain: Domain, spec: DomainSpec, host: HostProfile) -> Domain:
    """The log goes on over restarts of the guest; virtlogd keeps its size within bounds."""
    log = Log(str(host.serial_log(spec.uuid)), append=True)
    return domain.with_devices(
        serials=(Serial("pty", log, SerialTarget("isa-serial", 0)),),
        consoles=(Console("pty", ConsoleTarget("serial", 0)),),
    )
