"""Takes an address back from DHCP before its lease ends.

dnsmasq keeps the lease of a guest that is gone, and then refuses the address to the next guest that it is meant for.
A DHCPRELEASE in the name of the old guest, sent on the network's bridge, ends the lease. Source: RFC 2131, 4.4.4.
"""

from __future__ import annotations

import secrets
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

_SERVER_PORT: Final = 67
_REQUEST, _ETHERNET, _MAC_BYTES = 1, 1, 6
_MAGIC_COOKIE: Final = bytes((99, 130, 83, 99))
_MESSAGE_TYPE, _SERVER_ID, _CLIENT_ID, _END = 53, 54, 61, 255
_RELEASE: Final = 7


@dataclass(frozen=True)
class ReleaseRequest:
    """Whose address is given back to which server."""

    mac_address: str
    ip_address: IPv4Address
    server_ip: IPv4Address
    # "ff:00:…", as the guest sent it; empty: it sent none.
    client_id: str = ""


def encode_release(request: ReleaseRequest) -> bytes:
    """The DHCPRELEASE message."""
    mac = bytes.fromhex(request.mac_address.replace(":", ""))
    header = struct.pack("!BBBBIHH", _REQUEST, _ETHERNET, _MAC_BYTES, 0, secrets.randbits(32), 0, 0)
    addresses = request.ip_address.packed + bytes(12)
    options = bytes((_MESSAGE_TYPE, 1, _RELEASE, _SERVER_ID, 4)) + request.server_ip.packed
    if request.client_id:
        client_id = bytes.fromhex(request.client_id.replace(":", ""))
        options += bytes((_CLIENT_ID, len(client_id))) + client_id
    return header + addresses + mac.ljust(16, b"\0") + bytes(192) + _MAGIC_COOKIE + options + bytes((_END,))


def send_release(request: ReleaseRequest, bridge: str) -> None:
    """Sends the message so that the server sees it come in on its bridge. Needs CAP_NET_RAW; raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bridge.encode() + b"\0")
        sender.sendto(encode_release(request), (str(request.server_ip), _SERVER_PORT))
