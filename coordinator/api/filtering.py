"""`filter` and `orderBy` of list operations: their grammar. Which fields a noun has, its queries say."""

import re
from typing import Annotated

from fastapi import Depends, Query

from coordinator.domain.listing import Comparison, Condition, Ordering
from coordinator.errors import ParameterInvalid

_COMPARISONS = "|".join(Comparison)
# A run of spaces is looked at once, from its first: the time stays linear for hostile texts, too.
_SEPARATOR = re.compile(rf"\||(?<!\s)\s+(?=\w+:(?:{_COMPARISONS}):)")
_CONDITION = re.compile(rf"(\w+):({_COMPARISONS}):(.*)", re.DOTALL)
_ORDERING = re.compile(r"(\w+)(?::(asc|desc))?", re.IGNORECASE)
_MAXIMUM_CONDITIONS = 32
_MAXIMUM_VALUES = 1000
_MAXIMUM_LENGTH = 32 * 1024


def parse_filter(text: str) -> tuple[Condition, ...]:
    """Conditions of `field:op:value|field:op:value`, also separated by spaces; all must hold."""
    parts = [part.strip() for part in _SEPARATOR.split(text) if part.strip()]
    if len(parts) > _MAXIMUM_CONDITIONS:
        raise ParameterInvalid(
            "filter", f"at most {_MAXIMUM_CONDITIONS} conditions", f"条件不能超过{_MAXIMUM_CONDITIONS}个"
        )
    return tuple(_parse_condition(part) for part in parts)


def parse_order(text: str) -> tuple[Ordering, ...]:
    """Sort keys of `field:desc,field:asc`; ascending when no direction is given."""
    return tuple(_parse_ordering(part.strip()) for part in text.split(",") if part.strip())


def _parse_condition(text: str) -> Condition:
    match = _CONDITION.fullmatch(text)
    if not match:
        raise ParameterInvalid(
            "filter",
            f"{text!r} is not field:op:value with op one of {', '.join(Comparison)}",
            f"{text!r}不符合field:op:value格式，op取值为{'、'.join(Comparison)}",
        )
    field, comparison, value = match[1], Comparison(match[2]), match[3].strip()
    values = tuple(item.strip() for item in value.split(",")) if comparison is Comparison.IN else (value,)
    if len(values) > _MAXIMUM_VALUES:
        raise ParameterInvalid("filter", f"{field}: at most {_MAXIMUM_VALUES} values", f"{field}的取值过多")
    return Condition(field, comparison, values)


def _parse_ordering(text: str) -> Ordering:
    match = _ORDERING.fullmatch(text)
    if not match:
        raise ParameterInvalid(
            "orderBy", f"{text!r} is not field:asc or field:desc", f"{text!r}不符合field:asc或field:desc格式"
        )
    return Ordering(match[1], descending=(match[2] or "").lower() == "desc")


async def _conditions(
    text: Annotated[
        str,
        Query(
            alias="filter",
            max_length=_MAXIMUM_LENGTH,
            description="Conditions `field:op:value`, separated by `|`; op is eq, ne, lk (contains), in, gt or lt.",
            examples=["name:lk:web|createdAt:gt:2026-01-01T00:00:00Z"],
        ),
    ] = "",
) -> tuple[Condition, ...]:
    return parse_filter(text)


async def _orderings(
    text: Annotated[
        str,
        Query(
            alias="orderBy",
            max_length=_MAXIMUM_LENGTH,
            description="Sort keys `field:asc` or `field:desc`.",
            examples=["created_at:desc"],
        ),
    ] = "",
) -> tuple[Ordering, ...]:
    return parse_order(text)


Conditions = Annotated[tuple[Condition, ...], Depends(_conditions)]
Orderings = Annotated[tuple[Ordering, ...], Depends(_orderings)]


def equal_to(**wanted: str | bool | None) -> tuple[Condition, ...]:
    """Conditions of query parameters that name one value each; those that are absent or empty are left out."""
    return tuple(
        Condition(field, Comparison.EQUAL, (str(value),)) for field, value in wanted.items() if value not in (None, "")
    )


def like(**wanted: str) -> tuple[Condition, ...]:
    """Conditions of query parameters that name a part of a text."""
    return tuple(Condition(field, Comparison.LIKE, (value,)) for field, value in wanted.items() if value)
