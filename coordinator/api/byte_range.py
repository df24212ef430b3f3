"""The header `Range` of downloads: one range of bytes (RFC 9110, 14.1.2)."""

import re
from typing import Final

_RANGE: Final = re.compile(r"bytes\s*=\s*(\d{0,18})-(\d{0,18})")


class RangeUnsatisfiable(Exception):
    """It lies beyond the end."""


def parse_range(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """First and last position, both included; None: all of it, also for what is not understood, as the RFC wants it.

    Raises RangeUnsatisfiable.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        if not int(last) or not size_bytes:
            raise RangeUnsatisfiable
        return max(0, size_bytes - int(last)), size_bytes - 1
    if last and int(last) < int(first):
        return None
    if int(first) >= size_bytes:
        raise RangeUnsatisfiable
    return int(first), min(int(last), size_bytes - 1) if last else size_bytes - 1
