"""PCIe root ports: one for each device that is there, and free ones for devices that come later."""

from __future__ import annotations

from agent.configure.host_profile import HostProfile
from agent.domainxml.device import Controller, Devices
from agent.domainxml.domain import Domain
from agent.domainxml.hostdev import Hostdev
from protos.agent.v1.domain_pb2 import DomainSpec

_PCIE_CONTROLLERS = frozenset(("virtio-serial", "scsi"))


def configure_pcie(domain: Domain, _spec: DomainSpec, host: HostProfile) -> Domain:
    """Comes last, for it counts the others. q35 by itself has one or two free ports, and none can be added later."""
    ports = (Controller("pci", index, "pcie-root-port") for index in range(1, count_ports(domain.devices, host) + 1))
    return domain.with_devices(controllers=(Controller("pci", 0, "pcie-root"), *ports))


def count_ports(devices: Devices, host: HostProfile) -> int:
    """How many root ports a guest with these devices has; their indices begin at 1."""
    return _endpoint_count(devices) + host.spare_pcie_ports


def _endpoint_count(devices: Devices) -> int:
    """Devices that libvirt plugs into a root port; those of the chipset, and the screen's, it does not."""
    return (
        len(devices.interfaces)
        + len(devices.rngs)
        + (devices.balloon is not None)
        + sum(disk.target.bus == "virtio" for disk in devices.disks)
        + sum(_is_pcie(controller) for controller in devices.controllers)
        + sum(_takes_port(hostdev) for hostdev in devices.hostdevs)
    )


def _takes_port(hostdev: Hostdev) -> bool:
    """The functions of one card share a port."""
    if hostdev.address is not None:
        return hostdev.address.multifunction is True
    return hostdev.type == "pci" or hostdev.model == "vfio-pci"


def _is_pcie(controller: Controller) -> bool:
    return controller.type in _PCIE_CONTROLLERS or controller.model == "qemu-xhci"
