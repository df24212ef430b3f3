"""USB devices for which another one of their model can stand in."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from coordinator.domain.device import DeviceKind, DeviceWish

# Key of `Instance.options`: by model, whether another one of it is as good, where its owner has said so.
REPLACEABLE: Final = "usbReplaceable"
# USB-IF's classes of interfaces behind which somebody's data is: cameras and telephones, mass storage.
_WITH_DATA: Final = frozenset(("06", "08"))


def model_of(attributes: Mapping[str, str]) -> str:
    """Ids of vendor and product, "0951:1666"; empty where one is not known."""
    vendor, product = attributes.get("vendor", ""), attributes.get("product", "")
    return f"{vendor}:{product}" if vendor and product else ""


def is_replaceable(attributes: Mapping[str, str], options: Mapping[str, Any]) -> bool:
    """Whether an instance with these `Instance.options` does as well with another device of the same model.

    Its owner's word counts; without one it does unless the device holds data, or its node does not tell what it is.
    """
    model = model_of(attributes)
    if not model:
        return False
    if (said := options.get(REPLACEABLE, {}).get(model)) is not None:
        return bool(said)
    classes = {name for name in attributes.get("classes", "").split(",") if name}
    return bool(classes) and not classes & _WITH_DATA


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
