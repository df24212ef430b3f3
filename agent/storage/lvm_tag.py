"""What is noted of logical volumes in their tags, because LVM cannot tell it."""

from __future__ import annotations

import re
from typing import Final

from agent.errors import RequestInvalid
from agent.storage.base import Volume, VolumeSpec
from agent.storage.lvm_tool import LogicalVolume

# Of names.
PREFIX: Final = "nw-"
COMPLETE: Final = "nodewright"
MAKING: Final = "nodewright_making"
# Half made as well, by a transfer: what is in it is nothing that anybody else could go on with.
RESERVED: Final = "nodewright_reserved"
ZERO: Final = "nodewright_zero_"
TYPE: Final = "nodewright_type_"
IMAGE: Final = "nodewright_image_"
TRANSFER: Final = "nodewright_transfer_"
SHARED: Final = "nodewright_shared"
# What LVM admits in tags, and nothing else.
_TAG: Final = re.compile(r"[A-Za-z0-9_.-]{0,64}")


def tell(spec: VolumeSpec) -> tuple[str, ...]:
    """What is noted of a new volume. Raises RequestInvalid."""
    if not _TAG.fullmatch(spec.volume_type):
        raise RequestInvalid("volume_type: letters, digits, '.', '_' and '-', at most 64")
    image = (f"{IMAGE}{spec.image_id}",) if spec.image_id else ()
    return (f"{TYPE}{spec.volume_type}", *image, *((SHARED,) if spec.shared else ()))


def read_tag(found: LogicalVolume, prefix: str) -> str:
    """What the tag with this prefix tells; empty without it."""
    return next((tag.removeprefix(prefix) for tag in found.tags if tag.startswith(prefix)), "")


def describe(found: LogicalVolume) -> Volume:
    """A complete volume, by its tags."""
    share = 100.0 if found.used_percent is None else found.used_percent
    return Volume(
        uuid=found.name.removeprefix(PREFIX),
        size_bytes=found.size_bytes,
        allocated_bytes=int(found.size_bytes * share / 100),
        volume_type=read_tag(found, TYPE),
        image_id=read_tag(found, IMAGE) or None,
        transfer_id=read_tag(found, TRANSFER),
        shared=SHARED in found.tags,
        backend="lvm-thin" if found.pool else "lvm",
    )
