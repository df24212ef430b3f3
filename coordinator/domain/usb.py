"""USB devices for which another one of their model can stand in."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from coordinator.domain.device import DeviceKind, DeviceWish

# Key of `Instance.options`: models of which another device is as good to the instance, as its owner says.
REPLACEABLE: Final = "usbReplaceable"


def model_of(attributes: Mapping[str, str]) -> str:
    """Ids of vendor and product, "0951:1666"; empty where one is not known."""
    vendor, product = attributes.get("vendor", ""), attributes.get("product", "")
    return f"{vendor}:{product}" if vendor and product else ""


def is_replaceable(attributes: Mapping[str, str], options: Mapping[str, Any]) -> bool:
    """Whether an instance with these `Instance.options` does as well with another device of the same model.

    Only its owner knows: what is behind a key, a serial adapter or a stick is not to be seen from outside.
    """
    return model_of(attributes) in options.get(REPLACEABLE, ())


def make_wishes(devices: Iterable[Mapping[str, str]]) -> tuple[DeviceWish, ...]:
    """As many devices of the same models, given the attributes of each."""
    counts = Counter((it.get("vendor", ""), it.get("product", "")) for it in devices)
    return tuple(
        DeviceWish(
            DeviceKind.USB,
            count,
            attributes={"vendor": frozenset({vendor}), "product": frozenset({product})},
        )
        for (vendor, product), count in sorted(counts.items())
    )
