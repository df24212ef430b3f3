"""Machine, firmware and SMBIOS: what runs before the guest's own code."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domainxml.element import ON_OFF, YES_NO, Element, attribute, child, children, presence, text


@dataclass(frozen=True)
class OsType(Element, tag="type"):
    """Machine and architecture."""

    name: str = text()
    arch: str | None = attribute("arch", default=None)
    machine: str | None = attribute("machine", default=None)


@dataclass(frozen=True)
class FirmwareFeature(Element, tag="feature"):
    """A feature that the firmware must have, or must not have."""

    enabled: bool = attribute("enabled", YES_NO)
    name: str = attribute("name")


@dataclass(frozen=True)
class FirmwareSelection(Element, tag="firmware"):
    """By what libvirt selects a firmware among those installed."""

    features: tuple[FirmwareFeature, ...] = children(FirmwareFeature)


@dataclass(frozen=True)
class Loader(Element, tag="loader"):
    """The firmware's image."""

    path: str = text()
    read_only: bool | None = attribute("readonly", YES_NO, default=None)
    secure: bool | None = attribute("secure", YES_NO, default=None)
    type: str | None = attribute("type", default=None)


@dataclass(frozen=True)
class Nvram(Element, tag="nvram"):
    """The firmware's variables, kept for each domain."""

    path: str = text()
    template: str | None = attribute("template", default=None)


@dataclass(frozen=True)
class Smbios(Element, tag="smbios"):
    """Where the guest's SMBIOS tables come from."""

    mode: str = attribute("mode")


@dataclass(frozen=True)
class Os(Element, tag="os"):
    """What the virtual machine starts with."""

    firmware: str | None = attribute("firmware", default=None)
    type: OsType = child(OsType, default=OsType("hvm"))
    selection: FirmwareSelection | None = child(FirmwareSelection, default=None)
    loader: Loader | None = child(Loader, default=None)
    nvram: Nvram | None = child(Nvram, default=None)
    smbios: Smbios | None = child(Smbios, default=None)


@dataclass(frozen=True)
class SystemEntry(Element, tag="entry"):
    """One value of an SMBIOS table."""

    name: str = attribute("name")
    value: str = text()


@dataclass(frozen=True)
class SystemTable(Element, tag="system"):
    """SMBIOS table 1, system information."""

    entries: tuple[SystemEntry, ...] = children(SystemEntry)


@dataclass(frozen=True)
class SystemInformation(Element, tag="sysinfo"):
    """SMBIOS tables of the guest."""

    type: str = attribute("type")
    system: SystemTable | None = child(SystemTable, default=None)


@dataclass(frozen=True)
class VmPort(Element, tag="vmport"):
    """The VMware I/O port."""

    state: bool = attribute("state", ON_OFF)


@dataclass(frozen=True)
class Smm(Element, tag="smm"):
    """System management mode."""

    state: bool = attribute("state", ON_OFF)


@dataclass(frozen=True)
class IoApic(Element, tag="ioapic"):
    """Which side emulates the I/O APIC."""

    driver: str = attribute("driver")


@dataclass(frozen=True)
class Features(Element, tag="features"):
    """Features of the virtual machine."""

    acpi: bool = presence("acpi")
    apic: bool = presence("apic")
    vmport: VmPort | None = child(VmPort, default=None)
    smm: Smm | None = child(Smm, default=None)
    io_apic: IoApic | None = child(IoApic, default=None)
