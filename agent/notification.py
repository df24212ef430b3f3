"""Tells systemd how the service is. Source: sd_notify(3)."""

from __future__ import annotations

import os
import socket


def notify_systemd(state: str) -> None:
    """Sends for example "READY=1"; does nothing when systemd has not asked for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
        sender.sendall(state.encode())
