"""Addresses of controllers that speak IPMI."""

from typing import Final

_PORT: Final = 623


def split_host(address: str) -> tuple[str, int]:
    """Host and port of "host", "host:port", "[host]:port" or a bare IPv6 address; ValueError for no port."""
    host, colon, port = address.rpartition(":")
    is_bare = not colon or address.endswith("]") or (":" in host and not host.startswith("["))
    if is_bare:
        return address.strip("[]"), _PORT
    return host.strip("[]"), int(port)
