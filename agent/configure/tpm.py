"""A virtual TPM, emulated by swtpm on the node."""

from __future__ import annotations

from agent.configure.host_profile import HostProfile
from agent.domainxml.device import Tpm, TpmBackend
from agent.domainxml.domain import Domain
from agent.errors import CapabilityMissing
from protos.agent.v1.domain_pb2 import DomainSpec, TpmModel

# Version of the TPM, and the interface that goes with it: CRB is defined for 2.0 only.
_INTERFACES = {TpmModel.TPM_MODEL_1_2: ("1.2", "tpm-tis"), TpmModel.TPM_MODEL_2_0: ("2.0", "tpm-crb")}


def configure_tpm(domain: Domain, spec: DomainSpec, host: HostProfile) -> Domain:
    """Its state is kept by libvirt under the domain's UUID."""
    if spec.tpm not in _INTERFACES:
        return domain
    version, interface = _INTERFACES[spec.tpm]
    if version not in host.tpm_versions:
        raise CapabilityMissing(f"tpm: this node cannot emulate TPM {version}")
    return domain.with_devices(tpm=Tpm(interface, TpmBackend("emulator", version)))
