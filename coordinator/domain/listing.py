"""What a caller asks of a list: a page, conditions, an order; and the answer."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

Item = TypeVar("Item")

DEFAULT_PAGE_SIZE = 20
MAXIMUM_PAGE_SIZE = 1000
# Keeps the offset within what both databases can count.
MAXIMUM_PAGE_NUMBER = 1_000_000


@dataclass(frozen=True, slots=True)
class Page:
    """One page; the first has number 1."""

    size: int = DEFAULT_PAGE_SIZE
    number: int = 1

    @property
    def offset(self) -> int:
        """How many items lie before the page."""
        return (self.number - 1) * self.size


class Comparison(StrEnum):
    """How a field is compared with a value of the caller's."""

    EQUAL = "eq"
    NOT_EQUAL = "ne"
    # The value is a part of the field's text, whatever its case.
    LIKE = "lk"
    # The field is one of the values.
    IN = "in"
    GREATER = "gt"
    LESS = "lt"


@dataclass(frozen=True, slots=True)
class Condition:
    """`field` as the caller spelled it; one value, several only for IN."""

    field: str
    comparison: Comparison
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ordering:
    """Sort key; the first of several weighs most."""

    field: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A page of the resources that fulfil all conditions."""

    page: Page = Page()
    conditions: tuple[Condition, ...] = ()
    orderings: tuple[Ordering, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing(Generic[Item]):
    """One page of items, and how many there are on all pages."""

    items: tuple[Item, ...]
    total: int
