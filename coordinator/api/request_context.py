"""What belongs to the request in progress: its id, its caller's language, and what the log line will say."""

from contextvars import ContextVar
from dataclasses import dataclass

from coordinator.domain.caller import Caller


@dataclass(slots=True)
class RequestContext:
    """One request; the same object is seen by the middleware and by the route's thread."""

    request_id: str
    # "zh" or "en".
    language: str
    # A route that takes more than others sets a higher one before it reads.
    body_limit_bytes: int
    # Known once the caller is authenticated.
    caller: Caller | None = None
    # Of the answer, if it tells of a failure.
    code: str = ""
    # Ids of what the answer shows.
    answered_ids: tuple[str, ...] = ()

    @property
    def token_id(self) -> str:
        """Of the caller's token; empty before it is known."""
        return self.caller.token_id if self.caller else ""


_current: ContextVar[RequestContext | None] = ContextVar("request", default=None)


def current_request() -> RequestContext:
    """The request being answered; LookupError outside of one."""
    context = _current.get()
    if context is None:
        raise LookupError("no request is being answered")
    return context


def enter_request(context: RequestContext) -> None:
    """Makes `context` the current one for this asyncio task and the threads that it uses."""
    _current.set(context)


def preferred_language(accept_language: str) -> str:
    """ "en" or "zh", whichever the header ranks higher; Chinese when it names neither."""
    ranked: list[tuple[float, int, str]] = []
    for position, item in enumerate(accept_language.split(",")):
        tag, _, parameters = item.partition(";")
        language = tag.strip().lower().split("-")[0]
        if language in {"en", "zh"}:
            ranked.append((-_quality(parameters), position, language))
    return min(ranked)[2] if ranked else "zh"


def _quality(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0
