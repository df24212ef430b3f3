"""ISO images in the optical drives of instances."""

from enum import StrEnum
from typing import Final

# Drives cannot be plugged in while a guest runs: each instance has so many from its start, empty until they are used.
OPTICAL_DRIVES: Final = 3


class IsoState(StrEnum):
    """What becomes of an image in a drive."""

    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"
