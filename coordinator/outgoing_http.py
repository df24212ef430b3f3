"""Calls to addresses that people name, without letting them reach into our own network.

The HTTP client is imported when there is something to call: it takes 2 MB, and many clouds call nobody.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import httpx

_PORTS: Final = {"http": 80, "https": 443}
# Their last 32 bits are an IPv4 address, which gateways go on to: RFC 6052, section 2.1; RFC 4291, section 2.5.5.
_HOLDING_IPV4: Final = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::/96", "::ffff:0:0/96")))


class UrlUnsupported(Exception):
    """Not an http or https URL."""


class AddressPrivate(Exception):
    """The name means an address that is not public; the message is the name."""


async def send_pinned(
    client: httpx.AsyncClient,
    method: str,
    target: httpx.URL,
    *,
    private_allowed: bool,
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
) -> httpx.Response:
    """The answer, its body still to be read and to be closed. Redirections are the caller's to follow, checked anew.

    The name is resolved once, and the connection goes to the address that was checked: a name that changes its address
    in between changes nothing. UrlUnsupported, AddressPrivate, OSError of the resolution, or httpx.TransportError.
    """
    address = await _resolve(target, private_allowed=private_allowed)
    request = client.build_request(
        method,
        target.copy_with(host=address),
        headers={"host": target.netloc.decode(), **(headers or {})},
        content=content,
        extensions={"sni_hostname": target.host},
    )
    return await client.send(request, stream=True)


async def _resolve(target: httpx.URL, *, private_allowed: bool) -> str:
    if target.scheme not in _PORTS or not target.host:
        raise UrlUnsupported
    port = target.port or _PORTS[target.scheme]
    found = await asyncio.get_running_loop().getaddrinfo(target.host, port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
    if not private_allowed and not all(_is_public(address) for address in addresses):
        raise AddressPrivate(target.host)
    return str(addresses[0])


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.is_site_local:
            return False
        if any(address in prefix for prefix in _HOLDING_IPV4):
            return _is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address.is_global and not address.is_multicast
