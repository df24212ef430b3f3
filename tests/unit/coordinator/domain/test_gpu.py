"""The catalogue of GPUs: what holds for each model and for each vGPU type."""

import json
import re
from importlib import resources

import pytest

from coordinator.domain.gpu import GpuModel, load_catalogue

# By the last letter of a type's name (NVIDIA vGPU software user guide, "Virtual GPU Types for Supported GPUs").
LICENSES = {"Q": "vWS", "B": "vPC or vWS", "A": "vApps", "C": "vCS or vWS"}

MODELS = [pytest.param(model, id=model.product) for model in load_catalogue().values()]


def test_no_two_models_have_one_pci_id() -> None:
    text = resources.files("coordinator.data").joinpath("gpus.json").read_text(encoding="utf-8")
    written = [entry["pciId"] for vendor in json.loads(text) for entry in vendor["gpus"]]
    assert len(written) == len(set(written)) == len(load_catalogue())


@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_identified_and_has_memory(model: GpuModel) -> None:
    assert re.fullmatch(r"[0-9a-f]{8}", model.pci_id)
    assert model.vendor
    assert model.product
    assert model.memory_gib > 0


@pytest.mark.parametrize("model", MODELS)
def test_no_two_types_of_a_model_have_one_id_or_name(model: GpuModel) -> None:
    assert len({vgpu.type_id for vgpu in model.vgpus}) == len(model.vgpus)
    assert len({vgpu.type_name for vgpu in model.vgpus}) == len(model.vgpus)
    assert all(model.find_vgpu(vgpu.type_id) is vgpu for vgpu in model.vgpus)


@pytest.mark.parametrize("model", MODELS)
def test_types_are_what_their_names_say(model: GpuModel) -> None:
    for vgpu in model.vgpus:
        name = re.fullmatch(r"(?:GRID|NVIDIA) ([\w-]+-(\d+)([QBAC]))", vgpu.type_name)
        assert name, vgpu
        assert vgpu.memory_mib == int(name[2]) * 1024, vgpu
        assert 0 < vgpu.memory_mib <= model.memory_gib * 1024, vgpu
        assert vgpu.license == LICENSES[name[3]], vgpu
        assert vgpu.type_id == name[1] or re.fullmatch(r"nvidia-\d+", vgpu.type_id), vgpu


@pytest.mark.parametrize(
    ("pci_id", "type_id", "display_name"),
    [
        ("10de13f2", "nvidia-22", "NVIDIA GRID M60-8Q (8GB)"),
        ("10de1eb8", "nvidia-231", "NVIDIA GRID T4-2Q (2GB)"),
        ("10de2330", "H100XM-80C", "NVIDIA H100XM-80C (80GB)"),
        ("10de26b1", "nvidia-941", "NVIDIA RTX6000-Ada-1Q (1GB)"),
        ("10de26b9", "nvidia-1152", "NVIDIA L40S-8Q (8GB)"),
        ("10de27b8", "nvidia-917", "NVIDIA L4-24Q (24GB)"),
    ],
)
def test_a_type_is_found_by_its_id(pci_id: str, type_id: str, display_name: str) -> None:
    vgpu = load_catalogue()[pci_id].find_vgpu(type_id)
    assert vgpu
    assert vgpu.display_name == display_name


def test_a_type_of_another_model_is_not_found() -> None:
    assert load_catalogue()["10de27b8"].find_vgpu("nvidia-231") is None
