"""Query parameters as callers of this API write them."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from coordinator.api.schemas.base import fold

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class LenientRoute(APIRoute):
    """Routes whose parameters' names are compared by `fold`, and where empty values mean absent.

    For each router with queries: `APIRouter(route_class=LenientRoute)`.
    """

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        names = {fold(name): name for name in _parameter_names(self.dependant)}

        async def handle_leniently(request: Request) -> Response:
            request.scope["query_string"] = _normalize(request.scope["query_string"], names)
            return await handle(request)

        return handle_leniently


def _parameter_names(dependant: Dependant) -> set[str]:
    own = {field.alias for field in dependant.query_params}
    return own.union(*(_parameter_names(part) for part in dependant.dependencies))


def _normalize(query: bytes, names: Mapping[str, str]) -> bytes:
    """The query with the names that the route knows, and without empty values."""
    given = [(names.get(fold(name), name), value, name) for name, value in parse_qsl(query.decode("latin-1"))]
    # Of several values the last one counts: the exact spelling wins over a confused one.
    given.sort(key=lambda item: item[0] == item[2])
    return urlencode([(name, value) for name, value, _ in given]).encode()
