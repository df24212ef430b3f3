"""Tells systemd how far the process is; does nothing where nobody asked to be told."""

import os
import socket


def notify_ready() -> None:
    """The process does its work now."""
    _notify("READY=1")


def notify_stopping() -> None:
    """The process has begun to end."""
    _notify("STOPPING=1")


def _notify(state: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    # A leading "@" stands for the abstract name space.
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
        notifier.connect(address)
        notifier.sendall(state.encode())
