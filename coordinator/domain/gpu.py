"""The catalogue of GPU models and of the vGPU types that they can be split into."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True)
class VgpuType:
    """A share of a GPU, under the id that its driver uses, or under its name where that id is not published."""

    type_id: str
    type_name: str
    memory_mib: int
    license: str

    @property
    def display_name(self) -> str:
        """As people read it, for example "NVIDIA GRID T4-1B (1GB)"."""
        name = self.type_name if self.type_name.startswith("NVIDIA ") else f"NVIDIA {self.type_name}"
        return f"{name} ({self.memory_mib // 1024}GB)"


@dataclass(frozen=True, slots=True)
class GpuModel:
    """A model; its PCI id is the vendor's and the device's, eight hexadecimal digits."""

    pci_id: str
    vendor: str
    product: str
    memory_gib: int
    vgpus: tuple[VgpuType, ...]

    def find_vgpu(self, type_id: str) -> VgpuType | None:
        """The vGPU type with that id, if this model has it."""
        return next((vgpu for vgpu in self.vgpus if vgpu.type_id == type_id), None)


@cache
def load_catalogue() -> dict[str, GpuModel]:
    """All models by PCI id, in the order of the file: vendors together."""
    text = resources.files("coordinator.data").joinpath("gpus.json").read_text(encoding="utf-8")
    models = [_parse(vendor["vendor"], entry) for vendor in json.loads(text) for entry in vendor["gpus"]]
    return {model.pci_id: model for model in models}


def _parse(vendor: str, entry: dict[str, Any]) -> GpuModel:
    vgpus = tuple(VgpuType(v["typeId"], v["typeName"], v["memoryMib"], v["license"]) for v in entry["vgpus"])
    return GpuModel(entry["pciId"], vendor, entry["product"], entry["memoryGib"], vgpus)
