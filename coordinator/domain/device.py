"""Devices of hosts as the scheduler counts them: by kind and attributes, whatever they are."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

# A device is given out in thousandths: whole, or in slices where it can be shared.
WHOLE_MILLI: Final = 1000


class DeviceKind(StrEnum):
    """What a device is to those who ask for one."""

    GPU = "gpu"
    # A virtual function of a GPU, given out like a GPU of its own.
    GPU_VF = "gpu-vf"
    NIC = "nic"
    # A virtual function of a network card.
    VF = "vf"
    INFINIBAND = "infiniband"
    # What else is split into mediated devices.
    MDEV = "mdev"
    DISK = "disk"
    USB = "usb"


class DeviceState(StrEnum):
    """Whether a device can be had."""

    FREE = "free"
    # Somebody has it, or a slice of it.
    USED = "used"
    # Its node offers it to nobody.
    WITHHELD = "withheld"
    # It has failed, whoever has it.
    FAULTY = "faulty"
    # Somebody has it, but its node does not report it any more.
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class DeviceType:
    """What devices that nobody needs to tell apart have in common."""

    kind: str
    # Vendor, product, model, media, interface: what requests name.
    attributes: frozenset[tuple[str, str]] = frozenset()
    # Capacity of a disk, memory of a GPU; 0: of no meaning.
    size_bytes: int = 0
    # Slices of it can be given to several consumers.
    shareable: bool = False


@dataclass(frozen=True, slots=True)
class Device:
    """One device of one host."""

    # Stable on its host over reboots: a PCI address, a disk's WWN.
    id: str
    type: DeviceType
    # NUMA cell that it is attached to; -1: none, or not known.
    cell: int = -1
    used_milli: int = 0

    @property
    def free_milli(self) -> int:
        return WHOLE_MILLI - self.used_milli

    def taken(self, milli: int) -> "Device":
        """With that much less of it free."""
        return replace(self, used_milli=self.used_milli + milli)


@dataclass(frozen=True, slots=True)
class DeviceWish:
    """Devices that a consumer asks for: any that have, of each attribute that is named, one of the values."""

    kind: str
    count: int = 1
    # Of each; less than whole only of devices that can be shared.
    milli: int = WHOLE_MILLI
    # An empty value stands for devices without the attribute.
    attributes: Mapping[str, frozenset[str]] = field(default_factory=dict, hash=False)
    least_bytes: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for what no device can be."""
        if self.count < 1 or self.least_bytes < 0:
            raise ValueError("a wish is for one device at least")
        if not 0 < self.milli <= WHOLE_MILLI:
            raise ValueError(f"a share is 1 to {WHOLE_MILLI} milli, not {self.milli}")
        if self.count > 1 and self.is_share:
            raise ValueError("several devices can be had only whole")

    @property
    def is_share(self) -> bool:
        return self.milli < WHOLE_MILLI

    def accepts(self, offered: DeviceType) -> bool:
        """Whether devices of the type will do."""
        if offered.kind != self.kind or offered.size_bytes < self.least_bytes:
            return False
        if self.is_share and not offered.shareable:
            return False
        present = dict(offered.attributes)
        return all(present.get(name, "") in values for name, values in self.attributes.items())


@dataclass(frozen=True, slots=True)
class DeviceShare:
    """A named device, or a slice of it, that a consumer is given. It may have several slices of one device."""

    device_id: str
    milli: int = WHOLE_MILLI


def sum_milli(shares: Iterable[DeviceShare]) -> dict[str, int]:
    """How much of each device that is."""
    sums: dict[str, int] = {}
    for share in shares:
        sums[share.device_id] = sums.get(share.device_id, 0) + share.milli
    return sums
