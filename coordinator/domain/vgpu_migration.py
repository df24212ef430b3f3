"""vGPUs that guests take along while they run, because both nodes can move them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from coordinator.domain.device import DeviceKind, DeviceWish

# Attribute of GPUs whose node moves running guests with their vGPUs: between drivers of the same release alone.
DRIVER_RELEASE: Final = "vgpu_migration"
# A state can be loaded by a GPU of the same model alone.
_MODEL: Final = ("vendor", "product")
_SPLIT: Final = "vgpu"


def goes_along(kind: str, attributes: Mapping[str, str]) -> bool:
    """Whether a running guest takes along what it has of this device, which another node must have, too."""
    return kind == DeviceKind.GPU and attributes.get("mode") == _SPLIT and bool(attributes.get(DRIVER_RELEASE))


def is_alike(attributes: Mapping[str, str], others: Mapping[str, str]) -> bool:
    """Whether a GPU is split, and of the model of another one."""
    return attributes.get("mode") == _SPLIT and all(attributes.get(name) == others.get(name) for name in _MODEL)


def ask_alike(wishes: Iterable[DeviceWish], held: Iterable[Mapping[str, str]]) -> tuple[DeviceWish, ...]:
    """The wishes of an instance that runs, those for vGPUs of GPUs like the ones, of these attributes, that it has."""
    attributes = list(held)
    alike = {name: frozenset(it.get(name, "") for it in attributes) for name in (DRIVER_RELEASE, *_MODEL)}
    return tuple(_ask_alike(wish, alike) if attributes else wish for wish in wishes)


def _ask_alike(wish: DeviceWish, alike: Mapping[str, frozenset[str]]) -> DeviceWish:
    if wish.kind != DeviceKind.GPU or wish.attributes.get("mode") != frozenset({_SPLIT}):
        return wish
    return replace(wish, attributes={**wish.attributes, **alike})
