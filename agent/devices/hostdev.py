"""Names under which those who know what guests have, and those who look for a device's user, mean the same device."""

from __future__ import annotations

from typing import Final

_USED_BY: Final = "used by domain "


def name_pci(address: str) -> str:
    """A PCI function, "0000:3b:00.0"."""
    return f"pci {address}"


def name_mdev(uuid: str) -> str:
    """A mediated device."""
    return f"mdev {uuid.lower()}"


def name_usb_place(bus: int, device: int) -> str:
    """A USB device where it is plugged now."""
    return f"usb {bus}:{device}"


def describe_user(domain: str) -> str:
    """Why a device that a domain has is withheld."""
    return f"{_USED_BY}{domain}"


def tells_user(reason: str) -> bool:
    """Whether a device is withheld because a domain has it."""
    return reason.startswith(_USED_BY)


def name_usb_id(vendor_id: str, product_id: str) -> str:
    """Any USB device of a kind; four hexadecimal digits each."""
    return f"usb {vendor_id}:{product_id}"
