"""Devices that are asked for with an instance, and those that it has beside its flavor's."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class InfinibandOrder:
    """One InfiniBand adapter, by PCI ids of four hexadecimal digits; empty: any."""

    vendor_id: str = ""
    product_id: str = ""


@dataclass(frozen=True, slots=True)
class DeviceOrder:
    """How many devices of each kind an order names; 0: as many as the flavor has."""

    gpus: int = 0
    # PCI id of the GPUs; empty: as the flavor says.
    gpu_type: str = ""
    vgpus: int = 0
    local_disks: int = 0
    # Virtual functions of network cards.
    functions: int = 0
    infiniband: tuple[InfinibandOrder, ...] = ()


@dataclass(frozen=True, slots=True)
class ExtraDevices:
    """What an instance has for its whole life beside the devices of its flavor."""

    gpus: int = 0
    local_disks: int = 0
    functions: int = 0
    infiniband: tuple[InfinibandOrder, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As it is kept with the instance; empty for nothing."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "ExtraDevices":
        """What was kept."""
        adapters = tuple(InfinibandOrder(**adapter) for adapter in kept.get("infiniband", ()))
        return cls(**{**kept, "infiniband": adapters})
