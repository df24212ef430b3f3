"""Frames late or lost, where the kernel has no netem: `python -m tests.lab.relay PORT BRIDGE DELAY_MS LOSS_PERCENT`.

The port leaves its bridge, a TAP interface takes its place, and frames pass between the two through this process until
it is killed. With it the TAP interface goes; the port then belongs back into the bridge.
"""

import fcntl
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

# From linux/if_tun.h, linux/if_packet.h.
_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_TAP_WITHOUT_INFORMATION_WITH_OFFLOADS = 0x0002 | 0x1000 | 0x4000
_CHECKSUMS_AND_SEGMENTS = 0x01 | 0x02 | 0x04
_SOL_PACKET = 263
_PACKET_VNET_HDR = 15
_PACKET_IGNORE_OUTGOING = 23
_EVERY_PROTOCOL = 0x0003
_FRAME_BYTES = 65536 + 64
# More would be a cable with a memory; TCP sees what is beyond as lost.
_MOST_FRAMES = 10_000


@dataclass
class Direction:
    """Frames on their way from one descriptor to the other."""

    source: int
    target: int
    delay_seconds: float
    loss: float
    _under_way: deque[tuple[float, bytes]] = field(default_factory=deque)

    def take(self) -> None:
        """The next frame of the source sets out, if it does."""
        # A port that was cut tells so once, and a few kinds of frames cannot be described.
        with suppress(OSError):
            frame = os.read(self.source, _FRAME_BYTES)
            if random.random() >= self.loss and len(self._under_way) < _MOST_FRAMES:
                self._under_way.append((time.monotonic() + self.delay_seconds, frame))

    def deliver(self) -> float:
        """What is due arrives; seconds until the next is due, infinite when nothing is under way."""
        while self._under_way:
            due, frame = self._under_way[0]
            if due > time.monotonic():
                return due - time.monotonic()
            self._under_way.popleft()
            with suppress(OSError):
                os.write(self.target, frame)
        return float("inf")


def open_tap(name: str) -> int:
    """A new Ethernet interface, which exists as long as the descriptor; frames carry their offloads in front."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP_WITHOUT_INFORMATION_WITH_OFFLOADS))
    fcntl.ioctl(tap, _TUNSETOFFLOAD, _CHECKSUMS_AND_SEGMENTS)
    return tap


def open_port(name: str) -> socket.socket:
    """Everything that arrives at an interface; frames carry their offloads in front."""
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    port.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    port.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    port.bind((name, _EVERY_PROTOCOL))
    port.setblocking(False)
    return port


def relay(port_name: str, bridge: str, delay_ms: float, loss_percent: float) -> None:
    """Until the end of the process."""
    name = f"via-{port_name}"
    tap, port = open_tap(name), open_port(port_name)
    # The kernel would answer ARP for the bridge's address at the port, too.
    subprocess.run(["ip", "link", "set", port_name, "nomaster", "arp", "off"], check=True)
    subprocess.run(["ip", "link", "set", name, "master", bridge, "up"], check=True)
    quality = (delay_ms / 1000, loss_percent / 100)
    directions = {
        tap: Direction(tap, port.fileno(), *quality),
        port.fileno(): Direction(port.fileno(), tap, *quality),
    }
    print("relaying", flush=True)
    while True:
        pause = min(direction.deliver() for direction in directions.values())
        ready, _, _ = select.select(directions, [], [], None if pause == float("inf") else max(pause, 0))
        for descriptor in ready:
            directions[descriptor].take()


if __name__ == "__main__":
    relay(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
