"""BIOS, UEFI, or UEFI with secure boot."""

from __future__ import annotations

from dataclasses import replace

from agent.configure.host_profile import FirmwareName, HostProfile
from agent.domainxml.boot import Features, FirmwareFeature, FirmwareSelection, Os, Smm
from agent.domainxml.domain import Domain
from agent.errors import CapabilityMissing
from protos.agent.v1.domain_pb2 import DomainSpec, Firmware

_NAMES: dict[int, FirmwareName] = {
    Firmware.FIRMWARE_UNSPECIFIED: "bios",
    Firmware.FIRMWARE_BIOS: "bios",
    Firmware.FIRMWARE_UEFI: "uefi",
    Firmware.FIRMWARE_UEFI_SECURE_BOOT: "uefi-secure-boot",
}


def configure_firmware(domain: Domain, spec: DomainSpec, host: HostProfile) -> Domain:
    """libvirt chooses the image among those that the distribution describes, by the features that are asked for."""
    name = _NAMES[spec.firmware]
    if name not in host.firmwares:
        raise CapabilityMissing(f"firmware: this node has no {name} firmware for {host.machine}")
    if name == "bios":
        return domain
    secure = name == "uefi-secure-boot"
    selection = FirmwareSelection(
        # Enrolled keys are what makes secure boot refuse anything; without it they must not be there.
        (FirmwareFeature(secure, "enrolled-keys"), FirmwareFeature(secure, "secure-boot"))
    )
    domain = replace(domain, os=replace(domain.os or Os(), firmware="efi", selection=selection))
    if not secure:
        return domain
    # The guest must not be able to rewrite its keys: variables are written in system management mode only.
    return replace(domain, features=replace(domain.features or Features(), smm=Smm(state=True)))
