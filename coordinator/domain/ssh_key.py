"""SSH keys of tenants, and how far a binding to an instance has come."""

from enum import StrEnum
from typing import Final

MAXIMUM_KEYS_OF_INSTANCE: Final = 16


class BindingState(StrEnum):
    """What the guest knows of a binding: it is to be told, it was told, or it is to forget."""

    PENDING = "pending"
    BOUND = "bound"
    REMOVING = "removing"


# What callers see as bound; whose removal was asked for is bound no more.
WANTED_STATES: Final = (BindingState.PENDING, BindingState.BOUND)
# What a guest has still to be told.
OPEN_STATES: Final = (BindingState.PENDING, BindingState.REMOVING)


def blob_of(line: str) -> str:
    """The key itself in a line of OpenSSH's form: what stays the same under another comment."""
    return ([*line.split(" ", 2), "", ""])[1]
