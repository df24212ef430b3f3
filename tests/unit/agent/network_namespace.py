"""Networks of their own for tests: real sockets, links and packet filters that nobody else sees."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class NetworkNamespace:
    """A network that starts with nothing but a loopback. It ends when it is closed, or with this process."""

    def __init__(self) -> None:
        self._handle = _in_thread(_unshare)
        self.ip("link", "set", "lo", "up")

    def run(self, function: Callable[[], T]) -> T:
        """What the function answers inside; sockets that it makes stay there, wherever they are used."""

        def enter() -> T:
            _require(_libc.setns(self._handle, _CLONE_NEWNET))
            return function()

        return _in_thread(enter)

    def run_async(self, function: Callable[[], Awaitable[T]]) -> T:
        """The same for a coroutine."""

        async def call() -> T:
            return await function()

        return self.run(lambda: asyncio.run(call()))

    def execute(self, *command: str) -> str:
        """What a command prints that runs inside."""
        return self.run(lambda: subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def ip(self, *arguments: str) -> str:
        """Runs ip(8) inside."""
        return self.execute("ip", *arguments)

    def connect(self, link: str, address: str, other: NetworkNamespace, other_link: str, other_address: str) -> None:
        """A cable to another network; an empty address leaves that end without one."""
        place = f"/proc/{os.getpid()}/fd/{other._handle}"
        self.ip("link", "add", link, "type", "veth", "peer", "name", other_link, "netns", place)
        self.bring_up(link, address)
        other.bring_up(other_link, other_address)

    def bring_up(self, link: str, address: str) -> None:
        """The link works, with this address."""
        if address:
            self.ip("address", "add", address, "dev", link)
        self.ip("link", "set", link, "up")

    def set_kernel(self, path: str, value: str) -> None:
        """A setting below /proc/sys/net."""
        self.run(lambda: Path("/proc/sys/net", path).write_text(value))

    def close(self) -> None:
        """Gives it up; the kernel removes it with its last socket."""
        os.close(self._handle)


@contextlib.contextmanager
def network_namespaces(count: int) -> Iterator[list[NetworkNamespace]]:
    """Fresh networks; skips the test where this user may not make any."""
    if os.geteuid() != 0:
        pytest.skip("only root makes networks")
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            try:
                namespace = NetworkNamespace()
            except PermissionError:
                pytest.skip("no networks can be made here")
            stack.callback(namespace.close)
            made.append(namespace)
        yield made


def _unshare() -> int:
    _require(_libc.unshare(_CLONE_NEWNET))
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _require(status: int) -> None:
    if status:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _in_thread(function: Callable[[], T]) -> T:
    """A thread alone enters a network; it ends with the function, and so returns to none."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return outcome.result()
