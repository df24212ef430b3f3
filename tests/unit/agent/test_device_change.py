"""Changes of devices are noticed: real events of the kernel where this machine allows it, and what becomes of many."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.devices import change
from agent.devices.change import DeviceEvents, DeviceWatch, LinkEvents
from tests.stopwatch import Stopwatch
from tests.unit.agent.network_namespace import NetworkNamespace, network_namespaces


class Bell:
    """Somebody who tells of changes when the test rings."""

    def __init__(self) -> None:
        self.ours, self._theirs = socket.socketpair()
        self._theirs.setblocking(False)
        self.matters = True
        self.is_closed = False

    def ring(self) -> None:
        self.ours.send(b"!")

    def fileno(self) -> int:
        return self._theirs.fileno()

    def take(self) -> set[str]:
        self._theirs.recv(100)
        return {"0000:3b:00.0"} if self.matters else set()

    def close(self) -> None:
        self.is_closed = True


def refuse() -> Bell:
    raise OSError("no netlink here")


@asynccontextmanager
async def watching(*openers: Callable[[], Bell]) -> AsyncIterator[DeviceWatch]:
    """A watch that runs."""
    watch = DeviceWatch(*openers)
    task = asyncio.create_task(watch.run())
    await asyncio.sleep(0)
    try:
        yield watch
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def measure(watch: DeviceWatch, seconds: float) -> float:
    """How long a wait takes."""
    began = time.monotonic()
    await watch.wait(seconds)
    return time.monotonic() - began


class TestWatch:
    """What becomes of events."""

    async def test_a_change_wakes_who_waits(self) -> None:
        bell = Bell()
        async with watching(lambda: bell) as watch:
            waiting = asyncio.create_task(measure(watch, 30))
            await asyncio.sleep(0.05)
            bell.ring()
            assert await waiting < 25
        assert bell.is_closed

    async def test_a_change_before_the_wait_is_not_lost(self) -> None:
        bell = Bell()
        async with watching(lambda: bell) as watch:
            bell.ring()
            await asyncio.sleep(0.05)
            assert await measure(watch, 30) < 255

    async def test_many_changes_wake_once_and_the_next_ones_after_a_rest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(change, "_REST_SECONDS", 0.4)
        bell = Bell()
        async with watching(lambda: bell) as watch:
            for _ in range(20):
                bell.ring()
            with Stopwatch() as stopwatch:
                await watch.wait(30)
            assert stopwatch.seconds < 0.4
            bell.ring()
            assert await measure(watch, 30) > 0.3
            assert await measure(watch, 0.05) >= 0.05

    async def test_changes_that_never_end_are_told_of_nevertheless(self) -> None:
        bell = Bell()
        async with watching(lambda: bell) as watch:

            async def ring_on() -> None:
                while True:
                    bell.ring()
                    await asyncio.sleep(0.02)

            ringing = asyncio.create_task(ring_on())
            assert await measure(watch, 30) < 25
            assert await measure(watch, 30) < 25
            ringing.cancel()

    async def test_what_does_not_matter_wakes_nobody(self) -> None:
        bell = Bell()
        bell.matters = False
        async with watching(lambda: bell) as watch:
            bell.ring()
            assert await measure(watch, 0.3) >= 0.3

    async def test_without_any_source_time_alone_wakes(self) -> None:
        bell = Bell()
        with capture_logs() as logs:
            async with watching(refuse, lambda: bell) as watch:
                assert await measure(watch, 0.05) < 25
                bell.ring()
                assert await measure(watch, 30) < 25
        assert [(log["event"], log["reason"]) for log in logs] == [("devices.unwatched", "no netlink here")]


def take_all(events: DeviceEvents | LinkEvents, seconds: float = 2.0) -> bool:
    """Whether something that matters comes within this time."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and select.select([events], [], [], left)[0]:
        if events.take():
            return True
    return False


class TestDeviceEvents:
    """Events of the kernel on this machine."""

    @pytest.fixture
    def events(self) -> DeviceEvents:
        return DeviceEvents()

    def _announce(self, pattern: str) -> None:
        """Has the kernel announce a device anew, as udevadm trigger does."""
        for path in sorted(Path("/sys").glob(pattern)):
            try:
                (path / "uevent").write_text("change")
            except OSError as error:
                pytest.skip(f"events cannot be made: {error}")
            return
        pytest.skip(f"this machine has no {pattern}")

    def test_a_device_that_changes_is_noticed(self, events: DeviceEvents) -> None:
        self._announce("bus/pci/devices/*")
        began = time.process_time()
        assert take_all(events)
        assert time.process_time() - began < 0.1

    def test_what_software_made_does_not_matter(self, events: DeviceEvents) -> None:
        self._announce("devices/virtual/block/loop*")
        assert not take_all(events, 0.3)


class TestUdevEvents:
    """Messages as udev sends them to whoever listens, in a network of their own."""

    @pytest.mark.parametrize(
        ("subsystem", "path", "matters"),
        [
            ("usb", "/devices/pci0000:00/0000:00:14.0/usb1/1-4", True),
            ("pci", "/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0", True),
            ("block", "/devices/virtual/block/dm-3", True),
            ("block", "/devices/virtual/block/loop3", False),
            ("net", "/devices/virtual/net/vnet7", False),
            ("input", "/devices/pci0000:00/0000:00:14.0/usb1/1-4/input/input7", False),
        ],
    )
    def test_those_of_devices_matter(self, tmp_path: Path, subsystem: str, path: str, matters: bool) -> None:
        with network_namespaces(1) as (node,):
            events = node.run(lambda: DeviceEvents(udev=tmp_path))
            node.run(lambda: send_as_udev(subsystem, path))
            assert take_all(events, 2.0 if matters else 0.2) == matters
            events.close()


def send_as_udev(subsystem: str, path: str) -> None:
    """Source: systemd's sd-device/device-monitor.c, monitor_netlink_header."""
    properties = f"ACTION=add\0DEVPATH={path}\0SUBSYSTEM={subsystem}\0SEQNUM=7\0".encode()
    header = struct.Struct("=8sIIIIIIII")
    magic, subsystem_hash = (socket.htonl(number) for number in (0xFEEDCAFE, murmur(subsystem.encode())))
    head = header.pack(b"libudev", magic, header.size, header.size, len(properties), subsystem_hash, 0, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) as sender:  # NETLINK_KOBJECT_UEVENT
        sender.sendto(head + properties, (0, 2))


def murmur(text: bytes) -> int:
    """Austin Appleby's MurmurHash2, seed 0: what messages are filtered by."""
    factor, limit = 0x5BD1E995, 0xFFFFFFFF
    found = len(text)
    whole = len(text) // 4 * 4
    for (part,) in struct.iter_unpack("<I", text[:whole]):
        mixed = part * factor & limit
        mixed = (mixed ^ mixed >> 24) * factor & limit
        found = (found * factor & limit) ^ mixed
    if rest := text[whole:]:
        found = (found ^ int.from_bytes(rest, "little")) * factor & limit
    found = (found ^ found >> 13) * factor & limit
    return found ^ found >> 15


class TestLinkEvents:
    """Events of real links, in a network of their own."""

    @pytest.fixture
    def networks(self, tmp_path: Path) -> Path:
        """As if one interface were hardware."""
        (tmp_path / "eth7/device").mkdir(parents=True)
        (tmp_path / "eth8").mkdir()
        return tmp_path

    def _happens(self, node: NetworkNamespace, networks: Path, *command: str) -> bool:
        events = node.run(lambda: LinkEvents(networks))
        node.ip(*command)
        try:
            return node.run(lambda: take_all(events, 0.3))
        finally:
            events.close()

    def test_links_of_hardware_and_addresses_on_anything_matter(self, networks: Path) -> None:
        with network_namespaces(1) as (node,):
            for name in ("eth7", "eth8"):
                node.ip("link", "add", name, "type", "bridge")
            assert not self._happens(node, networks, "link", "set", "eth8", "up")
            assert self._happens(node, networks, "link", "set", "eth7", "up")
            assert self._happens(node, networks, "link", "set", "eth7", "down")
            assert self._happens(node, networks, "address", "add", "10.0.0.5/24", "dev", "eth8")
            assert self._happens(node, networks, "address", "del", "10.0.0.5/24", "dev", "eth8")
            assert not self._happens(node, networks, "address", "add", "fe80::7/64", "dev", "eth8")
            assert not self._happens(node, networks, "link", "del", "eth8")

    def test_more_than_the_buffer_holds_is_a_change(self, networks: Path) -> None:
        with network_namespaces(1) as (node,):
            node.ip("link", "add", "eth8", "type", "bridge")
            events = node.run(lambda: LinkEvents(networks))
            events._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            node.execute("sh", "-c", "for i in $(seq 40); do ip link set eth8 mtu $((1000 + i)); done")
            assert node.run(lambda: take_all(events))
            events.close()
