"""Base classes of request and answer models, and the spelling rules that all of them follow."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache, lru_cache
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from coordinator.domain.message import Message

NEVER = "0001-01-01T00:00:00Z"


def fold(name: str) -> str:
    """A field name reduced to what is compared: without case, and with l and I alike.

    Printed copies of the API confuse the two ("rpld", "vpclId" for rpId and vpcId).
    """
    return re.sub("i+", "i", name.casefold().replace("l", "i"))


# Half of the moments of a list are those of flavors that its instances share, or stand at two places of one row.
@lru_cache(maxsize=1024)
def format_moment(moment: datetime | None) -> str:
    """RFC 3339 with milliseconds and offset; the year 1 stands for never."""
    return NEVER if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# A moment as answers spell it; None becomes the "never" of the API.
Moment = Annotated[
    datetime | None,
    PlainSerializer(format_moment, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-03-14T09:26:53.589Z"]}),
]


class LenientModel(BaseModel):
    """A request body, read as callers of this API write it.

    Field names are camelCase, compared by `fold`; numbers and booleans may come as strings; null means absent, and so
    does an empty string where no text belongs; fields nobody knows are ignored.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    null_means_absent: ClassVar[bool] = True

    @model_validator(mode="before")
    @classmethod
    def _normalize_names(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        _reject_unstorable_text(value)
        names = _canonical_names(cls)
        normalized: dict[str, Any] = {}
        for given, content in value.items():
            canonical = names.get(fold(str(given)), str(given))
            # The exact spelling wins over a confused one.
            if not cls._is_absent(canonical, content) and (given == canonical or canonical not in normalized):
                normalized[canonical] = content
        return normalized

    @classmethod
    def _is_absent(cls, canonical: str, content: Any) -> bool:
        if content is None:
            return cls.null_means_absent
        return content == "" and canonical in _names_without_text(cls)


class AnswerModel(BaseModel):
    """Part of an answer: camelCase on the wire, built from rows or by keyword."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        serialize_by_alias=True,
        from_attributes=True,
        json_schema_serialization_defaults_required=True,
    )


def _reject_unstorable_text(value: Any) -> None:
    """Databases store no NUL character, and UTF-8 has no half of a surrogate pair."""
    for text in _texts(value):
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise FieldError("contains a NUL character or is not valid Unicode", "包含空字符或非法的Unicode字符")


def _texts(value: Any) -> Iterator[str]:
    # A stack, not recursion: the depth is the caller's choice.
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            pending += item


@cache
def _canonical_names(model: type[BaseModel]) -> dict[str, str]:
    names: dict[str, str] = {}
    for name, field in model.model_fields.items():
        canonical, *others = _spellings(name, field)
        for spelling in (name, *others, canonical):
            names[fold(spelling)] = canonical
    return names


@cache
def _names_without_text(model: type[BaseModel]) -> frozenset[str]:
    """Canonical names of the fields whose values are no texts."""
    return frozenset(
        _spellings(name, field)[0] for name, field in model.model_fields.items() if not _admits_text(field.annotation)
    )


def _admits_text(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin in (Union, UnionType, Annotated):
        return any(_admits_text(part) for part in get_args(annotation))
    return origin is Literal or (isinstance(annotation, type) and issubclass(annotation, str))


def _spellings(name: str, field: FieldInfo) -> list[str]:
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [alias if isinstance(alias, str) else name]


class FieldError(ValueError):
    """What a validator of ours has against a value, in both languages."""

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.message = Message(en, zh)


def zero_or(minimum: int, maximum: int) -> AfterValidator:
    """Admits 0, which stands for none, and the range."""

    def check(value: int) -> int:
        if value and not minimum <= value <= maximum:
            raise FieldError(f"0, or {minimum} to {maximum}", f"取值为0，或{minimum}到{maximum}")
        return value

    return AfterValidator(check)
