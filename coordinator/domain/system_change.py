"""What system an instance is to have, and from what it starts."""

from dataclasses import dataclass, field
from enum import IntEnum


class BootMode(IntEnum):
    """From what an instance starts; the numbers are the API's."""

    DISK = 0
    OPTICAL_DRIVE = 1


@dataclass(frozen=True, slots=True)
class SystemOrder:
    """A system as a caller names it. Empty strings mean "not given"."""

    # The one that it has, unless given: it is installed anew.
    image_id: str = ""
    # Whose password it is; root's and the default user's unless given.
    user: str = ""
    # The one that it has stays unless given.
    password: str = field(default="", repr=False)
    # Whether the new system has booted only when its guest agent answers; None: if the old one's does.
    expects_guest_agent: bool | None = None
