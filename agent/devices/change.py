"""When devices of the node may have changed: what is plugged, bound or written, and links that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final, Protocol

import pyudev
import structlog

from agent.facts.memory import EVERYWHERE, NETWORKS, Memory

_SUBSYSTEMS: Final = ("pci", "block", "usb", "net", "infiniband", "mdev")
# Made by software, all the time and for every guest: they tell nothing of devices.
_SOFTWARE: Final = re.compile(r"/devices/virtual/(net/.*|block/(loop|zram|ram|nbd|rbd)\d+(/.*)?)")
# Where udev is reached, and so tells by this that it runs.
_UDEV: Final = Path("/run/udev/control")
_BUFFER_BYTES: Final = 16 * 1024**2
# How many events are taken before others have their turn on the loop; the rest wakes it again.
_MOST_EVENTS: Final = 64

# Source: rtnetlink(7), the kernel's include/uapi/linux/rtnetlink.h.
_LINK_GROUPS: Final = 0x1 | 0x10 | 0x100  # links, IPv4 and IPv6 addresses
_HEADER: Final = struct.Struct("=IHHII")
_BODY: Final = struct.Struct("=BBBBI")  # of links and of addresses alike, as far as this goes
_LINKS: Final = frozenset((16, 17))
_ADDRESSES: Final = frozenset((20, 21))
_SCOPE_LINK: Final = 253
_MESSAGE_BYTES: Final = 64 * 1024

# A device comes with dozens of events: it is told of when none has come for this long, but not later than that.
_QUIET_SECONDS: Final = 0.1
_LONGEST_SECONDS: Final = 0.5
# What reading the devices of a large node takes is not to be taken all the time.
_REST_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)


class Source(Protocol):
    """Somebody who tells of changes."""

    def fileno(self) -> int:
        """What becomes readable when there is something to take."""

    def take(self) -> Collection[str]:
        """Takes some of what there is, without waiting; places of Memory where something has happened, perhaps none."""

    def close(self) -> None:
        """Nothing is told any more."""


class DeviceEvents:
    """Events of the kernel, those of udev where it runs: after it has looked at the device. Raises OSError."""

    def __init__(self, udev: Path = _UDEV) -> None:
        source = "udev" if udev.exists() else "kernel"
        self._monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source=source)
        for subsystem in _SUBSYSTEMS:
            self._monitor.filter_by(subsystem)
        with contextlib.suppress(OSError):  # needs a capability; without it the buffer may overflow, which is noticed
            self._monitor.set_receive_buffer_size(_BUFFER_BYTES)
        self._monitor.start()

    def fileno(self) -> int:
        """See Source."""
        return int(self._monitor.fileno())

    def take(self) -> Collection[str]:
        """See Source."""
        places = set[str]()
        for _ in range(_MOST_EVENTS):
            try:
                device = self._monitor.poll(timeout=0)
            except OSError:  # so many that some are lost
                return {EVERYWHERE}
            if device is None:
                break
            if not _SOFTWARE.fullmatch(device.device_path):
                places.update(device.device_path.strip("/").split("/"))
                places |= {NETWORKS} if device.subsystem == "net" else set()
        return places

    def close(self) -> None:
        """See Source. The socket closes with the object."""
        del self._monitor


class LinkEvents:
    """Links that come and go, and addresses, of which the kernel makes no events of devices. Raises OSError."""

    def __init__(self, networks: Path = Path("/sys/class/net")) -> None:
        self._networks = networks
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setblocking(False)
        self._socket.bind((0, _LINK_GROUPS))

    def fileno(self) -> int:
        """See Source."""
        return self._socket.fileno()

    def take(self) -> Collection[str]:
        """See Source."""
        places = set[str]()
        for _ in range(_MOST_EVENTS):
            try:
                data = self._socket.recv(_MESSAGE_BYTES)
            except BlockingIOError:
                break
            except OSError:  # so many that some are lost
                return {EVERYWHERE}
            places.update(place for message in _parse(data) for place in self._find_places(*message))
        return places

    def close(self) -> None:
        """See Source."""
        self._socket.close()

    def _find_places(self, kind: int, scope: int, index: int) -> Collection[str]:
        """Of links those of hardware; of addresses all, but not those that every interface has."""
        if kind in _ADDRESSES:
            return {NETWORKS} if scope != _SCOPE_LINK else ()
        if kind not in _LINKS:
            return ()
        try:
            hardware = (self._networks / socket.if_indextoname(index) / "device").resolve(strict=True)
        except OSError:  # it is software's, or gone, of which its device tells
            return ()
        return {NETWORKS, *hardware.parts[1:]}


def _parse(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Kind, scope and number of the interface of each message."""
    offset = 0
    while offset + _HEADER.size + _BODY.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, offset)
        _, _, _, scope, index = _BODY.unpack_from(data, offset + _HEADER.size)
        yield kind, scope, index
        offset += max((length + 3) & ~3, _HEADER.size)


class DeviceWatch:
    """Gathers what sources tell. Without sources, or when they fail, whoever waits is woken when its time is over."""

    def __init__(self, *openers: Callable[[], Source]) -> None:
        self._openers = openers
        self._changed = asyncio.Event()
        self._places = set[str]()
        self._memory = Memory()
        self._ended_at = float("-inf")

    async def run(self) -> None:
        """Listens until it is cancelled."""
        loop = asyncio.get_running_loop()
        sources: list[Source] = []
        try:
            for opener in self._openers:
                try:
                    source = opener()
                except OSError as error:
                    log.warning("devices.unwatched", reason=str(error))
                    continue
                sources.append(source)
                loop.add_reader(source.fileno(), self._take, source)
            await asyncio.Event().wait()
        finally:
            for source in sources:
                loop.remove_reader(source.fileno())
                source.close()

    def notice(self) -> None:
        """Something has changed of which no source tells."""
        self._note({EVERYWHERE})

    async def wait(self, seconds: float) -> Memory:
        """Returns when something has changed and come to rest, or when the time is over. For one at a time.

        Answers what is true still of what was read before; nothing when the time is over, for events may be lost.
        """
        places = await self._gather(seconds)
        self._memory.forget(places)
        return self._memory

    async def _gather(self, seconds: float) -> Collection[str]:
        rest_seconds = _REST_SECONDS - (time.monotonic() - self._ended_at)
        if rest_seconds > 0:
            await asyncio.sleep(min(rest_seconds, seconds))
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return {EVERYWHERE}
        finally:
            self._ended_at = time.monotonic()
        began = time.monotonic()
        while self._changed.is_set() and time.monotonic() - began < _LONGEST_SECONDS:
            self._changed.clear()
            await asyncio.sleep(_QUIET_SECONDS)
        self._ended_at = time.monotonic()
        # What happens from here on, while the devices are read, is forgotten before they are read the next time.
        places, self._places = self._places, set()
        return places

    def _take(self, source: Source) -> None:
        if places := source.take():
            self._note(places)

    def _note(self, places: Collection[str]) -> None:
        self._places |= set(places)
        self._changed.set()
