"""Reading images from the URLs that callers name, without letting them read from inside our own network.

The HTTP client is imported when there is something to fetch: it takes 2 MB, and most clouds upload their images.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from coordinator.agents.client import AgentCallError
from coordinator.errors import ImageUnusable

if TYPE_CHECKING:
    import httpx

_MAXIMUM_REDIRECTS: Final = 5
_TIMEOUT_SECONDS: Final = 30.0
_PORTS: Final = {"http": 80, "https": 443}


@asynccontextmanager
async def open_url(url: str, *, private_allowed: bool) -> AsyncIterator[httpx.Response]:
    """The answer of `url`, its body still to be read; ImageUnusable when it may not be, or cannot ever be, read.

    Every hop's name is resolved once, and the connection goes to the address that was checked: a name that changes its
    address in between changes nothing.
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

    address = await _resolve(target, private_allowed=private_allowed)
    request = client.build_request(
        "GET",
        target.copy_with(host=address),
        headers={"host": target.netloc.decode(), "accept-encoding": "identity"},
        extensions={"sni_hostname": target.host},
    )
    try:
        return await client.send(request, stream=True)
    except httpx.TransportError as error:
        raise unreachable(target.host, error) from error


async def _resolve(target: httpx.URL, *, private_allowed: bool) -> str:
    if target.scheme not in _PORTS or not target.host:
        raise _unusable("must be an http or https URL", "必须是http或https地址")
    port = target.port or _PORTS[target.scheme]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(target.host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise unreachable(target.host, error) from error
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
    if not private_allowed and not all(address.is_global for address in addresses):
        raise _unusable(f"{target.host} is inside a private network", f"{target.host}位于内部网络")
    return str(addresses[0])


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
