"""PCIe root ports: one for each device that is there, and free ones for devices that come later."""

from __future__ import annotations

from agent.configure.host_profile import HostProfile
from agent.domainxml.device import Controller, Devices
from agent.domainxml.domain import Domain
from protos.agent.v1.domain_pb2 import DomainSpec

_PCIE_CONTROLLERS = frozenset(("virtio-serial", "scsi"))


def configure_pcie(domain: Domain, _spec: DomainSpec, host: HostProfile) -> Domain:
    """Comes last, for it counts the others. q35 by itself has one or two free ports, and none can be added later."""
    count = _endpoint_count(domain.devices) + host.spare_pcie_ports
    ports = (Controller("pci", index, "pcie-root-port") for index in range(1, count + 1))
    return domain.with_devices(controllers=(Controller("pci", 0, "pcie-root"), *ports))


def _endpoint_count(devices: Devices) -> int:
    """Devices that libvirt plugs into a root port; those of the chipset, and the screen's, it does not."""
    return (
        len(devices.interfaces)
        + len(devices.rngs)
        + (devices.balloon is not None)
        + sum(disk.target.bus == "virtio" for disk in devices.disks)
        + sum(_is_pcie(controller) for controller in devices.controllers)
    )


def _is_pcie(controller: Controller) -> bool:
    return controller.type in _PCIE_CONTROLLERS or controller.model == "qemu-xhci"
