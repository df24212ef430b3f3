"""Reading images from the URLs that callers name, without letting them read from inside our own network.

The HTTP client is imported when there is something to fetch: it takes 2 MB, and most clouds upload their images.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from coordinator.agents.client import AgentCallError
from coordinator.errors import ImageUnusable
from coordinator.outgoing_http import AddressPrivate, UrlUnsupported, send_pinned

if TYPE_CHECKING:
    import httpx

_MAXIMUM_REDIRECTS: Final = 5
_TIMEOUT_SECONDS: Final = 30.0


@asynccontextmanager
async def open_url(url: str, *, private_allowed: bool) -> AsyncIterator[httpx.Response]:
    """The answer of `url`, its body still to be read; ImageUnusable when it may not be, or cannot ever be, read.

    Every hop is checked.
    """
    import httpx

    try:
        target = httpx.URL(url)
    except httpx.InvalidURL:
        raise _unusable("is not a URL", "不是合法的URL") from None
    # Proxies of the environment would resolve names themselves.
    async with httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT_SECONDS) as client:
        for _ in range(_MAXIMUM_REDIRECTS + 1):
            response = await _request(client, target, private_allowed=private_allowed)
            if response.next_request is None:
                break
            target = target.join(response.headers["location"])
            await response.aclose()
        else:
            raise _unusable("too many redirects", "重定向次数过多")
        try:
            _check_status(response)
            yield response
        finally:
            await response.aclose()


async def _request(client: httpx.AsyncClient, target: httpx.URL, *, private_allowed: bool) -> httpx.Response:
    import httpx

    try:
        return await send_pinned(
            client, "GET", target, private_allowed=private_allowed, headers={"accept-encoding": "identity"}
        )
    except UrlUnsupported:
        raise _unusable("must be an http or https URL", "必须是http或https地址") from None
    except AddressPrivate as error:
        raise _unusable(f"{error} is inside a private network", f"{error}位于内部网络") from None
    except (OSError, httpx.TransportError) as error:
        raise unreachable(target.host, error) from error


def _check_status(response: httpx.Response) -> None:
    if response.status_code >= 500 or response.status_code == 429:
        raise unreachable(response.url.host, RuntimeError(f"it answers {response.status_code}"))
    if response.status_code != 200:
        raise _unusable(f"its server answers {response.status_code}", f"服务器返回{response.status_code}")


def unreachable(host: str, error: Exception) -> AgentCallError:
    """A failure that another try may overcome."""
    return AgentCallError("ImageSourceUnavailable", f"{host}: {error}", transient=True)


def _unusable(en: str, zh: str) -> ImageUnusable:
    return ImageUnusable("url", en, zh)
