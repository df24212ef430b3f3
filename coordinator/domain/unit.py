"""Quantities: conversions between the units that the API, libvirt and the database speak."""

import re

KIB = 1024
MIB = 1024**2
GIB = 1024**3
TIB = 1024**4

_AMOUNT = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(Ki|Mi|Gi|Ti|K|M|G|T|)B?\s*$")
_FACTORS = {
    "": 1,
    "Ki": KIB,
    "Mi": MIB,
    "Gi": GIB,
    "Ti": TIB,
    "K": 1000,
    "M": 1000**2,
    "G": 1000**3,
    "T": 1000**4,
}


def parse_amount_bytes(text: str) -> int:
    """Bytes of an amount such as "1Gi", "512Mi" or "2G" (decimal); ValueError when it is none."""
    match = _AMOUNT.match(text)
    if not match:
        raise ValueError(f"not an amount: {text!r}")
    return int(float(match[1]) * _FACTORS[match[2]])


def format_bytes(amount_bytes: int) -> str:
    """For people: "8 GiB", "3.2 GiB", "512 MiB"; rounded down, so that no more is promised than there is."""
    for unit_bytes, name in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if amount_bytes >= unit_bytes:
            tenths = amount_bytes * 10 // unit_bytes
            return f"{tenths // 10} {name}" if tenths % 10 == 0 else f"{tenths / 10} {name}"
    return f"{amount_bytes} B"
