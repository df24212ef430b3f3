"""Kinds of volumes."""

from typing import Final

# Storage classes as tenants see them; each node maps them to what it has.
VOLUME_TYPES: Final = ("hdd", "ssd", "essd")
