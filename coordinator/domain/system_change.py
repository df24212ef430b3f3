"""What system an instance is to have."""

from dataclasses import dataclass, field


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
