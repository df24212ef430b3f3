"""High availability in terms of the region: how long a node may be silent, and what makes sure that it is out."""

from enum import StrEnum
from typing import Final

# Seconds that operators can choose from.
TOLERANCES: Final = (30, 60, 120, 300, 600)
DEFAULT_TOLERANCE: Final = 120


class FenceKind(StrEnum):
    """What makes sure that a node runs none of its highly available guests."""

    SELF = "self"
    REDFISH = "redfish"
    IPMI = "ipmi"


class BmcKind(StrEnum):
    """What a management controller speaks."""

    REDFISH = "redfish"
    IPMI = "ipmi"
