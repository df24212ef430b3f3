"""Whether a text goes over a cable: `python -m tests.lab.listening INTERFACE TEXT`, until SIGTERM, prints how often."""

import signal
import socket
import sys

_EVERY_PROTOCOL = 0x0003
_BUFFER_BYTES = 256 * 1024**2
_PACKET_BYTES = 65536 + 64


def count(interface: str, text: bytes) -> int:
    """How many packets contain the text until the process is told to end."""
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    found = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY_PROTOCOL)) as cable:
        cable.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        cable.bind((interface, 0))
        cable.settimeout(0.2)
        print("listening", flush=True)
        while True:
            try:
                found += text in cable.recv(_PACKET_BYTES)
            except TimeoutError:
                if ended:
                    return found


if __name__ == "__main__":
    print(count(sys.argv[1], sys.argv[2].encode()), flush=True)
