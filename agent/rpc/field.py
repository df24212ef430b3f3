"""Fields of requests as values that can be trusted: each failure names its field."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError, ip_address
from typing import Final

from agent.errors import RequestInvalid

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_MAC_ADDRESS: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_HOSTNAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_GROUP_BIT: Final = 1


def parse_id(value: str, field: str) -> str:
    """An id that the coordinator chose; it becomes a part of file names."""
    if not _ID.fullmatch(value):
        raise RequestInvalid(f"{field}: letters, digits, '_' and '-', at most 64")
    return value


def parse_sha256(value: str, field: str) -> str:
    """A checksum in lower-case hex."""
    if not _SHA256.fullmatch(value):
        raise RequestInvalid(f"{field}: not a SHA-256 in lower-case hex")
    return value


def parse_positive(value: int, field: str) -> int:
    """A number above zero."""
    if value <= 0:
        raise RequestInvalid(f"{field}: more than 0")
    return value


def parse_mac_address(value: str, field: str) -> str:
    """The hardware address of one card."""
    if not _MAC_ADDRESS.fullmatch(value) or int(value[:2], 16) & _GROUP_BIT:
        raise RequestInvalid(f"{field}: not the address of one card, like 52:54:00:12:34:56")
    return value


def parse_hostname(value: str, field: str) -> str:
    """The first label of a host name, or nothing."""
    label = value.split(".", maxsplit=1)[0]
    if label and not _HOSTNAME.fullmatch(label):
        raise RequestInvalid(f"{field}: not a host name")
    return label


def parse_node_address(value: str, field: str) -> str:
    """The address of a node, IPv4 or IPv6."""
    try:
        return str(ip_address(value))
    except ValueError:
        raise RequestInvalid(f"{field}: not an address") from None


def parse_address(value: str, field: str) -> IPv4Address:
    """An IPv4 address."""
    try:
        return IPv4Address(value)
    except AddressValueError:
        raise RequestInvalid(f"{field}: not an IPv4 address") from None


def parse_cidr(value: str, field: str) -> IPv4Network:
    """An IPv4 network."""
    try:
        return IPv4Network(value)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise RequestInvalid(f"{field}: not an IPv4 network like 10.80.0.0/24") from None
