"""Bodies that are lists."""

from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator

Item = TypeVar("Item")


def _unwrap(value: Any) -> Any:
    """Callers of this API also send the list as the field `object` of an object, or an only item without a list."""
    if not isinstance(value, dict):
        return value
    return value["object"] if set(value) == {"object"} else [value]


Batch = Annotated[list[Item], BeforeValidator(_unwrap)]
