"""Columns of numbers, a row a host, that grow as hosts come."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

BoolColumn = NDArray[np.bool_]
FloatColumn = NDArray[np.float64]
IntColumn = NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)

FIRST_ROOM = 64


def widened(columns: NDArray[Scalar]) -> NDArray[Scalar]:
    """Room for twice as many hosts."""
    return np.concatenate((columns, np.zeros_like(columns)), axis=-1)


def deepened(columns: NDArray[Scalar], depth: int) -> NDArray[Scalar]:
    """At least so many columns, the new ones zero."""
    missing = depth - len(columns)
    if missing <= 0:
        return columns
    return np.concatenate((columns, np.zeros((missing, *columns.shape[1:]), columns.dtype)))
